"""The work of map tasks: one document shard and its sidecars in, one shard or one sidecar out.

Sidecars are read in lockstep with their documents and checked id by id, so a stage sees document columns and
score columns in one batch. Text passes through a task once, whatever number of stages it meets there.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from corpus.documents import DOCUMENT_SCHEMA, check_documents
from corpus.errors import SchemaError
from corpus.fingerprints import fingerprint
from corpus.scores import check_aligned, score_schema
from corpus.shards import TableWriter, atomic_path, read_batches, read_table, write_table
from pipelines.stages.base import Stage, run_chain
from pipelines.tally import DROPPED_SCHEMA, Tally
from raters.base import Rater, as_sidecar, checked_rate, counts_of


def joined_batches(
    documents: Path, sidecars: Sequence[Path], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of a document shard with the columns of its sidecars appended.

    `columns` limits the document columns (`id` is always there). Raises SchemaError when a sidecar is not
    aligned, or when two sidecars hold a column of the same name.
    """
    wanted = None if columns is None else ["id", *(name for name in columns if name != "id")]
    tables = [read_table(path) for path in sidecars]  # floats beside text: small enough to hold
    names = [name for table in tables for name in table.column_names if name != "id"]
    if len(set(names)) != len(names):
        raise SchemaError("two sidecars hold a score of the same name", found=", ".join(names), where=str(documents))
    start = 0
    for batch in read_batches(documents, wanted):
        arrays, fields = list(batch.columns), list(batch.schema)
        for path, table in zip(sidecars, tables, strict=True):
            rows = table.slice(start, batch.num_rows).combine_chunks()
            check_aligned(pa.chunked_array([batch.column("id")]), rows.column("id"), str(path))
            arrays += [pa.concat_arrays(column.chunks) for column in rows.columns[1:]]
            fields += list(rows.schema)[1:]
        start += batch.num_rows
        yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    for path, table in zip(sidecars, tables, strict=True):
        if table.num_rows != start:
            raise SchemaError(
                f"the sidecar {path} is not aligned with its documents",
                expected=f"{start:,} rows", found=f"{table.num_rows:,}",
            )  # fmt: skip


@dataclass(frozen=True)
class MapWork:
    """Pass one document shard through stages: writes the documents kept, and the dropped ones with their reasons."""

    documents: Path
    sidecars: tuple[Path, ...]
    stages: tuple[Stage, ...]

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `<shard>` and, where rows were dropped, `dropped/<shard>` under `folder`."""
        kept_path, dropped_path = folder / self.documents.name, folder / "dropped" / self.documents.name
        with ExitStack() as files:
            kept = files.enter_context(_writer(kept_path, DOCUMENT_SCHEMA))
            gone = files.enter_context(_writer(dropped_path, DROPPED_SCHEMA))
            for batch in joined_batches(self.documents, self.sidecars):
                batch, dropped = run_chain(self.stages, batch, tally)
                documents = batch.select(DOCUMENT_SCHEMA.names).cast(DOCUMENT_SCHEMA)
                check_documents(documents)
                kept.write(documents)
                tally.totals["bytes"] += sum(documents.column("n_bytes").to_pylist())
                for rows in dropped:
                    gone.write(rows)
        if not gone.total_rows:
            dropped_path.unlink()
            return [kept_path]
        return [kept_path, dropped_path]


@dataclass(frozen=True)
class RateWork:
    """Rate one document shard: writes a score sidecar with the shard's basename."""

    documents: Path
    sidecars: tuple[Path, ...]
    rater: Rater

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write the sidecar under `folder`, row for row with its documents."""
        path = folder / self.documents.name
        schema = score_schema(self.rater.scores, fingerprint(self.rater.identity()))
        own = [name for name in self.rater.needs if name in DOCUMENT_SCHEMA.names]
        with _writer(path, schema) as writer:
            for batch in joined_batches(self.documents, self.sidecars, own):
                rated = checked_rate(self.rater, batch)
                writer.write(as_sidecar(self.rater, batch, rated))
                tally.totals.update(counts_of(rated))
                tally.records_in += batch.num_rows
                tally.kept += batch.num_rows
        return [path]


class _writer:
    """A TableWriter on an atomic path: the file appears only if everything inside went well."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._stack = ExitStack()
        self._path, self._schema = path, schema

    def __enter__(self) -> TableWriter:
        temporary = self._stack.enter_context(atomic_path(self._path))
        return self._stack.enter_context(TableWriter(temporary, self._schema))

    def __exit__(self, *error: object) -> bool | None:
        return self._stack.__exit__(*error)  # type: ignore[arg-type]


def write_one(path: Path, table: pa.Table, tally: Tally) -> list[Path]:
    """Write a task's single table and count its rows as kept."""
    write_table(path, table)
    tally.records_in += table.num_rows
    tally.kept += table.num_rows
    return [path]
