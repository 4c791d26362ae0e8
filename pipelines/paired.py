"""Differences between two kinds of runs, paired by seed, with Student's t interval over the pairs.

Two runs of one seed start alike and read alike but for what is compared, so the difference of a pair has less noise
than the runs have, and the interval is over pairs.

    gain(before={0: 2.10, 1: 2.12}, after={0: 2.08, 1: 2.09})     # how much lower the second losses are
"""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev

from corpus.config import Config

CONFIDENCE = 0.95


class Losses(Config):
    """Target losses of one kind of run: held-out bits per byte, mean and standard deviation over seeds."""

    n: int
    mean: float | None
    sd: float | None


class Gain(Config):
    """How much lower the second loss is than the first, in bits per byte; paired by seed."""

    pairs: int
    mean: float | None
    low: float | None
    high: float | None

    @property
    def real(self) -> bool:
        """Whether the 95 % interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def losses(values: Iterable[float]) -> Losses:
    """Mean and standard deviation; null where there is nothing to take them of."""
    known = list(values)
    return Losses(n=len(known), mean=fmean(known) if known else None, sd=stdev(known) if len(known) > 1 else None)


def gain(before: Mapping[int, float], after: Mapping[int, float]) -> Gain:
    """Mean difference before - after over the seeds both have, with its 95 % interval (Student's t, n - 1)."""
    pairs = [before[seed] - after[seed] for seed in sorted(set(before) & set(after))]
    if not pairs:
        return Gain(pairs=0, mean=None, low=None, high=None)
    mean = fmean(pairs)
    if len(pairs) < 2:
        return Gain(pairs=len(pairs), mean=mean, low=None, high=None)
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)) * stdev(pairs) / math.sqrt(len(pairs))
    return Gain(pairs=len(pairs), mean=mean, low=mean - half, high=mean + half)
