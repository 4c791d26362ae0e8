"""Combine scores into one: normalise each, turn it so that higher is better, and take the weighted mean.

What decides a ranking by a weighted sum is not a weight w but w x sd of its score; both are kept. Equal weights
are the baseline every learned set has to beat: the published weights of Meta-rater (arXiv 2504.14194) are close to
equal. Where weights come from is part of the settings (`evidence`, or a weights file that carries its own), so that
a reader of the artifact can tell.

Run it:  composite = fit_composite(table, definitions, CompositeSettings());  CompositeRater(composite).rate(batch)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError, model_validator

from corpus.config import Config, Count, nearest
from corpus.errors import ArtifactError, ConfigError
from corpus.scores import Better, Score
from raters.base import with_counts
from raters.normalise import (
    Floats,
    Kind,
    Names,
    Normaliser,
    aligned,
    apply_within,
    fit,
    fit_groups,
    floats,
    length_band,
    length_edges,
)
from raters.reference_sample import SAMPLE_DOCUMENTS
from raters.token_count import N_TOKENS
from raters.weights_file import Missing as Missing
from raters.weights_file import Weight, WeightsFile, Within

NEUTRAL = 0.5
"""The middle of a score after it was turned, whichever end is good."""
GROUP_COLUMN: dict[Within, str] = {"source": "source", "length": "n_bytes"}
"""The document column that says which group a document is ranked in."""
FELL_BACK = "no table for the group: ranked among all documents"
_OF_A_WEIGHTS_FILE = ("scores", "exclude", "directions", "normaliser", "within", "missing", "evidence")


class CompositeSettings(Config):
    """How scores are combined."""

    scores: Literal["equal"] | dict[str, Weight] | tuple[str, ...] = Field(
        "equal", description="equal: all scores alike; names: these alike; names with weights: a weighted mean"
    )
    exclude: tuple[str, ...] = Field((), description="scores that `equal` leaves out (n_tokens, a measure, always is)")
    weights: Path | None = Field(
        None,
        exclude=True,  # its content enters the fingerprint, its path does not
        description="a weights file (JSON), relative to the recipe; it says what the other keys would",
    )
    directions: dict[str, Better] = Field(
        {}, description="which end of a score is good, where it is not the one the score's definition names"
    )
    evidence: str = Field("", description="where the weights come from, in a sentence; kept with the composite")
    normaliser: Kind = Field("quantile", description="quantile, robust_z, z or min_max")
    within: Within = Field(
        "corpus",
        description="corpus: a document is ranked among all; source: among those of its source, which keeps the "
        "mixture; length: among documents of about its length in bytes, so that the composite does not follow length",
    )
    missing: Missing = Field(
        "neutral",
        description="a missing score counts as the middle, 1/2 (neutral), as the score's median over the reference "
        "sample (median), removes the document from the ranking (drop), or is left out of the mean (renormalise: "
        "documents with few scores then crowd both ends)",
    )
    max_missing: int | None = Field(
        None,
        ge=0,
        description="documents that miss more scores than this are not ranked; by default, those without any",
    )
    sample: Count = Field(
        SAMPLE_DOCUMENTS, gt=0, description="documents the normalisers are fitted on, drawn by the hash of their ids"
    )

    @model_validator(mode="after")
    def _one_say(self) -> "CompositeSettings":
        both = [name for name in _OF_A_WEIGHTS_FILE if name in self.model_fields_set]
        if self.weights is not None and both:
            raise ValueError(f"a weights file says what {' and '.join(both)} would say; give one or the other")
        return self

    def following(self, file: WeightsFile) -> "CompositeSettings":
        """These settings with all that a weights file says."""
        return CompositeSettings(
            scores=dict(zip(file.scores, file.weights, strict=True)), directions=file.directions,
            evidence=file.evidence.summary, normaliser=file.normaliser, within=file.within, missing=file.missing,
            max_missing=self.max_missing, sample=self.sample,
        )  # fmt: skip


class Component(Config):
    """One score's part in a composite."""

    name: str
    better: Better
    weight: float = Field(description="its share of the weights, all adding to 1")
    spread: float = Field(description="its standard deviation over the reference sample, normalised and turned")
    effective: float = Field(description="its share of weight x spread; 0: no influence")
    n_missing: int = Field(description="documents of the reference sample without this score")
    median: float = Field(description="its median over the reference sample, normalised and turned")
    normaliser: Normaliser
    groups: dict[str, Normaliser] = Field(
        {}, description="within source or length: a table for each large enough group"
    )

    def unit(self, values: Floats, groups: Names | None) -> Floats:
        """Shape (n,) raw values, normalised and turned so that 1 is good; NaN where missing."""
        if groups is None:
            return aligned(self.normaliser.apply(values), self.better)
        return aligned(apply_within(values, groups, self.groups, self.normaliser), self.better)


