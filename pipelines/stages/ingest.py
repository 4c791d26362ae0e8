"""The first work of a pipeline: one portion of an input in, shards of documents out.

Pages pass through the extraction and language stages batch by batch and are rolled into shards of a fixed
number of documents, so memory holds one batch and one row group whatever the input's size. A page that comes
twice in a portion is kept once. Where rows were dropped, they lie with their reasons in `dropped/<task>.parquet`.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PrivateAttr

from corpus.documents import DOCUMENT_SCHEMA, document_id
from corpus.shards import TableWriter, atomic_path
from pipelines.stages.base import Reasons, Stage, run_chain
from pipelines.stages.extract import to_documents
from pipelines.stages.readers.reader import Portion, Reader
from pipelines.tally import DROPPED_SCHEMA, Tally

DUPLICATE = "duplicate id"


@dataclass(frozen=True)
class IngestWork:
    """Read a portion of an input and write its documents.

    Args:
        reader: how to read it.
        portion: what to read.
        source: the source its documents belong to.
        name: the task's name; shards are `<name>-<part>.parquet`, part in three digits from 000.
        stages: extraction, language and whatever else maps pages to pages.
        shard_documents: documents a shard holds at most.
    """

    reader: Reader
    portion: Portion
    source: str
    name: str
    stages: tuple[Stage, ...]
    shard_documents: int

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write the shards under `folder`, and the dropped rows if there are any."""
        chain = (Once(), *self.stages)
        shards = ShardRoller(folder, self.name, self.shard_documents)
        dropped = TableFile(folder / "dropped" / f"{self.name}.parquet", DROPPED_SCHEMA)
        with shards, dropped:
            for batch in self.reader.read(self.portion, self.source, tally):
                kept, gone = run_chain(chain, batch, tally)
                for rows in gone:
                    dropped.write(rows)
                if kept.num_rows:
                    documents = to_documents(kept)
                    tally.totals["bytes"] += pc.sum(documents.column("n_bytes")).as_py()
                    shards.write(documents)
        return [*shards.paths, *([dropped.path] if dropped.rows else [])]


class Once(Stage):
    """Drop pages whose id was met before. It remembers, so each task makes its own."""

    _seen: set[bytes] = PrivateAttr(default_factory=set)

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """The batch as it is; reason `duplicate id` for each page after the first of its id."""
        pairs = zip(batch.column("source").to_pylist(), batch.column("key").to_pylist(), strict=True)
        reasons: list[str | None] = []
        for source, key in pairs:
            page = bytes.fromhex(document_id(source, key))
            reasons.append(DUPLICATE if page in self._seen else None)
            self._seen.add(page)
        return batch, pa.array(reasons, pa.string())


class TableFile:
    """A Parquet file that is begun by its first rows and appears whole, or not at all, when it is left."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows = path, 0
        self._schema = schema
        self._open = ExitStack()
        self._writer: TableWriter | None = None

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows of the schema."""
        if self._writer is None:
            temporary = self._open.enter_context(atomic_path(self.path))
            self._writer = self._open.enter_context(TableWriter(temporary, self._schema))
        self._writer.write(rows)
        self.rows += rows.num_rows

    def __enter__(self) -> "TableFile":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)


class ShardRoller:
    """Writes batches of documents into numbered shards; where shards are cut depends on row counts alone."""

    def __init__(self, folder: Path, name: str, shard_documents: int) -> None:
        self._folder, self._name, self._limit = folder, name, shard_documents
        self._shard: TableFile | None = None
        self.paths: list[Path] = []

    def write(self, documents: pa.RecordBatch) -> None:
        """Add documents, beginning a new shard wherever one is full."""
        while documents.num_rows:
            shard = self._shard or self._begin()
            room = self._limit - shard.rows
            shard.write(documents.slice(0, room))
            documents = documents.slice(room)
            if shard.rows == self._limit:
                self.__exit__(None, None, None)

    def _begin(self) -> TableFile:
        self._shard = TableFile(self._folder / f"{self._name}-{len(self.paths):03d}.parquet", DOCUMENT_SCHEMA)
        self.paths.append(self._shard.path)
        return self._shard

    def __enter__(self) -> "ShardRoller":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._shard is not None:
            self._shard.__exit__(*error)
        self._shard = None
