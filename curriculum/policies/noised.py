"""Sorts with noise: the order by score, softened everywhere instead of at chosen borders.

`gauss_key` sorts by u + sigma z, u the visit's quantile in its line and z normal; `gumbel_key` by u + scale g, g
Gumbel; `token_gumbel` by z(score) / temperature + g, the order in which documents leave a temperature-Gumbel
selection as its budget shrinks: a document drawn early in sampling by exp(z / temperature) leaves late. Source of the
last: QuRating (2402.09739). The noise is keyed by document (curriculum/noise.py); how far a visit moves has no bound.
"""

import math
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field

from corpus.config import Share
from curriculum.arrangement import Derive, Step, column
from curriculum.exact import double
from curriculum.noise import noise_steps, noisy
from curriculum.policies.base import Ask, By, ScorePolicy

_CELLS = 2**15
_QUANTILE = "CAST(2 * _rank + 1 AS DOUBLE) / (2 * _count)"


class GaussKey(ScorePolicy):
    """Sorted by quantile plus normal noise: the exact-multiset form of a Gaussian window that moves up the scores."""

    kind: Literal["gauss_key"] = "gauss_key"
    sigma: Share = Field(gt=0, description="standard deviation of the noise, as a share of the line")

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The rank and the noise."""
        return (*super().steps(groups, ask), *noise_steps("gauss", "_gauss", self.seed))

    def keys(self) -> tuple[str, ...]:
        """Quantile plus noise."""
        return (noisy(_QUANTILE, self.sigma, "_gauss"),)


class GumbelKey(ScorePolicy):
    """Sorted by quantile plus Gumbel noise."""

    kind: Literal["gumbel_key"] = "gumbel_key"
    scale: Share = Field(gt=0, description="scale of the noise, as a share of the line")

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The rank and the noise."""
        return (*super().steps(groups, ask), *noise_steps("gumbel", "_gumbel", self.seed))

    def keys(self) -> tuple[str, ...]:
        """Quantile plus noise."""
        return (noisy(_QUANTILE, self.scale, "_gumbel"),)


class TokenGumbel(ScorePolicy):
    """Lowest first: the reverse of sampling without replacement in proportion to exp(z / temperature)."""

    kind: Literal["token_gumbel"] = "token_gumbel"
    by: Annotated[By, Field(max_length=1)] = Field(
        description="the score, one column; -name where its low end is the good one"
    )
    temperature: float = Field(default=1.0, gt=0, description="1 or 2; the score counts in its standard deviations")

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The noise, and the score in standard deviations (over all visits that have one) times the temperature."""
        value, deviation = f"CAST({column(self.ordered_by[0])} AS DOUBLE)", _deviation(self.ordered_by[0], ask)
        z = f"coalesce({value}, 0) / {double(deviation * self.temperature)}" if deviation else double(0.0)
        signed = f"-({z})" if self.by[0].startswith("-") else z
        drawn = noise_steps("gumbel", "_gumbel", self.seed)
        return (*drawn, Derive({"_leaves": noisy(signed, 1.0, "_gumbel")}))

    def keys(self) -> tuple[str, ...]:
        """When a visit leaves, or the reverse."""
        return (self.set_apart(), "_leaves" if self.ascending else "-_leaves")


def _deviation(name: str, ask: Ask) -> float:
    """The standard deviation of a column, to 2^-15 of its range; sums of whole numbers are the same anywhere."""
    value = f"CAST({column(name)} AS DOUBLE)"
    low, high = (entry.as_py() for entry in _first(ask(f"SELECT min({value}) AS a, max({value}) AS b FROM visits")))
    if low is None or low == high:
        return 0.0
    cell = f"CAST(floor(({value} - {double(low)}) / {double(high - low)} * {_CELLS}) AS BIGINT)"
    sums = f"count({value}) AS n, CAST(sum({cell}) AS BIGINT) AS a, CAST(sum({cell} * {cell}) AS BIGINT) AS b"
    n, a, b = (entry.as_py() for entry in _first(ask(f"SELECT {sums} FROM visits")))
    return math.sqrt((n * b - a * a) / (n * n)) * (high - low) / _CELLS


def _first(table: pa.Table) -> list[pa.Scalar]:
    return [values[0] for values in table.columns]
