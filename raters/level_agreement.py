"""How well predicted levels agree with given ones: rank correlation, macro-F1, confusion, mean absolute error.

Levels are numbers with an order, such as points from 0 to 5. Predictions are expected levels, so they lie between
the levels; where a level itself is asked for, the nearest one is taken. No single number tells the whole: a model
that says the most frequent level of everything has a small error, a macro-F1 near 0 and no rank correlation.

How it is used: `agreement(given, predicted, levels=(0, 1, 2, 3, 4, 5))`
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from corpus.config import Config
from corpus.rank_correlation import spearman

Floats = npt.NDArray[np.float64]
TOP = 0.9


class LevelAgreement(Config):
    """Agreement of n predicted levels with given ones.

    Args:
        n: texts compared.
        spearman: rank correlation, ties averaged; None where either side is constant.
        spearman_top: the same among the texts whose given level lies in the upper tenth, ties included.
        macro_f1: the mean over levels of the F1 of nearest levels; levels that neither side has do not count.
        mean_absolute_error: in levels, of the expected level.
        confusion: texts by given level (rows) and nearest predicted level (columns), in the order of the levels.
    """

    n: int
    spearman: float | None
    spearman_top: float | None
    macro_f1: float
    mean_absolute_error: float
    confusion: tuple[tuple[int, ...], ...]


def agreement(given: Floats, predicted: Floats, levels: Sequence[float]) -> LevelAgreement:
    """Compare n >= 1 predicted levels with given ones; both finite, `levels` ascending and distinct."""
    table = confusion(given, predicted, levels)
    top = given >= np.quantile(given, TOP)
    return LevelAgreement(
        n=len(given),
        spearman=_short(spearman(given, predicted)),
        spearman_top=_short(spearman(given[top], predicted[top])),
        macro_f1=round(macro_f1(table), 6),
        mean_absolute_error=round(float(np.abs(given - predicted).mean()), 6),
        confusion=tuple(tuple(row) for row in table.tolist()),
    )


def nearest_level(values: Floats, levels: Sequence[float]) -> npt.NDArray[np.int64]:
    """For each value the index of the nearest of the ascending levels; of two equally near, the upper one."""
    steps = np.asarray(levels, np.float64)
    return np.searchsorted((steps[1:] + steps[:-1]) / 2, values, side="right").astype(np.int64)


def confusion(given: Floats, predicted: Floats, levels: Sequence[float]) -> npt.NDArray[np.int64]:
    """Counts of nearest levels: shape (levels, levels), rows given, columns predicted."""
    table = np.zeros((len(levels), len(levels)), np.int64)
    np.add.at(table, (nearest_level(given, levels), nearest_level(predicted, levels)), 1)
    return table


def macro_f1(table: npt.NDArray[np.int64]) -> float:
    """The unweighted mean of each level's F1 = 2 hits / (given + predicted), over levels that occur on either side."""
    total = table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * np.diag(table)[total > 0] / total[total > 0]))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
