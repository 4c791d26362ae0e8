"""The best mixture by log-linear laws: one law for each loss, and the exact minimum of their weighted sum.

Where RegMix simulates mixtures and averages the best, this fits a convex law to every loss and solves for the mixture
(`mixtures.mixture_search`), near the natural one by its divergence and under the caps of visits. The evidence is that
of `mixtures.learned_shares`: held-out runs, resamples that fit and solve again, the noise of repeats, the verdict.

Evidence: by Olmix's abstract, mixing in its way is 11.6 % better on downstream tasks than not mixing; its authors find
that proxies of 1M parameters rank mixtures much worse than those of 15M and more. On RegMix's published runs, from 512
proxies, its mixture is level with the best of them at kl .05, better at .01, and worse than it at 0, where the mixture
is one source (`benchmarks/results/regmix.md`). Cost: about five proxies for each source.

How it is used: `learn_log_linear(names, losses, space, kl=.05)`, with a table of runs for each loss.

Source: Olmix, arXiv 2602.12237.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from corpus.errors import InputError
from mixtures.learned_shares import LearnedShares, LearnSettings, learned_from
from mixtures.mixing_laws import FittedLogLinear, LogLinear, LogLinearLaw
from mixtures.mixture_search import MixtureProgramme, SolvedMixture, solve
from mixtures.share_design import Floats
from mixtures.share_regression import Ints, OneColumn, Predictor, one_blas_thread
from mixtures.share_runs import RunTable
from mixtures.share_search import Found
from mixtures.share_selection import Judged, Selection, select_regressor, spearman
from mixtures.share_space import ShareSpace


@dataclass(frozen=True)
class LogLinearMixture:
    """A learned mixture, the laws it follows from (by loss), and the solution with its certificate."""

    learned: LearnedShares
    laws: dict[str, LogLinearLaw]
    solved: SolvedMixture


@one_blas_thread()
def learn_log_linear(
    names: Sequence[str],
    losses: Mapping[str, RunTable],
    space: ShareSpace,
    *,
    kl: float = 0.05,
    weights: Mapping[str, float] | None = None,
    settings: LearnSettings | None = None,
) -> LogLinearMixture:
    """Fit a law to every loss, and solve for the mixture that minimises their weighted mean.

    Args:
        names: K sources, the columns of the tables' shares.
        losses: a table for each loss, over the same runs.
        space: where shares may lie; its baseline is the mixture that the divergence pulls to.
        kl: how hard it pulls, in units of loss; 0 lets sources vanish.
        weights: of the losses (default: equal); they are divided by their sum.

    Raises:
        InputError: tables over different runs, too few of them, or a loss that no law predicts.
        MixtureError: caps without room, or weights that are negative or all 0.
    """
    settings = settings or LearnSettings()
    tasks = sorted(losses)
    shared = _weights(tasks, weights)
    mean = _mean_table([losses[task] for task in tasks], shared)
    chosen = [select_regressor(losses[task], [LogLinear()], settings.folds, settings.seed) for task in tasks]
    fits = [one.fitted for one in chosen if isinstance(one.fitted, FittedLogLinear)]
    assert len(fits) == len(tasks)
    exact = ExactSearch(space, kl)
    selection = _combined(mean, chosen, fits, shared)
    learned = learned_from(names, mean, settings, selection, space, exact)
    solved = solve(exact.programme([fit.law for fit in fits], shared))
    return LogLinearMixture(learned, {task: fit.law for task, fit in zip(tasks, fits, strict=True)}, solved)


@dataclass(frozen=True)
class MeanOfLaws:
    """A predictor of B columns: the weighted mean of T laws, for each of B resamples. `laws[b][t]`, `weights` (T,)."""

    laws: tuple[tuple[LogLinearLaw, ...], ...]
    weights: Floats

    def __call__(self, shares: Floats) -> Floats:
        """Predicted losses, shape (m, B), of share vectors of shape (m, K)."""
        columns = [self.weights @ np.array([law.predict(shares) for law in laws]) for laws in self.laws]
        return np.array(columns).T


@dataclass(frozen=True)
class FittedLaws:
    """T fitted laws as one regressor of their weighted mean."""

    fits: tuple[FittedLogLinear, ...]
    weights: Floats

    def predict(self, shares: Floats) -> Floats:
        """Predicted mean losses, shape (m,)."""
        return self.laws()(shares)[:, 0]

    def laws(self) -> MeanOfLaws:
        """The laws themselves, as a predictor of one column."""
        return MeanOfLaws((tuple(fit.law for fit in self.fits),), self.weights)

    def resampled(self, counts: Ints) -> Predictor:
        """Laws fitted to resamples; see `mixtures.share_regression.Fitted`."""
        by_task = [fit.resampled_laws(counts) for fit in self.fits]
        return MeanOfLaws(tuple(zip(*by_task, strict=True)), self.weights)


@dataclass(frozen=True)
class ExactSearch:
    """The search of `learned_from`, by the convex programme instead of a simulation."""

    space: ShareSpace
    kl: float

    def programme(self, laws: Sequence[LogLinearLaw], weights: Floats) -> MixtureProgramme:
        """What is minimised for these laws."""
        slopes = np.array([law.slopes for law in laws])
        return MixtureProgramme(slopes, weights, self.space.baseline, self.kl, self.space.caps)

    def find(self, predictor: Predictor) -> Found:
        """The solution for each resample; there is no better single vector than it."""
        if isinstance(predictor, OneColumn) and isinstance(predictor.fitted, FittedLaws):
            predictor = predictor.fitted.laws()
        assert isinstance(predictor, MeanOfLaws), "only laws have a programme"
        shares = np.array([solve(self.programme(laws, predictor.weights)).shares for laws in predictor.laws])
        return Found(shares, shares)

    def thinned(self, by: int) -> "ExactSearch":
        """The same search: it is exact."""
        return self


def _combined(
    mean: RunTable, chosen: Sequence[Selection], fits: Sequence[FittedLogLinear], weights: Floats
) -> Selection:
    """The selections of T losses as one of their mean."""
    truth = weights @ np.array([one.losses for one in chosen])
    guess = weights @ np.array([one.predictions for one in chosen])
    error = float(np.mean((guess - truth) ** 2) / truth.var())
    judged = Judged(LogLinear().name, spearman(guess, truth), error, "")
    return Selection(FittedLaws(tuple(fits), weights), judged.name, (judged,), truth, guess)


def _mean_table(tables: Sequence[RunTable], weights: Floats) -> RunTable:
    first = tables[0]
    for table in tables[1:]:
        if table.run_ids != first.run_ids or not np.array_equal(table.shares, first.shares):
            raise InputError(
                "the losses were not measured on the same runs",
                expected=f"{len(first.run_ids)} runs for each loss",
                found=", ".join(str(len(table.run_ids)) for table in tables),
                fix="measure every loss on every run, and leave out runs that failed",
            )
    return replace(first, losses=weights @ np.array([table.losses for table in tables]))


def _weights(tasks: Sequence[str], weights: Mapping[str, float] | None) -> Floats:
    given = np.array([1.0 if weights is None else weights.get(task, 0.0) for task in tasks])
    if not tasks or not np.isfinite(given).all() or given.min() < 0 or given.sum() <= 0:
        raise InputError(
            "the losses cannot be weighed",
            expected="one or more losses, weights of 0 or more, one above 0",
            found=", ".join(f"{task}: {weight:g}" for task, weight in zip(tasks, given, strict=True)) or "no losses",
        )
    result: Floats = given / given.sum()
    return result
