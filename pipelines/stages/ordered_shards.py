"""The work of laying token shards out in reading order, in two rounds that read and write files from front to back.

The first round takes one token shard a task and writes the visits to it in reading order: one file of tokens, one of
document rows, and an index that says where the part of each shard to come begins. The second takes one shard to
come a task and merges what all these files hold for it. A task of the first round holds one token shard in memory, a
task of the second its own shard twice.

How it is used: `pipelines.reordering.reorder` builds both rounds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError
from corpus.shards import atomic_path, read_rows, write_table
from corpus.tokens import DOCS_SCHEMA, Ids, docs_path, read_docs, read_token_shard, write_token_shard
from pipelines.tally import Tally

Ints = npt.NDArray[np.int64]
_SCANNED = 1 << 22  # visits whose shard is looked at in one go
_BUFFER = 1 << 22  # bytes


@dataclass(frozen=True)
class Cut:
    """An order and how it is cut into shards: after whole visits, each of at most so many tokens, or of one visit."""

    order: Path
    tokens_per_shard: int

    def visits(self) -> "VisitArrays":
        """The arrays of the order, mapped. Raises ArtifactError where it is missing or changed."""
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in Artifact(self.order).files(".npy")}
        return VisitArrays(arrays["shard"], arrays["start"], arrays["ends"])

    def borders(self, ends: Ints) -> Ints:
        """The first visit of each shard to come, and the number of visits, shape (shards + 1,)."""
        borders, done = [0], 0
        while borders[-1] < len(ends):
            stop = int(np.searchsorted(ends, done + self.tokens_per_shard, side="right"))
            borders.append(max(stop, borders[-1] + 1))
            done = int(ends[borders[-1] - 1])
        return np.array(borders, np.int64)


@dataclass(frozen=True)
class VisitArrays:
    """Shard, first token and end in the stream of every visit, each of shape (visits,)."""

    shard: npt.NDArray[np.int32]
    start: Ints
    ends: Ints

    def lengths(self, rows: Ints) -> Ints:
        """Tokens of some visits, shape (n,)."""
        return np.asarray(self.ends[rows] - np.where(rows > 0, self.ends[np.maximum(rows - 1, 0)], 0))

    def to_shard(self, number: int) -> Ints:
        """The visits to one shard, in reading order, shape (n,)."""
        slices = ((first, self.shard[first : first + _SCANNED]) for first in range(0, len(self.shard), _SCANNED))
        return np.concatenate([first + np.flatnonzero(part == number) for first, part in slices])


@dataclass(frozen=True)
class ScatterWork:
    """Write the visits to one token shard in reading order, and where those of each shard to come begin."""

    cut: Cut
    shard: Path
    number: int

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `<name>.npy`, `<name>.docs.parquet` and `<name>.index.npy` under `folder`."""
        visits = self.cut.visits()
        rows = visits.to_shard(self.number)
        start, lengths = visits.start[rows], visits.lengths(rows)
        first = np.searchsorted(rows, self.cut.borders(visits.ends))
        index = np.stack([first, np.concatenate([[0], np.cumsum(lengths)])[first]])
        tokens, docs, places = _scattered_files(folder, self.number)
        self._write_tokens(tokens, start, lengths)
        write_table(docs, visited_docs(read_docs(self.shard), start, lengths))
        with atomic_path(places) as temporary, temporary.open("wb") as out:
            np.save(out, index)
        _count(tally, lengths)
        return [tokens, docs, places]

    def _write_tokens(self, path: Path, start: Ints, lengths: Ints) -> None:
        ids = read_token_shard(self.shard)
        if int((start + lengths).max(initial=0)) > len(ids):
            found = f"{len(ids):,} tokens"
            raise ArtifactError("an order reaches beyond a token shard", found=found, where=str(self.shard))
        # The whole shard is read once, from front to back; visits jump about in memory only.
        view = (np.array(ids) if len(start) else ids[:0]).data
        header = {"fortran_order": False, "shape": (int(lengths.sum()),)}
        header["descr"] = np.lib.format.dtype_to_descr(ids.dtype)  # type: ignore[no-untyped-call]
        with atomic_path(path) as temporary, temporary.open("wb", buffering=_BUFFER) as out:
            np.lib.format.write_array_header_1_0(out, header)  # type: ignore[no-untyped-call]
            out.writelines(view[a : a + n] for a, n in zip(start.tolist(), lengths.tolist(), strict=True))


