"""Evaluation items in a corpus: a shard is searched for them, and documents that hold one are dropped.

Searching writes hits, one row for each document and item whose tokens it covers beyond the threshold; dropping reads a
list made of all hits, because whether a whole source goes can only be said when all of it was seen. In between stands
`pipelines.decontaminating`. A recipe:

    stages: [{decontaminate: {items: [evals/mmlu.jsonl.gz], policy: drop_documents}}, {filter: gopher}]
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.config import Config
from corpus.shards import read_batches, read_table, write_table
from pipelines.stages.base import Reasons, Stage
from pipelines.tally import Tally

if TYPE_CHECKING:
    from corpus.contamination import ContaminationIndex

HIT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("evaluation", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("field", pa.string(), nullable=False),
        pa.field("coverage", pa.float32(), nullable=False),
    ]
)
"""Hits. `coverage`: share of the item's (or the field's) tokens that the document covers, above the threshold."""

LISTED_SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]
)
"""Documents to drop, each once."""

Policy = Literal["report", "drop_documents", "drop_source"]


class Decontamination(Config):
    """What is searched for, and what becomes of documents that hold it."""

    items: tuple[Path, ...] = Field(min_length=1, description="files of evaluation items, JSONL or .gz")
    policy: Policy = Field(
        "drop_documents",
        description="report: count only; drop_documents: drop the documents with a hit; drop_source: drop all of a "
        "source that holds more than `source_share` of an evaluation's items, and such documents of other sources",
    )
    n: int = Field(8, ge=1, description="tokens of a run that counts as shared; 13 is the other usual value")
    threshold: float = Field(
        0.5, ge=0, lt=1, description="an item is hit when more of its tokens than this are covered"
    )
    scope: Literal["prompt", "all", "per_field"] = Field(
        "per_field", description="prompt: what is asked; all: an item's fields as one; per_field: each for itself"
    )
    shortest: int = Field(
        4, ge=1, description="questions below n tokens are looked for whole from this length on; shorter are everywhere"
    )
    source_share: float = Field(
        0.02, ge=0, lt=1, description="above this share of an evaluation a source is contaminated"
    )

    def index(self, base: Path) -> "ContaminationIndex":
        """The items, ready to be looked for; read once a process. Raises InputError for files that cannot be read."""
        from corpus.contamination import open_index

        paths = [base / path.expanduser() for path in self.items]
        return open_index(paths, self.n, self.threshold, self.scope, self.shortest)


class DecontaminateStep(Config):
    """Find evaluation items in the documents, and drop the documents that hold them."""

    decontaminate: Decontamination
    sources: tuple[str, ...] = Field((), description="apply it to these inputs only (default: all)")


@dataclass(frozen=True)
class SearchWork:
    """Search one document shard for evaluation items. `base`: where relative paths of the settings start."""

    documents: Path
    settings: Decontamination
    base: Path

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write the shard's hits (HIT_SCHEMA), by document order and then by coverage, and count documents."""
        index = self.settings.index(self.base)
        rows: list[tuple[str, str, str, str, str, float]] = []
        seen: Counter[str] = Counter()
        for batch in read_batches(self.documents, ["id", "source", "text"]):
            columns = (batch.column(name).to_pylist() for name in ("id", "source", "text"))
            for name, source, text in zip(*columns, strict=True):
                hits = index.hits(text)
                rows += [(name, source, hit.evaluation, hit.item, hit.field, hit.coverage) for hit in hits]
                seen["documents"] += 1
                seen["with_hits"] += bool(hits)
        tally.records_in = tally.kept = seen["documents"]
        tally.totals.update(with_hits=seen["with_hits"], hits=len(rows))
        columns_of = list(zip(*rows, strict=True)) or [()] * len(HIT_SCHEMA)
        arrays = [pa.array(values, field.type) for values, field in zip(columns_of, HIT_SCHEMA, strict=True)]
        path = folder / self.documents.name
        write_table(path, pa.Table.from_arrays(arrays, schema=HIT_SCHEMA))
        return [path]


class DropContaminated(Stage):
    """Drop the documents that a list names (LISTED_SCHEMA), and those of contaminated sources."""

    table: Path = Field(exclude=True)  # its content enters the fingerprint as an input artifact, its path does not
    whole_sources: tuple[str, ...] = Field((), description="sources that go as a whole")

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Reasons such as `contaminated: mmlu`, or `contaminated source`; null for other documents."""
        ids, reasons = _listed(self.table)
        found = reasons.take(pc.index_in(batch.column("id"), value_set=ids))
        if self.whole_sources:
            gone = pc.is_in(batch.column("source"), value_set=pa.array(self.whole_sources, pa.string()))
            found = pc.if_else(gone, "contaminated source", found)
        return batch, found


@lru_cache(maxsize=2)
def _listed(path: Path) -> tuple[pa.Array, pa.Array]:
    table = read_table(path).combine_chunks()
    columns = (table.column(name) for name in ("id", "reason"))
    ids, reasons = (pa.concat_arrays(c.chunks) if c.num_chunks else pa.array([], pa.string()) for c in columns)
    return ids, reasons
