"""The Pack artifact, and an order read as packed sequences of T tokens.

A pack belongs to one order: its manifest names the order's fingerprint, and it is refused beside any other. Its four
arrays (`first`, `visit`, `offset`, `length`; see `curriculum.packing.Packed`) are mapped, so opening it costs nothing.
`PackedOrder` reads like an order whose every sequence is padded to T: sample i of a loader that reads T tokens a
sample is sequence i.

How it is used: `write_pack(folder, order, PackConfig(sequence_tokens=2048), name="packs/a")` once, then
`PackedOrder(order, Pack.open(folder), padding_id=0)` wherever an order is read.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from corpus.artifacts import Artifact, begin, describe_part, finish
from corpus.errors import ArtifactError
from corpus.fingerprints import fingerprint
from corpus.shards import atomic_path
from corpus.tokens import Ids
from curriculum.order import ORDER_SCHEMA, Order
from curriculum.packing import PackConfig, Packed, PackingError, pack
from curriculum.packing_report import packing_report

KIND = "pack"
_ARRAYS = tuple(field.name for field in fields(Packed) if field.name != "sequence_tokens")


class Pack:
    """A finished pack, opened for reading."""

    def __init__(self, artifact: Artifact) -> None:
        """Open a pack from its artifact; `Pack.open` does the same from a folder. Raises ArtifactError."""
        if artifact.manifest.kind != KIND:
            raise ArtifactError(
                f"{artifact.name} is not a pack",
                expected="an artifact of kind pack",
                found=f"kind {artifact.manifest.kind}",
                where=str(artifact.folder),
            )
        self.artifact = artifact
        arrays = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in artifact.files(".npy")}
        self.packed = Packed(int(artifact.manifest.config["sequence_tokens"]), *(arrays[name] for name in _ARRAYS))

    def __reduce__(self) -> tuple[type["Pack"], tuple[Artifact]]:
        """Another process gets the artifact's name and place, not the arrays, and maps them itself."""
        return Pack, (self.artifact,)

    @classmethod
    def open(cls, folder: Path) -> "Pack":
        """Open the pack in a folder. Raises ArtifactError where there is none, or it is unfinished or changed."""
        return cls(Artifact(folder))

    @property
    def fingerprint(self) -> str:
        """The pack's identity, which covers the order's."""
        return self.artifact.manifest.fingerprint

    def check(self, order: Order) -> None:
        """Raise ArtifactError unless this pack was made from this very order."""
        made_from = [ref.fingerprint for ref in self.artifact.manifest.inputs]
        if made_from != [order.fingerprint]:
            raise ArtifactError(
                f"{self.artifact.name} does not belong to {order.artifact.name}",
                expected=f"a pack of order {order.fingerprint}",
                found=f"a pack of order {', '.join(made_from)}",
                where=str(self.artifact.folder),
                fix="pack the order again: it has changed since, or the pack is of another one",
            )


def write_pack(
    folder: Path, order: Order, config: PackConfig, *, name: str, sequences: npt.ArrayLike | None = None
) -> Artifact:
    """Pack an order and write the pack artifact; its totals are the report of `packing_report`.

    `sequences` puts the sequences in an order of their own, as `Packed.take` does: a curriculum whose unit is the
    packed sequence. Raises PackingError for an order that cannot be packed, or other sequences than there are.
    """
    settings = config.model_dump()
    if sequences is not None:
        settings["sequences"] = xxhash.xxh3_64_hexdigest(np.asarray(sequences, "<i8").tobytes())
    identity = fingerprint({"kind": KIND, "config": settings, "inputs": [order.artifact.ref]})
    begin(folder, identity)
    totals = write_pack_files(folder, order, config, sequences)
    parts = [describe_part(folder, folder / f"{array}.npy") for array in _ARRAYS]
    return finish(
        folder, kind=KIND, name=name, fingerprint=identity, config=settings, inputs=[order.artifact.ref], parts=parts,
        totals=totals,
    )  # fmt: skip


