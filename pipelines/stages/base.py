"""The stage contract: one act of curation over a record batch, with the columns it reads declared.

A stage maps a batch to a batch with the same rows, and may give some rows a reason to be dropped. It opens no
output, holds no engine handle and does not know which shard it sees; what it needs at work (a model, a
parser) it loads on first use, once a process. Its settings are its identity; `version` is raised when its
results change for the same settings.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from corpus.config import Config
from corpus.documents import DOCUMENT_SCHEMA, document_id
from pipelines.tally import DROPPED_SCHEMA, EXCERPT_CHARACTERS, Tally

# What readers give: an HTML body to extract, or a text that is there already.
PAGE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("date", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("charset", pa.string()),
        pa.field("body", pa.large_binary()),
        pa.field("text", pa.string()),
        pa.field("meta", DOCUMENT_SCHEMA.field("meta").type),
    ]
)

Reasons: TypeAlias = pa.StringArray | None


class Stage(Config):
    """The base of every row-wise stage."""

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ()  # columns beyond those of documents, taken from sidecars

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Return the batch, row for row, and for each row a reason to drop it or null (None: keep all)."""
        raise TypeError(f"{type(self).__name__} does not define process")

    def identity(self) -> dict[str, Any]:
        """What makes this stage's results what they are, for fingerprints."""
        return {"stage": type(self).__name__, "version": self.version, **self.model_dump()}


def run_chain(
    stages: Sequence[Stage], batch: pa.RecordBatch, tally: Tally
) -> tuple[pa.RecordBatch, list[pa.RecordBatch]]:
    """Pass a batch through stages; returns the rows kept, and the dropped ones as rows of DROPPED_SCHEMA.

    Counts records in, kept and dropped. A row dropped by one stage is not seen by the next.
    """
    tally.records_in += batch.num_rows
    dropped: list[pa.RecordBatch] = []
    for stage in stages:
        if not batch.num_rows:
            break
        batch, reasons = stage.process(batch)
        if reasons is None or reasons.null_count == len(reasons):
            continue
        dropped.append(dropped_rows(batch, reasons))
        for item in pc.value_counts(reasons.drop_null()).to_pylist():
            tally.dropped[item["values"]] += item["counts"]
        batch = batch.filter(pc.is_null(reasons))
    tally.kept += batch.num_rows
    return batch, dropped


def dropped_rows(batch: pa.RecordBatch, reasons: pa.StringArray) -> pa.RecordBatch:
    """The rows with a reason, as rows of DROPPED_SCHEMA; works on pages (no `id` yet) and on documents."""
    gone = batch.filter(pc.is_valid(reasons))
    names = gone.schema.names
    if "id" in names:
        ids = gone.column("id")
    else:
        pairs = zip(gone.column("source").to_pylist(), gone.column("key").to_pylist(), strict=True)
        ids = pa.array([document_id(source, key) for source, key in pairs], pa.string())
    n_bytes = (
        gone.column("n_bytes") if "n_bytes" in names else pc.cast(pc.binary_length(gone.column("body")), pa.int32())
    )
    excerpt = pc.utf8_slice_codeunits(gone.column("text"), 0, EXCERPT_CHARACTERS)
    columns = [ids, gone.column("source"), gone.column("url"), reasons.drop_null(), n_bytes, excerpt]
    return pa.RecordBatch.from_arrays(columns, schema=DROPPED_SCHEMA)
