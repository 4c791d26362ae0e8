"""Score sidecars: what raters write, one file beside each document file, row for row.

A sidecar has the basename and the row order of its document file: `id` first, then float32 columns.
What a column means travels with it, in the field's metadata: range, which end is better, and the
fingerprint of the rater that made it. Null means *not scored* and is never 0.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from corpus.errors import SchemaError

Better = Literal["high", "low", "middle"]


@dataclass(frozen=True)
class Score:
    """One score column.

    Args:
        name: the column's name.
        low, high: the range its values can take; None where it is open.
        better: which end is the good one; "middle" marks scores where both extremes are suspect.
        description: one sentence a reader of the report understands.
    """

    name: str
    low: float | None
    high: float | None
    better: Better
    description: str = ""


def score_schema(scores: tuple[Score, ...], rater: str) -> pa.Schema:
    """The sidecar schema for these scores: `id` and one float32 field each, with its metadata.

    `rater` is the fingerprint of whatever made the scores (code version, model, settings).
    """
    fields = [pa.field("id", pa.string(), nullable=False)]
    for score in scores:
        meta = {"score": json.dumps(asdict(score), sort_keys=True), "rater": rater}
        fields.append(pa.field(score.name, pa.float32(), metadata=meta))
    return pa.schema(fields)


def scores_of(schema: pa.Schema) -> tuple[Score, ...]:
    """Read back the score definitions of a sidecar's schema."""
    found = []
    for field in schema:
        if field.metadata and b"score" in field.metadata:
            found.append(Score(**json.loads(field.metadata[b"score"])))
    return tuple(found)


def check_aligned(documents: pa.ChunkedArray | pa.Array, sidecar: pa.ChunkedArray | pa.Array, where: str) -> None:
    """Raise SchemaError unless both id columns are equal, row for row."""
    if len(documents) != len(sidecar) or not documents.equals(sidecar):
        raise SchemaError(
            f"the sidecar {where} is not aligned with its documents",
            expected=f"the same {len(documents):,} ids in the same order",
            found=f"{len(sidecar):,} rows" if len(documents) != len(sidecar) else "other ids or another order",
            fix="delete the sidecar's artifact and run the recipe again",
        )