def write_pack_files(
    folder: Path, order: Order, config: PackConfig, sequences: npt.ArrayLike | None = None
) -> dict[str, Any]:
    """Write the arrays of a pack into a folder whose manifest someone else writes; returns the report.

    Arguments and errors as in `write_pack`.
    """
    visits = order.table(["length", "score"])
    lengths = visits["length"].to_numpy()
    packed = pack(lengths, config)
    if sequences is not None:
        packed = packed.take(sequences)
    for array in _ARRAYS:
        with atomic_path(folder / f"{array}.npy") as temporary, temporary.open("wb") as out:
            np.save(out, getattr(packed, array))
    return packing_report(packed, lengths, visits["score"])


def piece_visits(order: Order, packed: Packed, first: int = 0, stop: int | None = None) -> pa.Table:
    """Pieces [first, stop) of a pack of an order as visits: ORDER_SCHEMA, one row a piece, each with its own tokens.

    Written with `write_order`, all of them are an order of their own, whose documents lie as the pack lays them and
    whose stream holds no padding. Only the stretch of the order that the pieces come from is read.
    """
    visit, offset, length = (column[first:stop] for column in (packed.visit, packed.offset, packed.length))
    if not len(visit):
        return ORDER_SCHEMA.empty_table()
    low = int(visit.min())
    rows = order.visits(low, int(visit.max()) + 1, ORDER_SCHEMA.names).take(pa.array(visit - low))
    start = pa.array(rows["start"].to_numpy() + offset, pa.int64())
    columns = {**dict(zip(rows.column_names, rows.columns, strict=True)), "start": start, "length": pa.array(length)}
    return pa.table(columns, schema=ORDER_SCHEMA)


