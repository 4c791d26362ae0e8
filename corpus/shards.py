"""Reading and writing shards: Parquet files that appear whole or not at all.

They are written as every file of ours is (`corpus.whole_files`). Row groups are small enough (2,000 rows) for Spark to
split and for readers to stream.
"""

import errno
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import ArtifactError
from corpus.whole_files import TEMPORARY_SUFFIX as TEMPORARY_SUFFIX
from corpus.whole_files import atomic_path as atomic_path
from corpus.whole_files import disk_full as disk_full
from corpus.whole_files import saying_when_full as saying_when_full
from corpus.whole_files import write_text as write_text

ROW_GROUP_ROWS = 2_000
ROW_GROUP_BYTES = 256 << 20  # very long documents are written in shorter groups, so memory stays bounded


@dataclass(frozen=True)
class TableForm:
    """How a Parquet file of ours is laid out.

    Args:
        rows: of a row group; level: of zstd; dictionary: the columns worth encoding as one, or all.
        checksums: of each page, so that a damaged text is an error and not another text.
    """

    rows: int = ROW_GROUP_ROWS
    level: int = 3
    dictionary: tuple[str, ...] | Literal["all"] = "all"
    checksums: bool = False


_DOCUMENTS = TableForm()


class TableWriter:
    """Streams record batches of one schema into one Parquet file; use inside `atomic_path`."""

    def __init__(self, path: Path, schema: pa.Schema, form: TableForm = _DOCUMENTS) -> None:
        dictionary = True if form.dictionary == "all" else list(form.dictionary)
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=form.level,
            use_dictionary=dictionary,
            write_page_checksum=form.checksums,
        )
        self._schema, self._group = schema, form.rows
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0
        self.total_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; row groups are cut at one length whatever the batches' sizes, so bytes do not depend on them.

        Only where a group would hold more than 256 MB is a group cut earlier, after a whole batch.
        """
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self.total_rows += batch.num_rows
        while self._rows >= self._group:
            self._flush(self._group)
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush(self._rows)

    def _flush(self, rows: int) -> None:
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._writer.write_table(table.slice(0, rows).combine_chunks(), row_group_size=self._group)
        rest = table.slice(rows)
        self._waiting, self._rows, self._bytes = rest.to_batches(), rest.num_rows, rest.nbytes

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if self._rows:
                self._flush(self._rows)
            self._writer.close()
            return
        with suppress(OSError):  # the first error is on its way already; closing may meet the same full disk again
            self._writer.close()


def write_table(path: Path, table: pa.Table | pa.RecordBatch) -> None:
    """Write one table as one Parquet file, atomically."""
    batches = table.to_batches() if isinstance(table, pa.Table) else [table]
    with atomic_path(path) as temporary, TableWriter(temporary, table.schema) as writer:
        for batch in batches:
            writer.write(batch)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file; raises ArtifactError for one that is missing or damaged."""
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def read_rows(path: Path, first: int, stop: int, columns: list[str] | None = None) -> pa.Table:
    """Rows [first, stop) of a Parquet file, reading only the row groups that hold them. Raises as `read_table` does."""
    try:
        file = pq.ParquetFile(path)
        rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        begins = list(accumulate(rows, initial=0))
        held = [i for i, size in enumerate(rows) if begins[i] < stop and begins[i] + size > first]
        return file.read_row_groups(held, columns).slice(first - begins[held[0]] if held else 0, stop - first)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Stream a Parquet file in row groups; raises ArtifactError for one that is missing or damaged."""
    try:
        file = pq.ParquetFile(path)
        yield from file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def read_schema(path: Path) -> pa.Schema:
    """The Arrow schema of a Parquet file, with field metadata."""
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> Exception:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(path)
    missing = not path.exists()
    return ArtifactError(
        f"cannot read {path.name}",
        expected="a Parquet file",
        found="no such file" if missing else str(error).splitlines()[0],
        where=str(path),
        fix="run `gradatim verify` on its workspace, remove the damaged artifact, and run the recipe again",
    )
