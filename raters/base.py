"""The rater contract: documents in, float32 columns out, and the sidecar rows they become.

A rater reads the columns it names and gives one float32 column a score, row for row, null where it could not
rate. It never changes text, opens no output and knows no shard. It holds paths and settings only, so it crosses
process borders; a model is loaded on first use, once a process.

What a recipe says of a rater is a `RaterSettings`. It makes the rater, and may fit something first (a classifier, a
table of word counts): the `Fitting` it is given reads the texts and keeps the result, so that it is fitted once.

Run it:  rows = sidecar_rows(NaturalSignals(), batch)
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from corpus.config import Config
from corpus.errors import SchemaError
from corpus.fingerprints import fingerprint
from corpus.scores import Score, score_schema
from raters.examples import Examples

COUNTS = b"counts"
"""Key of a rated batch's schema metadata; see `with_counts`."""


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
        """Score n rows: n rows of float32, named as `scores`; null means not scored.

        A row's scores depend on the row and, for models that pad, on the batch it came in: batches are cut from a
        shard the same way on every runtime.
        """


class Fitting(Protocol):
    """What a rater may ask for while it is made."""

    @property
    def cache(self) -> Path:
        """A folder for what is cached by content (generations), shared by all raters and by rephrasing."""

    @property
    def log(self) -> Path:
        """A file that takes what engines print."""

    def path(self, given: Path) -> Path:
        """A path of the recipe, taken from the recipe's folder when it is relative."""

    def texts(self, examples: Examples | None, where: str) -> Iterator[pa.StringArray]:
        """The texts of examples, in their order and some thousands at a time; None: all documents that are rated.

        `where` names the setting in errors. Raises ConfigError where there are none, InputError for a bad file.
        """

    def keep(
        self,
        config: Mapping[str, Any],
        make: Callable[[Path], dict[str, Any]],
        *,
        examples: Sequence[Examples | None] = (),
        files: Sequence[Path] = (),
    ) -> Path:
        """The folder of what `make(folder)` wrote, kept as the artifact `raters/<name>`.

        It is made once, and again when `config` or the content of `examples` or `files` changes: they are its
        identity, so `make` must depend on nothing else. `make` returns counts for the manifest.
        """


class RaterSettings(Config):
    """The base of what a recipe says of one rater; a subclass adds its fields and a `kind`."""

    own_process: ClassVar[bool] = False
    """True for raters that take gigabytes or all cores: their tasks run one by one, in a process that ends."""

    def rater(self, name: str, fitting: Fitting) -> Rater:
        """Make the rater called `name`, fitting what must be fitted. Raises GradatimError for what cannot work."""
        raise TypeError(f"{type(self).__name__} does not define rater")


def with_counts(rated: pa.RecordBatch, counts: Mapping[str, int]) -> pa.RecordBatch:
    """Attach counts of what happened while a batch was rated (refusals, parse failures); they end in the manifest."""
    return rated.replace_schema_metadata({COUNTS: json.dumps(dict(counts), sort_keys=True)})


def counts_of(rated: pa.RecordBatch) -> dict[str, int]:
    """The counts that `with_counts` attached; empty without any."""
    found: dict[str, int] = json.loads((rated.schema.metadata or {}).get(COUNTS, b"{}"))
    return found


def sidecar_rows(rater: Rater, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rate a batch and return its sidecar rows: `id`, then the scores, with their definitions as metadata.

    Raises SchemaError as `checked_rate` does.
    """
    return as_sidecar(rater, batch, checked_rate(rater, batch))


def as_sidecar(rater: Rater, batch: pa.RecordBatch, rated: pa.RecordBatch) -> pa.RecordBatch:
    """Put the ids before the scores of a rated batch, and the definitions into the schema."""
    schema = score_schema(rater.scores, fingerprint(rater.identity()))
    return pa.RecordBatch.from_arrays([batch.column("id"), *rated.columns], schema=schema)


def checked_rate(rater: Rater, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rate a batch. Raises SchemaError when it lacks a column the rater needs, or the rater breaks its contract."""
    missing = [name for name in ("id", *rater.needs) if name not in batch.schema.names]
    if missing:
        raise SchemaError(
            f"this table lacks what the rater of {rater.scores[0].name!r} reads",
            expected=", ".join(("id", *rater.needs)),
            found=f"no {', '.join(missing)}; it has {', '.join(batch.schema.names)}",
        )
    rated = rater.rate(batch)
    expected = pa.schema([(score.name, pa.float32()) for score in rater.scores])
    if rated.num_rows != batch.num_rows or not rated.schema.equals(expected):
        raise SchemaError(
            f"the rater of {rater.scores[0].name!r} breaks the rater contract",
            expected=f"{batch.num_rows:,} rows of {', '.join(f'{f.name} {f.type}' for f in expected)}",
            found=f"{rated.num_rows:,} rows of {', '.join(f'{f.name} {f.type}' for f in rated.schema)}",
        )
    return rated
