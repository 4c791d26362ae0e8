"""The Order artifact: which document visit a run reads when, as one table and three arrays to map into memory.

`order.parquet` has one row a visit, with the reason for its place. `ends.npy` (cumulative token counts), `shard.npy`
and `start.npy` repeat what a loader needs, so that any range of tokens is found by binary search without loading
the table: a billion visits cost no memory until they are read. The order of a run is this file and nothing else.

How it is used: `write_order(...)` once; `Order.open(folder).read(a, b, arrays)` for each sequence of tokens.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact, InputRef, begin, describe_part, finish
from corpus.errors import ArtifactError, GradatimError
from corpus.shards import atomic_path, read_rows, read_table, write_table
from corpus.tokens import Ids

NAMES = pa.dictionary(pa.int32(), pa.string())
ORDER_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("doc", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("source", NAMES, nullable=False),
        pa.field("phase", NAMES, nullable=False),
        pa.field("visit", pa.int32(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("rule", NAMES, nullable=False),
    ]
)
_TABLE, _ENDS, _SHARD, _START = "order.parquet", "ends.npy", "shard.npy", "start.npy"


class OrderError(GradatimError):
    """An order that cannot be made as asked, or a place in it that does not exist."""


class Order:
    """A finished order, opened for reading; only the pages of the arrays that are touched come into memory."""

    def __init__(self, artifact: Artifact) -> None:
        """Open an order from its artifact; `Order.open` does the same from a folder. Raises ArtifactError."""
        if artifact.manifest.kind != "order":
            raise ArtifactError(
                f"{artifact.name} is not an order",
                expected="an artifact of kind order",
                found=f"kind {artifact.manifest.kind}",
                where=str(artifact.folder),
            )
        self.artifact = artifact
        arrays = {path.name: np.asarray(np.load(path, mmap_mode="r")) for path in artifact.files(".npy")}
        self._ends, self._shard, self._start = arrays[_ENDS], arrays[_SHARD], arrays[_START]

    @classmethod
    def open(cls, folder: Path) -> "Order":
        """Open the order in a folder. Raises ArtifactError where there is none, or it is unfinished or changed."""
        return cls(Artifact(folder))

    @property
    def n_visits(self) -> int:
        """How many document visits the order has."""
        return len(self._ends)

    @property
    def n_tokens(self) -> int:
        """How many tokens the ordered stream has."""
        return int(self._ends[-1])

    @property
    def fingerprint(self) -> str:
        """The order's identity, which a loader keeps in its state."""
        return self.artifact.manifest.fingerprint

    @property
    def shards(self) -> list[str]:
        """Names of the token shards that the `shard` column counts, from 0."""
        return list(self.artifact.manifest.config["shards"])

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """The visits as a table of ORDER_SCHEMA (or some of its columns), in reading order."""
        return read_table(self.artifact.folder / _TABLE, columns).unify_dictionaries()

    def visits(self, first: int, stop: int, columns: list[str] | None = None) -> pa.Table:
        """Visits [first, stop) as `table` gives them; only the row groups that hold them are read.

        Raises ArtifactError for a table that is missing or damaged.
        """
        return read_rows(self.artifact.folder / _TABLE, first, stop, columns).unify_dictionaries()

    def locate(self, position: int) -> tuple[int, int]:
        """The visit that holds a token of the stream, and the token's offset in it.

        `position` is in [0, n_tokens). Raises OrderError outside of it.
        """
        first, _ = self.visits_between(position, position + 1)
        return first, position - (int(self._ends[first - 1]) if first else 0)

    def visits_between(self, token_a: int, token_b: int) -> tuple[int, int]:
        """The visits that tokens [token_a, token_b) touch, as a half-open range of rows.

        Raises OrderError unless 0 <= token_a < token_b <= n_tokens.
        """
        if not 0 <= token_a < token_b <= self.n_tokens:
            raise OrderError(
                f"{self.artifact.name} has no tokens {token_a:,} to {token_b:,}",
                expected=f"a range that is not empty within its {self.n_tokens:,} tokens",
                where=str(self.artifact.folder),
            )
        first = int(np.searchsorted(self._ends, token_a, side="right"))
        reach = self._ends[first : first + token_b - token_a]  # the last is among these: no visit is without tokens
        return first, first + int(np.searchsorted(reach, token_b, side="left")) + 1

    def read(self, token_a: int, token_b: int, token_arrays: Sequence[Ids]) -> Ids:
        """Gather tokens [token_a, token_b) of the ordered stream.

        Args:
            token_a, token_b: a range within [0, n_tokens], not empty.
            token_arrays: the token ids of each shard, in the order of `shards`, all of one dtype; memory maps stay
                mapped.

        Returns: shape (token_b - token_a,), in the shards' dtype.

        Raises: OrderError for a range outside the order; ArtifactError for shards the order was not made from.
        """
        first, stop = self.visits_between(token_a, token_b)
        shard, low = self._shard[first:stop].tolist(), self._start[first:stop].copy()
        ends, before = self._ends[first:stop], int(self._ends[first - 1]) if first else 0
        high = low + np.diff(ends, prepend=before)
        low[0] += token_a - before
        high[-1] -= ends[-1] - token_b
        if max(shard) >= len(token_arrays):
            raise self._foreign(shard, high.tolist(), token_arrays)
        views = {number: memoryview(token_arrays[number]) for number in set(shard)}
        pieces = [views[number][a:b] for number, a, b in zip(shard, low.tolist(), high.tolist(), strict=True)]
        stream = bytearray().join(pieces)  # one copy of all; assigning to slices costs twice as much a visit
        dtype = token_arrays[shard[0]].dtype
        if len(stream) != (token_b - token_a) * dtype.itemsize or len({view.format for view in views.values()}) > 1:
            raise self._foreign(shard, high.tolist(), token_arrays)
        return np.frombuffer(stream, dtype)

    def _foreign(self, shard: list[int], high: list[int], token_arrays: Sequence[Ids]) -> ArtifactError:
        held = [len(token_arrays[number]) if number < len(token_arrays) else 0 for number in shard]
        at = next((i for i, need in enumerate(high) if need > held[i]), 0)
        return ArtifactError(
            f"{self.artifact.name} does not fit the token shards given",
            expected=f"at least {high[at]:,} tokens in {self.shards[shard[at]]}, and one dtype in all shards",
            found=f"{held[at]:,} tokens; dtypes {', '.join(sorted({str(ids.dtype) for ids in token_arrays}))}",
            fix="give the shards the order was made from, in the order of its `shards`",
        )


