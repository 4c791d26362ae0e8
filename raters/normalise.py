"""Normalisers: tables fitted once that put a score on [0, 1], so that scores of different raters can be added.

Fitted on a reference sample, saved, and never refitted on a slice: the same raw value then means the same
everywhere. Four kinds (definitions: quantile mid-ranks; robust z, (x - median) / (1.4826 MAD) clipped at 5; z,
(x - mean) / sd clipped at 5; min-max, which one outlier flattens and which is here to reproduce others). Not scored
is NaN throughout; infinite values are taken as not scored.

`fit_groups` and `apply_within` hold one table for each group of documents (a source, or a band of lengths) beside the
one for all: ranks within a source keep the mixture of sources, ranks within a band of lengths do not follow length.

Run it:  u = aligned(fit(values, "quantile").apply(values), "low")
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.config import Config
from corpus.errors import InputError
from corpus.scores import Better

Floats = npt.NDArray[np.float64]
Kind = Literal["quantile", "robust_z", "z", "min_max"]

Names = npt.NDArray[np.str_]

TABLE_POINTS = 1_001
MIN_GROUP = 100
"""Values a group needs for a table of its own: its ranks are then known to a hundredth."""
LENGTH_BANDS = 50
Z_LIMIT = 5.0
_NORMAL = 1.4826  # MAD to standard deviation, for a normal distribution
_NORMAL_MEAN = 1.2533  # mean absolute deviation to standard deviation, likewise


class Normaliser(Config):
    """A frozen map from a raw score to [0, 1], not decreasing; JSON holds it exactly."""

    kind: Kind
    n: int = Field(ge=1, description="values it was fitted on")
    table: tuple[float, ...] = Field(
        min_length=1,
        description="quantile: up to 1,001 sample values at evenly spaced ranks; robust_z, z: centre, scale; "
        "min_max: lowest, highest",
    )

    def apply(self, values: Floats) -> Floats:
        """Map shape (n,) raw values to shape (n,) values in [0, 1]; NaN where the raw value is not finite.

        Quantile: the mid-rank (rank - 1/2) / N, ties sharing one, linear between table points, 0 below and 1 above
        all of them. Robust z and z: (z + 5) / 10. Min-max: clipped to the fitted range. A constant sample maps to 1/2.
        """
        values = np.where(np.isfinite(values), values, np.nan)
        table = np.array(self.table)
        if self.kind == "quantile":
            return _mid_ranks(values, table, self.n)
        if self.kind in ("robust_z", "z"):
            return (clipped_z(values, *table) + Z_LIMIT) / (2 * Z_LIMIT)
        low, high = table
        if low == high:
            return np.where(np.isnan(values), np.nan, np.clip(np.sign(values - low) / 2 + 0.5, 0.0, 1.0))
        return np.asarray(np.clip((values - low) / (high - low), 0.0, 1.0))


def floats(column: pa.Array | pa.ChunkedArray) -> Floats:
    """A score column as float64, null as NaN."""
    doubles = pc.cast(column, pa.float64())
    if isinstance(doubles, pa.ChunkedArray):
        doubles = doubles.combine_chunks()
    return np.asarray(doubles.to_numpy(zero_copy_only=False), dtype=np.float64)


def fit(values: Floats, kind: Kind, name: str = "score") -> Normaliser:
    """Fit a normaliser on shape (n,) values; what is not finite is left out, and the order does not matter.

    Up to 1,001 values a quantile table is the sample itself: exact mid-ranks, and one added value moves the others by
    at most 1/N. Above that the table's resolution, 1/1000, adds to this. Raises InputError when nothing is left.
    """
    sample = np.sort(values[np.isfinite(values)])
    n = len(sample)
    if not n:
        raise InputError(
            f"score {name!r} has no value in the reference sample, so it cannot be normalised",
            expected="at least one scored document", found=f"{len(values):,} documents, all without a score",
            fix=f"leave {name!r} out of the composite, or find out why it was never scored",
        )  # fmt: skip
    if kind == "quantile":
        table = _even_ranks(sample)
    elif kind == "robust_z":
        table = np.array([np.median(sample), _scale(sample)])
    elif kind == "z":
        table = np.array([np.mean(sample), np.std(sample)]) if sample[0] < sample[-1] else np.array([sample[0], 0.0])
    else:
        table = sample[[0, -1]]
    return Normaliser(kind=kind, n=n, table=tuple(table.tolist()))


def fit_groups(values: Floats, groups: Names, kind: Kind) -> dict[str, Normaliser]:
    """A normaliser for each group with at least 100 finite values; shapes (n,) and (n,). The others have none."""
    names, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes[np.isfinite(values)], minlength=len(names))
    return {
        str(name): fit(values[codes == i], kind, str(name)) for i, name in enumerate(names) if sizes[i] >= MIN_GROUP
    }


def apply_within(values: Floats, groups: Names, tables: Mapping[str, Normaliser], overall: Normaliser) -> Floats:
    """Map values to [0, 1] by their group's table, or by `overall` where the group has none; shapes (n,) and (n,)."""
    names, codes = np.unique(groups, return_inverse=True)
    unit = np.full(len(values), np.nan)
    for i, name in enumerate(names):
        rows = codes == i
        unit[rows] = tables.get(str(name), overall).apply(values[rows])
    return unit


