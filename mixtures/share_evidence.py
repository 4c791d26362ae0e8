"""How sure learned shares are: resampled searches, an honest gain, the noise of repeats, and the verdict.

Shares judged by the fit that chose them gain even in pure noise. Each resample shows by how much: the gain of its own
shares by its own fit, minus their gain by the full fit, is its optimism, and the mean of these is taken off. What
remains is close to the true gain where there is one, and too high by about a tenth of the losses' spread in pure
noise, so a gain alone is never believed: held-out runs must be ranked better than by chance as well. Planted surfaces
of `benchmarks/learned_shares.py` show how often the two together are wrong.

How it is used: `mixtures.learned_shares.learn_shares` does.

Source: the optimism bootstrap, B. Efron, Estimating the error rate of a prediction rule (1983).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corpus.config import Config
from mixtures.share_design import Floats
from mixtures.share_regression import Fitted, Ints
from mixtures.share_runs import RunTable
from mixtures.share_search import Finder
from mixtures.share_selection import Selection, by_vector, spearman, vectors_of

ENOUGH_VECTORS = 64
ENOUGH_REPEATS = 3
RANK_RESAMPLES = 1000
Statement = str
"""`above` or `below` with the baseline's name behind it (`above equal`), or `withheld`."""


class Interval(Config):
    """A number with the bounds of its interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def above(self, bound: float) -> bool:
        """Whether the whole interval lies above the bound; an undefined one does not."""
        return self.low is not None and self.low > bound


def percentile_interval(value: float, draws: Floats, level: float) -> Interval:
    """The middle `level` of the draws, and the value; undefined when the value or more than a tenth of them is NaN."""
    numbers = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(numbers) < 0.9 * len(draws):
        return Interval(value=None, low=None, high=None)
    low, high = np.percentile(numbers, [50 * (1 - level), 50 * (1 + level)]).tolist()
    return Interval(value=value, low=min(low, value), high=max(high, value))


@dataclass(frozen=True)
class Resampled:
    """What B resamples of whole share vectors say.

    Attributes:
        shares: shape (B, K), found on each resample.
        gains: shape (B,), gain over the baseline of the learned shares, by each resample's fit.
        optimism: by how much a fit overstates the gain of shares it chose itself, the mean over resamples.
    """

    shares: Floats
    gains: Floats
    optimism: float


def resample(
    runs: RunTable,
    fitted: Fitted,
    learned: Floats,
    baseline: Floats,
    finder: Finder,
    resamples: int,
    seed: int,
) -> Resampled:
    """Search again on resamples, repeats of one vector drawn together; `learned` are the shares (K,) of the full fit.

    A gain is the predicted loss of the baseline (K,) minus that of the shares in question.
    """
    vector = vectors_of(runs)
    drawn = _draw(int(vector.max()) + 1, resamples, seed)
    predict = fitted.resampled(drawn[:, vector])
    found = finder.find(predict).shares
    at_baseline = predict(baseline[None])[0]
    by_own = at_baseline - np.diagonal(predict(found))
    by_full = fitted.predict(baseline[None])[0] - fitted.predict(found)
    return Resampled(found, at_baseline - predict(learned[None])[0], float(np.mean(by_own - by_full)))


def held_out_rank(chosen: Selection, level: float, seed: int) -> Interval:
    """Rank correlation of held-out predictions with losses, its interval from resampled pairs."""
    n = len(chosen.losses)
    rows = np.random.default_rng([seed, 1]).integers(0, n, (RANK_RESAMPLES, n))
    draws = np.array([spearman(chosen.predictions[at], chosen.losses[at]) for at in rows])
    return percentile_interval(spearman(chosen.predictions, chosen.losses), draws, level)


def loss_spread(runs: RunTable) -> float:
    """Standard deviation of losses over distinct designed vectors, repeats of the baseline left out."""
    designed = ~runs.is_repeat
    _, vector = np.unique(runs.shares[designed], axis=0, return_inverse=True)
    means = by_vector(runs.losses[designed], vector.reshape(-1))
    return float(means.std(ddof=1)) if len(means) > 1 else 0.0


def repeat_noise(runs: RunTable) -> float | None:
    """Standard deviation over repeats of the baseline; None with fewer than two."""
    repeats = runs.losses[runs.is_repeat]
    return float(repeats.std(ddof=1)) if len(repeats) > 1 else None


def doubts(gain: Interval, held_out: Interval, noise: float | None) -> list[str]:
    """Why learned shares may be no better than the baseline; empty when nothing speaks against them."""
    found = []
    if not held_out.above(0.0):
        found.append("held-out runs are not ranked better than by chance")
    if not gain.above(0.0):
        found.append("the interval of the gain is not above zero")
    if noise is not None and gain.value is not None and gain.value <= noise:
        found.append(f"the gain is no larger than the noise of one repeated run ({noise:.4g})")
    return found


def verdict(gain: Interval, against: Sequence[str], noise: float | None, baseline: str) -> str:
    """One sentence: whether the learned shares can be told from the baseline's, and by which numbers."""
    numbers = "undefined"
    if gain.value is not None and gain.low is not None and gain.high is not None:
        numbers = f"{gain.value:.4g}, interval {gain.low:.4g} to {gain.high:.4g}"
    if against:
        return f"The learned shares are not distinguishable from {baseline}: {'; '.join(against)} (gain {numbers})."
    floor = "no repeats state the noise" if noise is None else f"noise of one repeated run {noise:.4g}"
    return f"The learned shares are predicted to beat {baseline} ones: gain {numbers}; {floor}."


def statement(low: float, high: float, baseline: float, against: Sequence[str], name: str = "equal") -> Statement:
    """What may be said of one share beside the baseline's: nothing if its interval holds that, or nothing was learned.

    `name` is the baseline's.
    """
    if against or low <= baseline <= high:
        return "withheld"
    return f"above {name}" if low > baseline else f"below {name}"


def warnings(runs: RunTable, chosen: Selection, spread: float, noise: float | None) -> list[str]:
    """What a reader of learned shares must know about the runs behind them."""
    said = []
    if (vectors := len(chosen.losses)) < ENOUGH_VECTORS:
        said.append(f"only {vectors} distinct vectors have a loss; {ENOUGH_VECTORS} are a good number")
    if runs.failed:
        said.append(f"{len(runs.failed)} runs have no loss: {', '.join(list(runs.failed)[:5])}")
    repeats = int(runs.is_repeat.sum())
    if noise is None:
        said.append("without two repeats of the baseline the noise between runs is unknown")
    elif noise > spread / 2:
        said.append(
            f"repeats differ by {noise:.4g}, more than half the spread of losses ({spread:.4g}): "
            "more repeats, or longer runs, are worth more than new vectors"
        )
    if noise is not None and repeats < ENOUGH_REPEATS:
        said.append(f"the noise is known from {repeats} repeats only; {ENOUGH_REPEATS} or more are needed")
    said += [f"{one.name} was refused: it {one.refused}" for one in chosen.judged if one.refused]
    return said


def _draw(n: int, resamples: int, seed: int) -> Ints:
    """How often each of n vectors stands in each resample; every resample has at least three of them."""
    random = np.random.default_rng([seed, 0])
    drawn = np.zeros((resamples, n), np.int64)
    for row in drawn:
        while np.count_nonzero(row) < 3:
            row[:] = random.multinomial(n, np.full(n, 1 / n))
    return drawn
