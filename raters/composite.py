"""Combine scores into one: normalise each, turn it so that higher is better, and take the weighted mean.

What decides a ranking by a weighted sum is not a weight w but w x sd of its score; both are kept. Equal weights
are the baseline every learned set has to beat: the published weights of Meta-rater (arXiv 2504.14194) are close to
equal. Where weights come from is part of the settings (`evidence`), so that a reader of the artifact can tell.

Run it:  composite = fit_composite(table, definitions, CompositeSettings());  CompositeRater(composite).rate(batch)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError

from corpus.config import Config, nearest
from corpus.errors import ArtifactError, ConfigError
from corpus.scores import Better, Score
from raters.normalise import Floats, Kind, Normaliser, aligned, fit, floats

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Missing = Literal["neutral", "drop", "renormalise"]
NEUTRAL = 0.5
"""The middle of a score after it was turned, whichever end is good."""


class CompositeSettings(Config):
    """How scores are combined."""

    scores: Literal["equal"] | dict[str, Weight] | tuple[str, ...] = Field(
        "equal", description="equal: all scores alike; names: these alike; names with weights: a weighted mean"
    )
    evidence: str = Field("", description="where the weights come from, in a sentence; kept with the composite")
    normaliser: Kind = Field("quantile", description="quantile, robust_z or min_max")
    missing: Missing = Field(
        "neutral",
        description="a missing score counts as the middle (neutral), removes the document from the ranking (drop), or "
        "is left out of the mean (renormalise: documents with few scores then crowd both ends)",
    )
    max_missing: int | None = Field(
        None,
        ge=0,
        description="documents that miss more scores than this are not ranked; by default, those without any",
    )


class Component(Config):
    """One score's part in a composite."""

    name: str
    better: Better
    weight: float = Field(description="its share of the weights, all adding to 1")
    effective: float = Field(description="its share of weight x standard deviation, after normalising; 0: no influence")
    n_missing: int = Field(description="documents of the reference sample without this score")
    normaliser: Normaliser


class Composite(Config):
    """A fitted composite: everything needed to score another document the same way."""

    components: tuple[Component, ...]
    missing: Missing
    max_missing: int
    n_documents: int = Field(description="documents of the reference sample")
    evidence: str

    def combine(self, columns: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        """The composite of n documents in [0, 1], NaN where not ranked, and how many of its scores each one misses.

        Element by element and in the order of the components, so that batches do not change a bit.
        """
        n = len(columns[self.components[0].name])
        total, weights, n_missing = np.zeros(n), np.zeros(n), np.zeros(n)
        for part in self.components:
            unit = aligned(part.normaliser.apply(columns[part.name]), part.better)
            absent = np.isnan(unit)
            n_missing += absent
            if self.missing == "neutral":
                total += part.weight * np.where(absent, NEUTRAL, unit)
                weights += part.weight
            else:
                total += part.weight * np.where(absent, 0.0, unit)
                weights += part.weight * ~absent
        ranked = n_missing <= self.max_missing
        mean = np.divide(total, weights, out=np.full(n, np.nan), where=ranked & (weights > 0))
        return np.clip(mean, 0.0, 1.0), n_missing


def fit_composite(table: pa.Table | pa.RecordBatch, scores: Sequence[Score], settings: CompositeSettings) -> Composite:
    """Fit normalisers and weights on a reference sample.

    Args:
        table: one row a document, with the float columns that the settings name; the order of rows does not matter.
        scores: the definitions of the columns: which there are, and which end of each is good.
        settings: weights, normaliser and what becomes of missing scores.

    Raises:
        ConfigError: an unknown name, a name given twice, weights that are all 0, or a score without a column.
        InputError: a score has no value at all in the sample.
    """
    weights = _weights(settings, scores)
    absent = [name for name in weights if name not in table.schema.names]
    if absent:
        hint = nearest(absent[0], table.schema.names)
        raise ConfigError(f"the score {absent[0]!r} has no column in the reference sample{hint}")
    better = {score.name: score.better for score in scores}
    columns = {name: floats(table.column(name)) for name in weights}
    fitted = {name: fit(values, settings.normaliser, name) for name, values in columns.items()}
    spread = {}
    for name, weight in weights.items():
        unit = aligned(fitted[name].apply(columns[name]), better[name])
        # sorted: the last bit of a sum depends on its order, the artifact must not
        spread[name] = weight * float(np.std(np.sort(unit[~np.isnan(unit)])))
    total = sum(spread.values())
    components = tuple(
        Component(
            name=name, better=better[name], weight=weight, normaliser=fitted[name],
            effective=spread[name] / total if total else 0.0,
            n_missing=table.num_rows - fitted[name].n,
        )
        for name, weight in weights.items()
    )  # fmt: skip
    least = 0 if settings.missing == "drop" else len(components) - 1
    return Composite(
        components=components,
        missing=settings.missing,
        max_missing=min(least, len(components) if settings.max_missing is None else settings.max_missing),
        n_documents=table.num_rows,
        evidence=settings.evidence or _evidence(settings),
    )


def read_composite(path: Path) -> Composite:
    """Read a composite from its JSON. Raises ArtifactError where it is missing or is not one."""
    try:
        return Composite.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error.errors()[0]["msg"])
        raise ArtifactError("there is no composite to read here", found=found, where=str(path)) from None