class PackedOrder:
    """An order read sequence by sequence: what `trainer_hooks.loader.TokenOrder` asks for, with padding."""

    def __init__(self, order: Order, pack: Pack, padding_id: int | None = None) -> None:
        """Read `order` as `pack` lays it out.

        `padding_id` fills sequences up to T; None is right only where no sequence that is read has room left.
        Raises ArtifactError for a pack of another order.
        """
        pack.check(order)
        self.order, self.pack, self.packed, self.padding_id = order, pack, pack.packed, padding_id
        arrays = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in order.artifact.files(".npy")}
        self._shard, self._start = arrays["shard"], arrays["start"]

    def __reduce__(self) -> tuple[type["PackedOrder"], tuple[Order, Pack, int | None]]:
        """Another process maps order and pack itself."""
        return PackedOrder, (self.order, self.pack, self.padding_id)

    @property
    def sequence_tokens(self) -> int:
        """T, tokens of a sequence with its padding."""
        return self.packed.sequence_tokens

    @property
    def n_sequences(self) -> int:
        """How many sequences there are."""
        return self.packed.n_sequences

    @property
    def n_tokens(self) -> int:
        """Tokens of the padded stream; with a padding id one more, the last target of a loader's last sample."""
        return self.n_sequences * self.sequence_tokens + (self.padding_id is not None)

    @property
    def fingerprint(self) -> str:
        """The identity of order, pack and padding, which a loader keeps in its state."""
        return fingerprint({"pack": self.pack.fingerprint, "padding_id": self.padding_id})

    def sequence(self, number: int, token_arrays: Sequence[Ids]) -> Ids:
        """One sequence, padded: shape (T,), in the shards' dtype. `token_arrays` as in `Order.read`.

        Raises PackingError for a sequence that does not exist or that needs padding where there is none, ArtifactError
        for shards the order was not made from.
        """
        pieces = self.packed.pieces(number)
        visits = self.packed.visit[pieces]
        starts = self._start[visits] + self.packed.offset[pieces]
        columns = (self._shard[visits], starts, self.packed.length[pieces])
        out = np.empty(self.sequence_tokens, token_arrays[0].dtype)
        at = 0
        for shard, start, length in zip(*(column.tolist() for column in columns), strict=True):
            ids = token_arrays[shard] if shard < len(token_arrays) else out[:0]
            piece = ids[start : start + length]
            if len(piece) != length or ids.dtype != out.dtype:
                raise self._foreign(shard, start + length, ids)
            out[at : at + length] = piece
            at += length
        if at < len(out):
            out[at:] = self._padding(out.dtype)
        return out

    def read(self, token_a: int, token_b: int, token_arrays: Sequence[Ids]) -> Ids:
        """Tokens [token_a, token_b) of the padded stream, shape (token_b - token_a,); otherwise as `Order.read`."""
        first, stop = self._sequences(token_a, token_b)
        rows: list[npt.NDArray[Any]] = [
            self.sequence(number, token_arrays) for number in range(first, min(stop, self.n_sequences))
        ]
        if stop > self.n_sequences:
            rows.append(np.full(1, self._padding(token_arrays[0].dtype), token_arrays[0].dtype))
        low = token_a - first * self.sequence_tokens
        return np.concatenate(rows)[low : low + token_b - token_a]

    def visit_numbers(self, token_a: int, token_b: int) -> npt.NDArray[np.int64]:
        """The piece of each token in [token_a, token_b), as `visits` counts them, and -1 in padding."""
        first, stop = self._sequences(token_a, token_b)
        numbers = np.full((stop - first, self.sequence_tokens), -1, np.int64)
        for row, number in enumerate(range(first, min(stop, self.n_sequences))):
            pieces = self.packed.pieces(number)
            laid = np.repeat(np.arange(pieces.start, pieces.stop), self.packed.length[pieces])
            numbers[row, : len(laid)] = laid
        low = token_a - first * self.sequence_tokens
        return numbers.ravel()[low : low + token_b - token_a]

    def visits_between(self, token_a: int, token_b: int) -> tuple[int, int]:
        """The pieces, as `visits` counts them, that tokens [token_a, token_b) touch, half-open; empty in padding."""
        self._sequences(token_a, token_b)
        return self._pieces_before(token_a, ended=True), self._pieces_before(token_b, ended=False)

    def visits(self, first: int, stop: int) -> pa.Table:
        """Pieces [first, stop) in packed order as visits, ORDER_SCHEMA; a visit that was cut has several rows."""
        return piece_visits(self.order, self.packed, first, stop)

    def _pieces_before(self, token: int, *, ended: bool) -> int:
        """How many pieces end at or before a place of the padded stream, or (not `ended`) begin before it."""
        number, inside = divmod(token, self.sequence_tokens)
        if number >= self.n_sequences:
            return len(self.packed.visit)
        pieces = self.packed.pieces(number)
        ends = np.cumsum(self.packed.length[pieces], dtype=np.int64)
        if ended:
            return pieces.start + int(np.searchsorted(ends, inside, side="right"))
        return pieces.start + int(np.searchsorted(ends - self.packed.length[pieces], inside, side="left"))

    def _sequences(self, token_a: int, token_b: int) -> tuple[int, int]:
        if not 0 <= token_a < token_b <= self.n_tokens:
            raise PackingError(
                f"{self.pack.artifact.name} has no tokens {token_a:,} to {token_b:,}",
                expected=f"a range that is not empty within its {self.n_tokens:,} tokens",
                where=str(self.pack.artifact.folder),
            )
        return token_a // self.sequence_tokens, -(-token_b // self.sequence_tokens)

    def _foreign(self, shard: int, need: int, ids: Ids) -> ArtifactError:
        return ArtifactError(
            f"{self.order.artifact.name} does not fit the token shards given",
            expected=f"at least {need:,} tokens in {self.order.shards[shard]}, and one dtype in all shards",
            found=f"{len(ids):,} tokens of {ids.dtype}",
            fix="give the shards the order was made from, in the order of its `shards`",
        )

    def _padding(self, dtype: np.dtype[Any]) -> int:
        if self.padding_id is None or not 0 <= self.padding_id <= np.iinfo(dtype).max:
            raise PackingError(
                f"sequences of {self.pack.artifact.name} have room left, and nothing to fill it with",
                expected=f"a padding_id that {dtype} holds",
                found=f"padding_id {self.padding_id}",
                fix="give the id of the tokenizer's padding or end-of-text token",
            )
        return self.padding_id
