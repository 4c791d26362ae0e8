"""The rater contract: documents in, float32 columns out, and the sidecar rows they become.

A rater reads the columns it names and gives one float32 column a score, row for row, null where it could not
rate. It never changes text, opens no output and knows no shard. It holds paths and settings only, so it crosses
process borders; a model is loaded on first use, once a process.

Run it:  rows = sidecar_rows(NaturalSignals(), batch)
"""

from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from corpus.errors import SchemaError
from corpus.fingerprints import fingerprint
from corpus.scores import Score, score_schema


class Rater(Protocol):
    """What every rater has."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """The columns `rate` gives, in order."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns `rate` reads."""

    def identity(self) -> dict[str, Any]:
        """What makes these scores what they are, for fingerprints: settings and checksums, never paths."""

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n rows: n rows of float32, named as `scores`; null means not scored."""


@dataclass(frozen=True)
class NaturalSignals:
    """The eleven natural-language signals of Meta-rater (arXiv 2504.14194) as a rater."""

    version: int = 1

    @property
    def scores(self) -> tuple[Score, ...]:
        """The eleven definitions of `raters.signals.SIGNALS`."""
        from raters.signals import SIGNALS

        return SIGNALS

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The rater's name and the version of its definitions."""
        return {"rater": "natural_signals", "version": self.version}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null where a signal is undefined, as in `raters.signals.rate`."""
        from raters.signals import rate

        return rate(batch.column("text"))


@dataclass(frozen=True)
class FilterSignals:
    """The columns behind the Gopher, C4 and FineWeb rule sets as a rater; whether they are good is the rules' say."""

    version: int = 1

    @property
    def scores(self) -> tuple[Score, ...]:
        """One open-ended column a signal."""
        from raters.text.filter_kernel import COLUMNS

        return tuple(Score(name, None, None, "middle", "a filter signal") for name in COLUMNS)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The rater's name and the version of its definitions."""
        return {"rater": "filter_signals", "version": self.version}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Measure n documents. Counts become float32, exact up to 2^24: more than any document a reader lets in."""
        from raters.filter_signals import signals

        measured = signals(batch.column("text"))
        columns = [column.cast(pa.float32()) for column in measured.columns]
        return pa.record_batch(columns, names=measured.schema.names)


def sidecar_rows(rater: Rater, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rate a batch and return its sidecar rows: `id`, then the scores, with their definitions as metadata.

    Raises SchemaError when the batch lacks a column the rater needs, or the rater breaks its contract.
    """
    missing = [name for name in ("id", *rater.needs) if name not in batch.schema.names]
    if missing:
        raise SchemaError(
            f"this table lacks what the rater of {rater.scores[0].name!r} reads",
            expected=", ".join(("id", *rater.needs)),
            found=f"no {', '.join(missing)}; it has {', '.join(batch.schema.names)}",
        )
    rated = rater.rate(batch)
    schema = score_schema(rater.scores, fingerprint(rater.identity()))
    expected = pa.schema([(score.name, pa.float32()) for score in rater.scores])
    if rated.num_rows != batch.num_rows or not rated.schema.equals(expected):
        raise SchemaError(
            f"the rater of {rater.scores[0].name!r} breaks the rater contract",
            expected=f"{batch.num_rows:,} rows of {', '.join(f'{f.name} {f.type}' for f in expected)}",
            found=f"{rated.num_rows:,} rows of {', '.join(f'{f.name} {f.type}' for f in rated.schema)}",
        )
    return pa.RecordBatch.from_arrays([batch.column("id"), *rated.columns], schema=schema)
