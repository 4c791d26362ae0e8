"""Read Parquet tables of documents, ours (the document schema) or anybody's with a text column.

A page's key is its id column where there is one, else the file and the row's number. A file that cannot be
opened, or that has no text column, is reported and passed over; so is each unreadable row group.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from pipelines.stages.readers.fields import FieldNames, page_of
from pipelines.stages.readers.pages import Page
from pipelines.stages.readers.reader import Reader
from pipelines.tally import Tally

_ROWS = 256


class ParquetInput(Reader):
    """Parquet tables with one document a row."""

    kind: Literal["parquet"] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    fields: FieldNames = Field(FieldNames(), description="which columns hold text, id, url, date and meta")

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The documents of one file."""
        try:
            table = pq.ParquetFile(file)
        except (OSError, pa.ArrowInvalid) as error:
            tally.problem("damaged Parquet file", name, None, str(error).splitlines()[0])
            tally.lose("damaged file")
            return
        with table:
            if not has_text(table.schema_arrow, self.fields, name, table.metadata.num_rows, tally):
                return
            columns = [column for column in self.fields.columns() if column in table.schema_arrow.names]
            row = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                yield from self._group(table, group, columns, name, row, tally)
                row += rows

    def _group(
        self, table: pq.ParquetFile, group: int, columns: list[str], name: str, row: int, tally: Tally
    ) -> Iterator[Page]:
        end = row + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(batch_size=_ROWS, row_groups=[group], columns=columns):
                yield from table_pages(batch, self, self.fields, name, row, tally)
                row += batch.num_rows
        except (OSError, pa.ArrowInvalid) as error:
            tally.problem(
                "damaged row group", name, row, f"{str(error).splitlines()[0]}; rows {row:,} to {end:,} are lost"
            )
            for _ in range(end - row):
                tally.lose("damaged record")


def has_text(schema: pa.Schema, fields: FieldNames, name: str, rows: int, tally: Tally) -> bool:
    """Whether a table has the text column; where it has not, all its rows are counted as lost."""
    if fields.text in schema.names or fields.text.partition(".")[0] in schema.names:
        return True
    found = ", ".join(schema.names[:20])
    tally.problem("wrong columns", name, None, f"expected a column {fields.text!r}, found {found}; set fields.text")
    for _ in range(rows):
        tally.lose("wrong columns")
    return False


def table_pages(
    batch: pa.RecordBatch, reader: Reader, fields: FieldNames, name: str, row: int, tally: Tally
) -> Iterator[Page]:
    """The pages of a batch of rows that begins at row number `row`; over-long texts are dropped unread."""
    for i, size in enumerate(_text_sizes(batch, fields)):
        if size is not None and size > reader.max_document_bytes:
            reader.too_large(name, row + i, size, tally)
            continue
        values = batch.slice(i, 1).to_pylist(maps_as_pydicts="lossy")[0]
        page = page_of(values, fields, name, row + i, tally)
        if page is not None:
            yield page


def _text_sizes(batch: pa.RecordBatch, fields: FieldNames) -> list[int | None]:
    sizes: list[int | None] = [None] * batch.num_rows
    if fields.text in batch.schema.names:
        column = batch.column(fields.text)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes = pc.binary_length(column).to_pylist()
    return sizes