class Composite(Config):
    """A fitted composite: everything needed to score another document the same way."""

    components: tuple[Component, ...]
    within: Within
    length_edges: tuple[float, ...] = Field((), description="bytes that part the bands of length")
    missing: Missing
    max_missing: int
    n_documents: int = Field(description="documents of the reference sample")
    evidence: str
    notes: tuple[str, ...] = Field((), description="what a reader should know, such as scores that are constant")

    def groups(self, table: pa.Table | pa.RecordBatch) -> Names | None:
        """The group each of n documents is ranked in, shape (n,); None when all are ranked together."""
        if self.within == "corpus":
            return None
        return _groups(table.column(GROUP_COLUMN[self.within]), self.within, np.array(self.length_edges))

    def combine(self, columns: Mapping[str, Floats], groups: Names | None = None) -> tuple[Floats, Floats]:
        """The composite of n documents in [0, 1], NaN where not ranked, and how many of its scores each one misses.

        Element by element and in the order of the components, so that batches do not change a bit.
        """
        n = len(columns[self.components[0].name])
        total, weights, n_missing = np.zeros(n), np.zeros(n), np.zeros(n)
        for part in self.components:
            unit = part.unit(columns[part.name], groups)
            absent = np.isnan(unit)
            n_missing += absent
            if self.missing in ("neutral", "median"):
                total += part.weight * np.where(absent, NEUTRAL if self.missing == "neutral" else part.median, unit)
                weights += part.weight
            else:
                total += part.weight * np.where(absent, 0.0, unit)
                weights += part.weight * ~absent
        ranked = n_missing <= self.max_missing
        mean = np.divide(total, weights, out=np.full(n, np.nan), where=ranked & (weights > 0))
        return np.clip(mean, 0.0, 1.0), n_missing

    def combined(self, table: pa.Table | pa.RecordBatch) -> tuple[Floats, Floats]:
        """`combine` for a table that holds the scores, and `source` or `n_bytes` where documents are grouped."""
        columns = {part.name: floats(table.column(part.name)) for part in self.components}
        return self.combine(columns, self.groups(table))

    def weighted(self, weights: Sequence[float]) -> "Composite":
        """The same frozen normalisers under other weights, one a component in their order; those of weight 0 leave.

        Raises ConfigError for weights of another number, negative ones, and weights that are all 0.
        """
        if len(weights) != len(self.components):
            found, expected = f"{len(weights)} weights", f"{len(self.components)}, one a score"
            raise ConfigError("the weights do not fit the composite", expected=expected, found=found)
        if not (np.isfinite(weights).all() and min(weights) >= 0 and sum(weights) > 0):
            raise ConfigError("weights are numbers of 0 or more, one of them above 0", found=str(list(weights)))
        named = {part.name: weight for part, weight in zip(self.components, weights, strict=True)}
        parts = _shared([part.model_copy(update={"weight": named[part.name]}) for part in self.components])
        least = 0 if self.missing == "drop" else len(parts) - 1
        return self.model_copy(update={"components": parts, "max_missing": min(least, self.max_missing)})

    def fell_back(self, groups: Names) -> int:
        """How many documents are of a group for which some score has no table of its own."""
        names, counts = np.unique(groups, return_counts=True)
        known = [all(str(name) in part.groups for part in self.components) for name in names]
        return int(counts[~np.array(known, np.bool_)].sum())


def fit_composite(table: pa.Table | pa.RecordBatch, scores: Sequence[Score], settings: CompositeSettings) -> Composite:
    """Fit normalisers and weights on a reference sample.

    Args:
        table: one row a document, with the float columns that the settings name, and `source` or `n_bytes` where
            documents are ranked within these; the order of rows does not matter.
        scores: the definitions of the columns: which there are, and which end of each is good.
        settings: weights, normaliser and what becomes of missing scores; a weights file was followed already.

    Raises:
        ConfigError: an unknown name, a name given twice, weights that are all 0, or a score without a column.
        InputError: a score has no value at all in the sample.
    """
    assert settings.weights is None, "settings that name a weights file must follow it first"
    weights = _weights(settings, scores)
    better = _directions(settings, scores)
    group_column = GROUP_COLUMN.get(settings.within)
    for name in [*weights, *([group_column] if group_column else [])]:
        if name not in table.schema.names:
            hint = nearest(name, table.schema.names)
            raise ConfigError(f"the score {name!r} has no column in the reference sample{hint}")
    edges = np.zeros(0)
    if settings.within == "length":
        edges = length_edges(floats(table.column("n_bytes")))
    groups = _groups(table.column(group_column), settings.within, edges) if group_column else None
    components = [
        _component(name, weight, better[name], floats(table.column(name)), groups, settings.normaliser)
        for name, weight in weights.items()
    ]
    least = 0 if settings.missing == "drop" else len(components) - 1
    return Composite(
        components=_shared(components),
        within=settings.within,
        length_edges=tuple(edges.tolist()),
        missing=settings.missing,
        max_missing=min(least, len(components) if settings.max_missing is None else settings.max_missing),
        n_documents=table.num_rows,
        evidence=settings.evidence or _evidence(settings),
        notes=tuple(_notes(components)),
    )