def length_edges(lengths: Floats) -> Floats:
    """Where to cut lengths into up to 50 bands of equally many documents, at least 100 in each; shape (bands - 1,).

    Ranks within narrow bands of length hold no more of it than what varies inside a band, whatever the form of the
    dependence. The price: two documents on either side of an edge are ranked against different neighbours.
    """
    ordered = np.sort(lengths[np.isfinite(lengths)])
    bands = min(LENGTH_BANDS, len(ordered) // MIN_GROUP)
    if bands < 2:
        return np.zeros(0)
    return np.unique(ordered[np.arange(1, bands) * len(ordered) // bands])


def length_band(lengths: Floats, edges: Floats) -> Names:
    """The band of each length, as the number of edges at or below it: "0", "1", ..."""
    return np.searchsorted(edges, lengths, side="right").astype(np.str_)


def aligned(unit: Floats, better: Better) -> Floats:
    """Turn values in [0, 1] so that 1 is good: u for "high", 1 - u for "low", 1 - |2u - 1| for "middle"."""
    if better == "high":
        return unit
    return 1.0 - unit if better == "low" else 1.0 - np.abs(2.0 * unit - 1.0)


def clipped_z(values: Floats, centre: float, scale: float) -> Floats:
    """(x - centre) / scale, clipped to +-5; with scale 0 (a constant sample) 0 at the centre, the limit elsewhere."""
    away = values - centre
    z = away / scale if scale > 0 else np.where(away == 0, 0.0, np.copysign(Z_LIMIT, away)) + 0.0 * away
    return np.clip(z, -Z_LIMIT, Z_LIMIT)


def _scale(sample: Floats) -> float:
    """1.4826 MAD; where more than half the values are equal and the MAD is 0, the mean deviation's counterpart."""
    away = np.sort(np.abs(sample - np.median(sample)))
    return float(_NORMAL * np.median(away)) or float(_NORMAL_MEAN * np.mean(away))


def _even_ranks(ordered: Floats) -> Floats:
    """Values at K = min(N, 1001) ranks spaced evenly from the lowest to the highest, linear between two ranks."""
    n = len(ordered)
    k = min(n, TABLE_POINTS)
    if k == n:
        return ordered
    steps = np.arange(k, dtype=np.int64) * (n - 1)
    low, part = steps // (k - 1), (steps % (k - 1)) / (k - 1)
    above = ordered[np.minimum(low + 1, n - 1)]
    return np.maximum.accumulate(np.minimum(ordered[low] + part * (above - ordered[low]), above))


def _mid_ranks(values: Floats, table: Floats, n: int) -> Floats:
    k = len(table)
    spacing = (n - 1) / (k - 1) if k > 1 else 0.0
    left = np.searchsorted(table, values, side="left")
    right = np.searchsorted(table, values, side="right")
    below, above = np.clip(left - 1, 0, k - 1), np.clip(left, 0, k - 1)
    gap = table[above] - table[below]
    share = np.divide(values - table[below], gap, out=np.zeros_like(values), where=gap > 0)
    between = below + np.clip(share, 0.0, 1.0)
    position = np.where(right > left, (left + right - 1) / 2, between)
    unit = (position * spacing + 0.5) / n
    unit = np.where(values < table[0], 0.0, np.where(values > table[-1], 1.0, unit))
    return np.where(np.isnan(values), np.nan, unit)