@dataclass(frozen=True)
class GatherWork:
    """Merge what the files of the first round hold for one shard to come."""

    cut: Cut
    scattered: Path
    number: int

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `shard-<number>.npy` and its documents under `folder`."""
        visits = self.cut.visits()
        first, stop = self.cut.borders(visits.ends)[self.number : self.number + 2]
        shard, lengths = np.asarray(visits.shard[first:stop]), visits.lengths(np.arange(first, stop))
        by_shard = np.argsort(shard, kind="stable")  # as the files hold them: shard after shard, each in reading order
        numbers, begins = np.unique(shard[by_shard], return_index=True)
        held = [self._held(number) for number in numbers.tolist()]
        place = np.empty(len(shard), np.int64)
        place[by_shard] = np.arange(len(shard))
        docs = pa.concat_tables([rows for _, rows in held]).take(pa.array(place))
        ids = _merged([ids for ids, _ in held], np.split(lengths[by_shard], begins[1:]), place)
        path = folder / f"{shard_name(self.number)}.npy"
        start = pa.array(np.cumsum(lengths) - lengths)
        write_token_shard(path, ids, docs.set_column(1, DOCS_SCHEMA.field("start"), start).combine_chunks())
        _count(tally, lengths)
        tally.totals["bytes"] += int(docs["n_bytes"].to_numpy().sum(dtype=np.int64))
        return [path, docs_path(path)]

    def _held(self, number: int) -> tuple[Ids, pa.Table]:
        """Tokens and document rows that one token shard gave to this one."""
        tokens, docs, places = _scattered_files(self.scattered, number)
        (row, next_row), (token, next_token) = np.load(places)[:, self.number : self.number + 2].tolist()
        ids: Ids = read_token_shard(tokens)[token:next_token].copy()
        return ids, read_rows(docs, row, next_row)


def visited_docs(docs: pa.Table, start: Ints, lengths: Ints) -> pa.Table:
    """The document of each visit, as DOCS_SCHEMA with the visit's length; `start` is 0, until its place is known.

    A visit to a piece of a document counts the piece's share of its bytes, rounded so that all pieces add up.
    """
    if not len(start):
        return DOCS_SCHEMA.empty_table()
    begins, sizes = docs["start"].to_numpy(), docs["length"].to_numpy().astype(np.int64)
    doc = np.searchsorted(begins, start, side="right") - 1
    n_bytes, inside = docs["n_bytes"].to_numpy().astype(np.int64)[doc], start - begins[doc]
    share = n_bytes * (inside + lengths) // sizes[doc] - n_bytes * inside // sizes[doc]
    found = docs.take(pa.array(doc))
    return pa.table(
        [found["id"], np.zeros(len(doc), np.int64), lengths.astype(np.int32), found["source"], share.astype(np.int32)],
        schema=DOCS_SCHEMA,
    )


def shard_name(number: int) -> str:
    """The name of a shard to come, or of what the first round made of a shard: `shard-00000`."""
    return f"shard-{number:05d}"


def _merged(held: list[Ids], lengths: list[Ints], place: Ints) -> Ids:
    """Visits in reading order; `place` says where each lies among those of all arrays, `lengths` how long they are."""
    views = []
    for ids, sizes in zip(held, lengths, strict=True):
        view, ends = ids.data, np.cumsum(sizes)
        views += [view[a:b] for a, b in zip((ends - sizes).tolist(), ends.tolist(), strict=True)]
    dtype: Any = held[0].dtype
    return np.frombuffer(bytearray().join(views[i] for i in place.tolist()), dtype)


def _count(tally: Tally, lengths: Ints) -> None:
    tally.records_in += len(lengths)
    tally.kept += len(lengths)
    tally.totals["tokens"] += int(lengths.sum())


def _scattered_files(folder: Path, number: int) -> tuple[Path, Path, Path]:
    tokens = folder / f"{shard_name(number)}.npy"
    return tokens, docs_path(tokens), folder / f"{shard_name(number)}.index.npy"