def _component(name: str, weight: float, better: Better, values: Floats, groups: Names | None, kind: Kind) -> Component:
    part = Component(
        name=name, better=better, weight=weight, n_missing=int((~np.isfinite(values)).sum()),
        median=NEUTRAL, spread=0.0, effective=0.0,  # known once the normaliser is
        normaliser=fit(values, kind, name), groups={} if groups is None else fit_groups(values, groups, kind),
    )  # fmt: skip
    unit = part.unit(values, groups)
    known = np.sort(unit[~np.isnan(unit)])  # sorted: the last bit of a sum depends on its order, the artifact must not
    spread = float(np.std(known)) if known[0] < known[-1] else 0.0
    return part.model_copy(update={"spread": spread, "median": float(np.median(known))})


def _shared(components: Sequence[Component]) -> tuple[Component, ...]:
    """The components with a weight, their weights divided by the sum, and each one's effective weight."""
    used = [part for part in components if part.weight > 0]
    total = sum(part.weight for part in used)
    influence = sum(part.weight * part.spread for part in used)
    return tuple(
        part.model_copy(
            update={
                "weight": part.weight / total,
                "effective": part.weight * part.spread / influence if influence else 0.0,
            }
        )
        for part in used
    )


def _groups(column: pa.Array | pa.ChunkedArray, within: Within, edges: Floats) -> Names:
    if within == "length":
        return length_band(floats(column), edges)
    return np.array(column.to_pylist(), np.str_)


def _directions(settings: CompositeSettings, scores: Sequence[Score]) -> dict[str, Better]:
    better = {score.name: score.better for score in scores}
    for name in settings.directions:
        if name not in better:
            raise ConfigError(f"a direction is given for an unknown score {name!r}{nearest(name, better)}")
    return better | settings.directions


def _notes(components: Sequence[Component]) -> list[str]:
    constant = [part.name for part in components if not part.spread]
    if not constant:
        return []
    if len(constant) == len(components):
        return ["no score varies over the reference sample: the composite ranks nothing"]
    return [f"constant over the reference sample, so without influence: {', '.join(constant)}"]


def scores_used(settings: CompositeSettings, scores: Sequence[Score]) -> tuple[str, ...]:
    """The names of the scores that have a weight. Raises ConfigError as `fit_composite` does."""
    return tuple(_weights(settings, scores))


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
        """The columns of its scores, and the one that groups documents."""
        group = GROUP_COLUMN.get(self.composite.within)
        return (*(part.name for part in self.composite.components), *([group] if group else []))

    def identity(self) -> dict[str, Any]:
        """The whole fitted composite."""
        return {"rater": "composite", "version": 2, "name": self.name, "composite": self.composite.model_dump()}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Combine n rows: the composite, null where not ranked, and `n_missing`, never null.

        Counts the documents whose group has no table of its own for every score, and is ranked among all.
        """
        groups = self.composite.groups(batch)
        values, n_missing = self.composite.combined(batch)
        column = pa.array(values.astype(np.float32), mask=np.isnan(values))
        rated = pa.record_batch([column, pa.array(n_missing.astype(np.float32))], names=[self.name, "n_missing"])
        fell_back = 0 if groups is None else self.composite.fell_back(groups)
        return with_counts(rated, {FELL_BACK: fell_back}) if fell_back else rated


def _weights(settings: CompositeSettings, scores: Sequence[Score]) -> dict[str, float]:
    known = [score.name for score in scores]
    _refuse_repeated(known, "the definitions")
    asked = settings.scores
    if isinstance(asked, dict):
        raw = asked
    else:
        names = _all_but(known, settings.exclude) if asked == "equal" else list(asked)
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


def _all_but(known: Sequence[str], exclude: Sequence[str]) -> list[str]:
    for name in exclude:
        if name not in known:
            raise ConfigError(f"the composite excludes an unknown score {name!r}{nearest(name, known)}")
    return [name for name in known if name not in exclude and name != N_TOKENS]


def _refuse_repeated(names: Sequence[str], where: str) -> None:
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise ConfigError(f"the score {twice[0]!r} is named twice", where=where)


def _evidence(settings: CompositeSettings) -> str:
    return (
        "weights set by hand" if isinstance(settings.scores, dict) else "equal weights: no evidence needed or claimed"
    )