@dataclass(frozen=True)
class CompositeRater:
    """A fitted composite as a rater over a batch that holds its scores."""

    composite: Composite
    name: str = "composite"

    @property
    def scores(self) -> tuple[Score, ...]:
        """The composite in [0, 1], and how many of its scores a document misses."""
        n = len(self.composite.components)
        about = f"weighted mean of {n} normalised scores" if n > 1 else "one normalised score"
        return (
            Score(self.name, low=0.0, high=1.0, better="high", description=about),
            Score(
                "n_missing",
                low=0.0,
                high=float(n),
                better="low",
                description=f"of the {n} scores, how many are missing",
            ),
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of its scores."""
        return tuple(part.name for part in self.composite.components)

    def identity(self) -> dict[str, Any]:
        """The whole fitted composite."""
        return {"rater": "composite", "version": 1, "name": self.name, "composite": self.composite.model_dump()}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Combine n rows: the composite, null where not ranked, and `n_missing`, never null."""
        values, n_missing = self.composite.combine({name: floats(batch.column(name)) for name in self.needs})
        column = pa.array(values.astype(np.float32), mask=np.isnan(values))
        return pa.record_batch([column, pa.array(n_missing.astype(np.float32))], names=[self.name, "n_missing"])


def _weights(settings: CompositeSettings, scores: Sequence[Score]) -> dict[str, float]:
    known = [score.name for score in scores]
    _refuse_repeated(known, "the definitions")
    asked = settings.scores
    if isinstance(asked, dict):
        raw = asked
    else:
        names = known if asked == "equal" else list(asked)
        _refuse_repeated(names, "the composite's scores")
        raw = dict.fromkeys(names, 1.0)
    for name in raw:
        if name not in known:
            raise ConfigError(f"the composite names an unknown score {name!r}{nearest(name, known)}")
    total = sum(raw.values())
    if not total > 0:
        found = f"{len(raw)} weights, all 0" if raw else "no score"
        raise ConfigError("a composite needs a weight above 0", found=found, fix="set scores: equal")
    if not np.isfinite(total):
        raise ConfigError("the composite's weights add up to more than a number can hold", fix="use smaller ones")
    return {name: raw[name] / total for name in known if raw.get(name, 0.0) > 0}


def _refuse_repeated(names: Sequence[str], where: str) -> None:
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise ConfigError(f"the score {twice[0]!r} is named twice", where=where)


def _evidence(settings: CompositeSettings) -> str:
    return (
        "weights set by hand" if isinstance(settings.scores, dict) else "equal weights: no evidence needed or claimed"
    )
