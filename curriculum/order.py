"""The Order artifact: which document visit a run reads when, as one table and three arrays to map into memory.

`order.parquet` has one row a visit, with the reason for its place. `ends.npy` (cumulative token counts), `shard.npy`
and `start.npy` repeat what a loader needs, so that any range of tokens is found by binary search without loading
the table: a billion visits cost no memory until they are read. The order of a run is this file and nothing else.

How it is used: `write_order(...)` once; `Order.open(folder).read(a, b, arrays)` for each sequence of tokens.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.artifacts import Artifact, InputRef, begin, describe_part, finish
from corpus.errors import ArtifactError, GradatimError
from corpus.shards import TableForm, TableWriter, atomic_path, read_rows, read_table
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
ROW_GROUP_VISITS = 122_880
_TABLE_FORM = TableForm(
    rows=ROW_GROUP_VISITS,
    level=1,
    dictionary=("source", "phase", "rule", "visit", "shard"),  # columns of few values
)
Item = TypeVar("Item")
_AHEAD = 4  # batches that may wait for the writer
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

    def __reduce__(self) -> tuple[type["Order"], tuple[Artifact]]:
        """Another process gets the artifact's name and place, not the arrays, and maps them itself."""
        return Order, (self.artifact,)

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

    def visit_numbers(self, token_a: int, token_b: int) -> npt.NDArray[np.int64]:
        """The visit of each token in [token_a, token_b), as rows of the table; shape (token_b - token_a,), rising.

        Raises OrderError as `visits_between`.
        """
        first, stop = self.visits_between(token_a, token_b)
        ends = np.minimum(self._ends[first:stop], token_b)
        return np.repeat(np.arange(first, stop), np.diff(ends, prepend=token_a))

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
        before = int(self._ends[first - 1]) if first else 0
        ends = self._ends[first:stop] - before
        high = low + ends
        high[1:] -= ends[:-1]
        low[0] += token_a - before
        high[-1] -= ends[-1] - (token_b - before)
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
    visits: pa.Table | Iterable[pa.RecordBatch],
    *,
    name: str,
    fingerprint: str,
    config: dict[str, Any],
    inputs: Iterable[InputRef],
    shards: Sequence[str],
) -> Artifact:
    """Write an order artifact: the visits in reading order, and the arrays a loader maps.

    Args:
        visits: at least the columns of ORDER_SCHEMA, as a table or as batches of a stream, names as text or codes;
            other columns are left out. Neither the sizes of batches nor the codes change the bytes.
        config: what the order was made with; the list of shards is added to it.
        shards: names of the token shards that the column `shard` counts, from 0.

    Raises: OrderError for an order without visits, or with one that holds no tokens or points to no shard.
    """
    begin(folder, fingerprint)
    totals = write_order_files(folder, visits, name=name, shards=shards)
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


def write_order_files(
    folder: Path, visits: pa.Table | Iterable[pa.RecordBatch], *, name: str, shards: Sequence[str]
) -> dict[str, Any]:
    """Write the files of an order into a folder whose manifest someone else writes; returns the totals.

    Arguments and errors as in `write_order`.
    """
    batches = visits.to_batches() if isinstance(visits, pa.Table) else visits
    tokens = 0
    by_source: Counter[str] = Counter()
    with ExitStack() as files:
        arrays = {
            file: files.enter_context(_growing_array(folder / file, dtype))
            for file, dtype in ((_ENDS, np.int64), (_SHARD, np.int32), (_START, np.int64))
        }
        path = files.enter_context(atomic_path(folder / _TABLE))
        table = files.enter_context(TableWriter(path, ORDER_SCHEMA, _TABLE_FORM))
        for rows in _ahead(_encoded(_ahead(batches))):
            lengths, shard = rows["length"].to_numpy(), rows["shard"].to_numpy()
            _check(lengths, shard, len(shards), name)
            ends = tokens + np.cumsum(lengths, dtype=np.int64)
            tokens = int(ends[-1]) if len(ends) else tokens
            for file, values in ((_ENDS, ends), (_SHARD, shard), (_START, rows["start"].to_numpy())):
                arrays[file](values)
            table.write(rows.to_batches()[0])
            by_source.update(_by_source(rows, lengths))
        if not table.total_rows:
            raise OrderError(f"the order {name} has no visits", fix="check what its mixture asks for and what there is")
    return {"visits": table.total_rows, "tokens": tokens, "tokens_by_source": dict(sorted(by_source.items()))}


def _encoded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """A table of ORDER_SCHEMA for each row group."""
    for group in _regrouped(batches):
        yield as_order(group)


def _ahead(batches: Iterable[Item]) -> Iterator[Item]:
    """The same items, made in a thread of their own while those before are written: both work outside the GIL."""
    waiting: Queue[Item | BaseException | None] = Queue(_AHEAD)
    stopped = Event()

    def make() -> None:
        try:
            for batch in batches:
                waiting.put(batch)
                if stopped.is_set():
                    return
            waiting.put(None)
        except BaseException as error:  # handed to the reader, which raises it
            waiting.put(error)

    maker = Thread(target=make, daemon=True)
    maker.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while maker.is_alive():
            with suppress(Empty):
                waiting.get(timeout=0.05)


def _regrouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in tables of one row group each, so that dictionaries and bytes do not depend on the batches."""
    waiting: list[pa.RecordBatch] = []
    n = 0
    for batch in batches:
        waiting.append(batch)
        n += batch.num_rows
        while n >= ROW_GROUP_VISITS:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, ROW_GROUP_VISITS)
            waiting, n = table.slice(ROW_GROUP_VISITS).to_batches(), n - ROW_GROUP_VISITS
    if n:
        yield pa.Table.from_batches(waiting)


@contextmanager
def _growing_array(path: Path, dtype: type[np.generic]) -> Iterator[Callable[[npt.NDArray[Any]], None]]:
    """A .npy file that grows: yields a function that appends values. The header, with the length, is written last."""
    n = 0
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        write_header: Callable[..., None] = np.lib.format.write_array_header_1_0
        header = {"descr": np.dtype(dtype).str, "fortran_order": False}
        write_header(out, {**header, "shape": (0,)})

        def append(values: npt.NDArray[Any]) -> None:
            nonlocal n
            n += len(values)
            out.write(np.ascontiguousarray(values, dtype).data)

        yield append
        out.seek(0)  # numpy leaves room in the header for any length
        write_header(out, {**header, "shape": (n,)})


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
    if ordered == list(range(len(names))) and encoded.type == NAMES:
        return encoded
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
        return
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
    encoded = visits["source"].combine_chunks()
    names = encoded.dictionary.to_pylist()
    sums = np.bincount(encoded.indices.to_numpy(), weights=lengths)  # whole numbers below 2^53, so exact
    return {name: int(total) for name, total in zip(names, sums, strict=True)}
