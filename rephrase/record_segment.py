"""A segment: a sealed Parquet file of records in the order they were stored, with an index by key beside it.

The index can always be made again from the segment; one that is missing, or tells of other rows, is. Row groups are
small, so that a batch of records is read without its neighbours, and each page has a checksum.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.errors import ArtifactError, EnvironmentProblem
from corpus.shards import TableForm, TableWriter, atomic_path
from rephrase.record_index import KeyIndex, Numbers, Places, halves
from rephrase.record_log import TIME

SEGMENT, INDEX = ".parquet", ".index.npy"
ROWS = 512  # of a row group
_FORM = TableForm(rows=ROWS, dictionary=(), checksums=True)
_RECENT = 32  # row groups kept decoded: neighbouring batches often begin in the group where the last one ended
Recent = dict[tuple[Path, int], pa.Table]


def write_segment(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write records as a segment, whole or not at all, then its index. `schema`: with TIME at its end."""
    with atomic_path(path) as temporary, TableWriter(temporary, schema, _FORM) as writer:
        for batch in chain.from_iterable(conformed(table, schema).to_batches() for table in tables):
            writer.write(batch)
    assert Segment(path, {}).index is not None


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, in its order; one that the table lacks is null, others are left out."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


class Segment:
    """A reader of one segment. `recent`: decoded row groups, shared by the readers of a store.

    Whatever is read raises FileNotFoundError when the segment is gone (it was merged into another), ArtifactError when
    it is damaged.
    """

    def __init__(self, path: Path, recent: Recent) -> None:
        self.path, self._recent = path, recent
        self._index_path = path.with_suffix(INDEX)

    @cached_property
    def index(self) -> KeyIndex:
        """The rows by key: from the file beside the segment, or made, and written where there is room for it."""
        index = KeyIndex.load(self._index_path)
        if index is None:
            index = self.made_index()
            with suppress(OSError, EnvironmentProblem):  # a folder that is full or read-only: it is made each time
                index.save(self._index_path)
        return index

    def made_index(self) -> KeyIndex:
        """The rows by key, from the segment itself."""
        try:
            table = self._file.read(columns=["key", TIME.name])
            return KeyIndex.of(halves(table.column("key").to_pylist()), table.column(TIME.name).to_numpy())
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    @property
    def schema(self) -> pa.Schema:
        """The columns, TIME among them."""
        return self._file.schema_arrow

    @property
    def rows(self) -> int:
        """Records of the segment, copies included."""
        return int(self._begins[-1])

    def find(self, _: Sequence[str], wanted: Numbers) -> tuple[Places, Places]:
        """The row (-1: not here) and time of each key."""
        return self.index.find(wanted)

    def read(self, rows: Places, keys: Sequence[str]) -> pa.Table:
        """The given rows, ascending, that the index gave for `keys`; an index that was wrong is made again."""
        if len(rows) and rows[-1] < self.rows:
            groups = np.searchsorted(self._begins, rows, side="right") - 1
            parts = [
                self._group(group).take(pa.array(rows[groups == group] - self._begins[group]))
                for group in np.unique(groups).tolist()
            ]
            table = pa.concat_tables(parts)
            if pc.all(pc.equal(table.column("key"), pa.chunked_array([pa.array(keys, pa.string())]))).as_py():
                return table
        self._index_path.unlink(missing_ok=True)
        self.__dict__.pop("index", None)
        raise StaleIndexError(self.path)

    def tables(self, keep: np.ndarray) -> Iterator[pa.Table]:
        """The rows where `keep` (shape (rows,), bool) is true, in their order, a row group at a time."""
        for group in range(len(self._begins) - 1):
            kept = keep[self._begins[group] : self._begins[group + 1]]
            if kept.any():
                yield self._read_group(group).filter(pa.array(kept))

    def remove(self) -> None:
        """Delete the segment and its index."""
        self.path.unlink(missing_ok=True)
        self._index_path.unlink(missing_ok=True)

    @cached_property
    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path, memory_map=True, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    @cached_property
    def _begins(self) -> Places:
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def _group(self, group: int) -> pa.Table:
        table = self._recent.pop((self.path, group), None)
        if table is None:
            table = self._read_group(group)
            if len(self._recent) >= _RECENT:
                del self._recent[next(iter(self._recent))]
        self._recent[self.path, group] = table
        return table

    def _read_group(self, group: int) -> pa.Table:
        try:
            return self._file.read_row_group(group)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> Exception:
        if not self.path.exists():
            return FileNotFoundError(str(self.path))
        return ArtifactError(
            "a file of stored records cannot be read",
            found=" ".join(str(error).split())[:200],
            where=str(self.path),
            fix="delete this file; what it held is generated again",
        )


class StaleIndexError(Exception):
    """An index told of rows that its segment does not have; it was removed, so asking again makes a new one."""
