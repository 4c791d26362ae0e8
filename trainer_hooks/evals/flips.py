"""Two models on the same questions, one by one: equal accuracies can hide many changed answers.

A negative flip is a question that the old model answers rightly and the new one does not (MUSCLE, 2407.09435).
Intervals come from a bootstrap over source documents, because questions about one document go right or wrong
together; an interval that contains 0 is reported as "not distinguishable".

    flips = compare_choices(right_option, old_choice, new_choice)
    interval = bootstrap(new_right - old_right, documents, seed=0)
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError

Floats = npt.NDArray[np.float64]
NOT_DISTINGUISHABLE = "not distinguishable"
DRAWN_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Flips:
    """Shares of N questions, from the old model to the new one.

    Args:
        negative: right, then wrong (NFR); positive: wrong, then right (PFR). positive - negative is the difference of
            accuracies.
        negative_any: now wrong, and another answer than before (NFR_mc): adds wrong to other wrong.
        trust: of what was right, the share that still is (BTC); None where nothing was right.
        standard_error: of the paired difference of accuracies.
        mcnemar: two-sided p of McNemar's exact test.
    """

    questions: int
    old_accuracy: float
    new_accuracy: float
    negative: float
    positive: float
    negative_any: float
    trust: float | None
    standard_error: float
    mcnemar: float


@dataclass(frozen=True)
class ContinuousFlips:
    """How the scores of right answers moved; D = new - old.

    Args:
        gained, lost: the shares of questions with D above and below 0.
        mean_gain, mean_loss: the mean of D over the first, of -D over the second; 0 where there are none.
        mean: gained x mean_gain - lost x mean_loss.
    """

    gained: float
    lost: float
    mean_gain: float
    mean_loss: float
    mean: float


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval, over so many clusters; of one cluster there is none."""

    mean: float
    low: float | None
    high: float | None
    clusters: int

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or that the two are not distinguishable: the interval contains 0. For gains."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return NOT_DISTINGUISHABLE
        return "better" if self.mean > 0 else "worse"


def compare_choices(truth: Sequence[Any], old: Sequence[Any], new: Sequence[Any]) -> Flips:
    """Flips between two lists of answers, each as long as the truth. Raises ConfigError for none or unequal lengths."""
    if not len(truth) == len(old) == len(new) > 0:
        raise ConfigError(
            "two models are compared on the same questions",
            expected="three lists of one length, at least 1",
            found=f"{len(truth)} truths, {len(old)} old and {len(new)} new answers",
        )
    n = len(truth)
    old_right = np.array([a == y for a, y in zip(old, truth, strict=True)])
    new_right = np.array([b == y for b, y in zip(new, truth, strict=True)])
    changed = np.array([a != b for a, b in zip(old, new, strict=True)])
    lost, won = int((old_right & ~new_right).sum()), int((~old_right & new_right).sum())
    negative, positive = lost / n, won / n
    return Flips(
        questions=n,
        old_accuracy=float(old_right.mean()),
        new_accuracy=float(new_right.mean()),
        negative=negative,
        positive=positive,
        negative_any=float((~new_right & changed).mean()),
        trust=float((old_right & new_right).sum() / old_right.sum()) if old_right.any() else None,
        standard_error=paired_error(negative, positive, n),
        mcnemar=mcnemar(lost, won),
    )


def paired_error(negative: float, positive: float, n: int) -> float:
    """Standard error of positive - negative, the paired difference of two accuracies over n questions."""
    return sqrt(max(0.0, negative + positive - (positive - negative) ** 2) / n)


def mcnemar(lost: int, won: int) -> float:
    """McNemar's exact test: p of a split at least as uneven of lost + won changed questions, were both equally likely.

    Computed in whole numbers, so it is exact for any counts; 1 where nothing changed.
    """
    n, term, total = lost + won, 1, 0
    for k in range(min(lost, won) + 1):
        total += term
        term = term * (n - k) // (k + 1)
    return min(1.0, float(2 * total / 2**n))


def compare_scores(old: Sequence[float], new: Sequence[float]) -> ContinuousFlips:
    """How scores of right answers moved. Raises ConfigError for none or unequal lengths."""
    if not len(old) == len(new) > 0:
        raise ConfigError("two models are compared on the same questions", found=f"{len(old)} and {len(new)} scores")
    moved = np.asarray(new, np.float64) - np.asarray(old, np.float64)
    up, down = moved[moved > 0], moved[moved < 0]
    return ContinuousFlips(
        gained=len(up) / len(moved),
        lost=len(down) / len(moved),
        mean_gain=float(up.mean()) if len(up) else 0.0,
        mean_loss=float(-down.mean()) if len(down) else 0.0,
        mean=float(moved.mean()),
    )


def bootstrap(
    values: Sequence[float] | Floats, clusters: Sequence[Hashable], *, draws: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of values with a 95 % percentile interval; whole clusters are drawn, with replacement.

    Args:
        values: one a question; clusters: the document each question is from.
        draws: bootstrap samples; seed: of the draws, so that equal calls give equal intervals.

    Raises ConfigError for none or unequal lengths.
    """
    if not len(values) == len(clusters) > 0:
        raise ConfigError("a bootstrap needs the cluster of each value", found=f"{len(values)} and {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    cluster = np.array([numbers.setdefault(one, len(numbers)) for one in clusters])
    sums: Floats = np.bincount(cluster, weights=np.asarray(values, np.float64)).astype(np.float64)
    sizes = np.bincount(cluster).astype(np.float64)
    n, mean = len(numbers), float(sums.sum() / sizes.sum())
    if n == 1:
        return Interval(mean, None, None, 1)
    low, high = np.quantile(resampled_means(sums, sizes, draws, seed), (0.025, 0.975))
    return Interval(mean, float(low), float(high), n)


def resampled_means(sums: Floats, sizes: Floats, draws: int, seed: int) -> Floats:
    """Sum over size of bootstrap samples of whole clusters, shape (draws,): as many clusters, with replacement.

    Args:
        sums, sizes: of each cluster, shape (clusters,); draws: samples; seed: of the draws.
    """
    n = len(sums)
    rng, rows = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // n)
    means = []
    for start in range(0, draws, rows):
        drawn = rng.integers(n, size=(min(rows, draws - start), n), dtype=np.int32)
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    return np.concatenate(means)