def write_order(
    folder: Path,
    table: pa.Table,
    *,
    name: str,
    fingerprint: str,
    config: dict[str, Any],
    inputs: Iterable[InputRef],
    shards: Sequence[str],
) -> Artifact:
    """Write an order artifact: the visits in reading order, and the arrays a loader maps.

    Args:
        table: at least the columns of ORDER_SCHEMA; others, such as `id`, are left out.
        config: what the order was made with; the list of shards is added to it.
        shards: names of the token shards that the column `shard` counts, from 0.

    Raises: OrderError for an order without visits, or with one that holds no tokens or points to no shard.
    """
    begin(folder, fingerprint)
    totals = write_order_files(folder, table, name=name, shards=shards)
    parts = [describe_part(folder, folder / file) for file in (_TABLE, _ENDS, _SHARD, _START)]
    config = {**config, "shards": list(shards)}
    return finish(
        folder,
        kind="order",
        name=name,
        fingerprint=fingerprint,
        config=config,
        inputs=inputs,
        parts=parts,
        totals=totals,
    )


def write_order_files(folder: Path, table: pa.Table, *, name: str, shards: Sequence[str]) -> dict[str, Any]:
    """Write the files of an order into a folder whose manifest someone else writes; returns the totals.

    Arguments and errors as in `write_order`.
    """
    visits = as_order(table)
    lengths, shard = visits["length"].to_numpy(), visits["shard"].to_numpy()
    _check(lengths, shard, len(shards), name)
    write_table(folder / _TABLE, visits)
    ends = np.cumsum(lengths, dtype=np.int64)
    for file, values in ((_ENDS, ends), (_SHARD, shard), (_START, visits["start"].to_numpy())):
        with atomic_path(folder / file) as temporary, temporary.open("wb") as out:
            np.save(out, values)
    return {"visits": len(ends), "tokens": int(ends[-1]), "tokens_by_source": _by_source(visits, lengths)}


def as_order(table: pa.Table) -> pa.Table:
    """The columns of ORDER_SCHEMA out of a table that holds more, in that schema, with canonical dictionaries.

    Raises OrderError for a missing column or a null where none may be.
    """
    columns = []
    for field in ORDER_SCHEMA:
        if field.name not in table.column_names:
            raise OrderError(f"the visits have no column {field.name!r}", found=", ".join(table.column_names))
        column = table[field.name]
        if not field.nullable and column.null_count:
            raise OrderError(f"{column.null_count:,} visits have no {field.name}", expected="a value in every row")
        columns.append(encode_names(column) if field.type == NAMES else column.cast(field.type).combine_chunks())
    return pa.Table.from_arrays(columns, schema=ORDER_SCHEMA)


def encode_names(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """Strings as codes of a sorted dictionary that holds just the names in use, so equal columns have equal bytes."""
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    if pa.types.is_dictionary(column.type):
        encoded = column.unify_dictionaries().combine_chunks()
    else:
        encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # what pyarrow gives for a column without chunks
        encoded = pa.array([], column.type).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    names = encoded.dictionary.to_pylist()
    used = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    ordered = sorted(used.tolist(), key=lambda code: str(names[code]))
    new_code = np.zeros(max(len(names), 1), np.int32)
    new_code[ordered] = np.arange(len(ordered), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(new_code[codes], pa.int32()), pa.array([names[code] for code in ordered], pa.string())
    )


def codes_and_names(column: pa.ChunkedArray | pa.Array) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A column of names as int32 codes, shape (n,), and the sorted names they stand for."""
    encoded = encode_names(column)
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _check(lengths: npt.NDArray[np.int32], shard: npt.NDArray[np.int32], n_shards: int, name: str) -> None:
    if not len(lengths):
        raise OrderError(f"the order {name} has no visits", fix="check what its mixture asks for and what there is")
    if lengths.min() < 1:
        empty = int((lengths < 1).sum())
        raise OrderError(f"{empty:,} visits of {name} hold no tokens", expected="one or more in each")
    if shard.min() < 0 or shard.max() >= n_shards:
        raise OrderError(
            f"visits of {name} point to shards that are not listed",
            expected=f"0 to {n_shards - 1}",
            found=f"{shard.min()} to {shard.max()}",
        )


def _by_source(visits: pa.Table, lengths: npt.NDArray[np.int32]) -> dict[str, int]:
    codes, names = codes_and_names(visits["source"])
    table = pa.table({"code": codes, "length": lengths})
    sums = table.group_by("code").aggregate([("length", "sum")])
    found = dict(zip(sums["code"].to_pylist(), pc.cast(sums["length_sum"], pa.int64()).to_pylist(), strict=True))
    return {name: int(found[code]) for code, name in enumerate(names)}
