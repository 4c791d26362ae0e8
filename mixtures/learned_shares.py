"""Learn shares from proxy runs: choose a regressor, search for the lowest predicted loss, and say how sure that is.

The result always stands beside a baseline: equal shares, or a mixture's natural ones. Two questions are kept apart: can
losses be predicted from shares (rank correlation on held-out runs), and would the learned shares beat the baseline
(their predicted gain, less what a fit overstates for shares it chose itself, against the noise between repeats of one
run). When either answer is not a clear yes, the verdict is "not distinguishable" and no statement is made about a
single share.

Intervals are percentiles over resamples of whole share vectors. Each resample is fitted again with the regressor's own
settings (penalty, length and noise, number of trees) kept from the full fit, and searched on the same candidates: they
hold the uncertainty of the data, not that of choosing the regressor or its settings.

How it is used: `learn_shares(names, table)` with a table of `mixtures.share_runs`. The result is a model that writes
itself as JSON.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from corpus.config import Config, nearest
from corpus.errors import ConfigError, InputError
from mixtures import share_evidence as evidence
from mixtures.share_design import Floats
from mixtures.share_evidence import Interval, Statement
from mixtures.share_regression import GaussianProcess, OneColumn, Regressor, Ridge, one_blas_thread, root_features
from mixtures.share_runs import RunTable
from mixtures.share_search import Finder, SearchSettings, Simulation
from mixtures.share_selection import Judged, Selection, select_regressor
from mixtures.share_space import ShareSpace
from mixtures.share_trees import TreeBag

REGRESSORS: dict[str, Regressor] = {
    one.name: one for one in (Ridge(), Ridge("ridge_sqrt", root_features), GaussianProcess(), TreeBag())
}
TREES_THINNED = 10  # trees predict some hundred times slower than the closed forms


class LearnSettings(Config):
    """How shares are learned."""

    regressors: tuple[str, ...] = Field(
        tuple(REGRESSORS),
        min_length=1,
        description="the candidates, of ridge, ridge_sqrt, gaussian_process and lightgbm (the extra `learn`)",
    )
    folds: int = Field(5, ge=3, description="of the cross-validation")
    search: SearchSettings = SearchSettings()
    resamples: int = Field(
        200,
        ge=20,
        description="of the bootstrap; a tenth of them, on a tenth of the candidates, where trees were chosen",
    )
    level: float = Field(0.95, gt=0, lt=1, description="of all intervals")
    seed: int = Field(0, ge=0, lt=2**32, description="of folds and resamples")


class ShareEstimate(Config):
    """One learned share, its interval, and what may be said of it beside the baseline's share.

    The interval is of the share this procedure arrives at, a mean of many good vectors that leans towards equal shares;
    it is not one of the best possible share. Each is taken alone: of many statements a few are expected to be wrong.
    """

    name: str
    share: float
    low: float
    high: float
    statement: Statement


class RegressorReport(Config):
    """One candidate: held-out rank correlation (null when undefined), held-out squared error as a share of the losses'
    variance, and why it was refused (empty when it was not)."""

    name: str
    spearman: float | None
    error: float
    refused: str


class LearnedShares(Config):
    """Learned shares and the evidence for them.

    Attributes:
        shares: one entry a name, in the order given; they sum to one. Their statements are withheld when the interval
            holds the baseline's share, or when the verdict is that nothing was learned.
        equal: 1/K.
        baseline: the name of the shares that these are compared with.
        n_effective: 1 / sum of squared shares; K for equal shares.
        n_effective_of_best: of the single best vector of the search, of which `shares` is a milder version.
        regressor: the chosen one; `candidates` has all.
        held_out: rank correlation of predictions with losses on runs that neither fitted nor chose the regressor.
        loss_spread: standard deviation of losses over distinct designed vectors.
        repeat_noise: standard deviation over repeats of the baseline; null with fewer than two.
        predicted_gain: predicted loss of the baseline minus that of the learned ones, by the full fit. It is
            optimistic: the same runs chose the shares.
        predicted_gain_of_best: the same for the single best vector, more optimistic still.
        gain: the predicted gain less its optimism, as measured on resamples, with its interval.
        distinguishable: whether the gain's interval lies above zero, the gain exceeds the repeat noise where that is
            known, and the interval of held_out lies above zero.
        verdict: that in a sentence.
        warnings: what a reader must know.
        runs, vectors, failed: finished runs, distinct vectors among them, and runs without a loss.
        design_hash, table_hash: what was learned from.
    """

    shares: tuple[ShareEstimate, ...]
    equal: float
    baseline: str = "equal"
    n_effective: float
    n_effective_of_best: float
    regressor: str
    candidates: tuple[RegressorReport, ...]
    held_out: Interval
    loss_spread: float
    repeat_noise: float | None
    predicted_gain: float
    predicted_gain_of_best: float
    gain: Interval
    distinguishable: bool
    verdict: str
    warnings: tuple[str, ...]
    runs: int
    vectors: int
    failed: int
    design_hash: str
    table_hash: str
    settings: LearnSettings

    def by_name(self) -> dict[str, float]:
        """Share by name, in the order given."""
        return {one.name: one.share for one in self.shares}


@one_blas_thread()
def learn_shares(
    names: Sequence[str], runs: RunTable, settings: LearnSettings | None = None, space: ShareSpace | None = None
) -> LearnedShares:
    """Learn the shares of `names` (the columns of `runs.shares`) that minimise the predicted loss.

    `space` says where the shares may lie and what they have to beat (default: anywhere, and equal shares).

    Same runs, names and settings: same result, in whatever order the runs came. Linear algebra runs on one thread where
    threadpoolctl is installed (the extra `learn`); elsewhere the last bits depend on the number of BLAS threads.

    Raises:
        ConfigError: a regressor that does not exist.
        InputError: names that do not fit the table, too few distinct vectors, equal losses, or every regressor refused.
        EnvironmentProblem: lightgbm is asked for and not installed.

    Source: arXiv 2504.14194 and 2407.01492 for regression and search; the statistics are this project's.
    """
    settings = settings or LearnSettings()
    regressors = [_regressor(name) for name in settings.regressors]
    if len(names) != runs.shares.shape[1] or len(set(names)) != len(names):
        raise InputError(
            "the names do not fit the runs",
            expected=f"{runs.shares.shape[1]} different names, one for each share",
            found=f"{len(set(names))} different ones of {len(names)}",
        )
    chosen = select_regressor(runs, regressors, settings.folds, settings.seed)
    space = space or ShareSpace.equal(len(names))
    return learned_from(names, runs, settings, chosen, space, Simulation(space, settings.search))


def n_effective(shares: Floats) -> float:
    """The effective number of shares, 1 / sum of squares: K when all are equal, 1 when one has everything."""
    return float(1 / np.sum(shares**2))


def learned_from(
    names: Sequence[str],
    runs: RunTable,
    settings: LearnSettings,
    chosen: Selection,
    space: ShareSpace,
    finder: Finder,
) -> LearnedShares:
    """The shares that a finder takes from a chosen regressor, with all evidence; the last step of learning them."""
    fitted = chosen.fitted
    found = finder.find(OneColumn(fitted))
    shares, best = found.shares[0], found.lowest[0]
    at_baseline, at_shares, at_best = fitted.predict(np.vstack([space.baseline, shares, best])).tolist()
    thin = TREES_THINNED if isinstance(REGRESSORS.get(chosen.chosen), TreeBag) else 1
    fewer = max(20, settings.resamples // thin)
    resampled = evidence.resample(runs, fitted, shares, space.baseline, finder.thinned(thin), fewer, settings.seed)
    honest = at_baseline - at_shares - resampled.optimism
    gain = evidence.percentile_interval(honest, resampled.gains - resampled.optimism, settings.level)
    held_out = evidence.held_out_rank(chosen, settings.level, settings.seed)
    spread, noise = evidence.loss_spread(runs), evidence.repeat_noise(runs)
    against = evidence.doubts(gain, held_out, noise)
    return LearnedShares(
        shares=tuple(_estimates(names, shares, resampled.shares, settings.level, against, space)),
        equal=1 / len(names),
        baseline=space.name,
        n_effective=n_effective(shares),
        n_effective_of_best=n_effective(best),
        regressor=chosen.chosen,
        candidates=tuple(_reported(one) for one in chosen.judged),
        held_out=held_out,
        loss_spread=spread,
        repeat_noise=noise,
        predicted_gain=at_baseline - at_shares,
        predicted_gain_of_best=at_baseline - at_best,
        gain=gain,
        distinguishable=not against,
        verdict=evidence.verdict(gain, against, noise, space.name),
        warnings=tuple(evidence.warnings(runs, chosen, spread, noise)),
        runs=len(runs.run_ids),
        vectors=len(chosen.losses),
        failed=len(runs.failed),
        design_hash=runs.design_hash,
        table_hash=runs.hash,
        settings=settings,
    )


def _estimates(
    names: Sequence[str], shares: Floats, resampled: Floats, level: float, against: Sequence[str], space: ShareSpace
) -> Iterator[ShareEstimate]:
    bounds = np.percentile(resampled, [50 * (1 - level), 50 * (1 + level)], axis=0).T.tolist()
    for name, share, (low, high), other in zip(names, shares.tolist(), bounds, space.baseline.tolist(), strict=True):
        said = evidence.statement(low, high, other, against, space.name)
        yield ShareEstimate(name=name, share=share, low=low, high=high, statement=said)


def _reported(one: Judged) -> RegressorReport:
    rank = one.spearman if np.isfinite(one.spearman) else None
    return RegressorReport(name=one.name, spearman=rank, error=one.error, refused=one.refused)


def _regressor(name: str) -> Regressor:
    if name not in REGRESSORS:
        raise ConfigError(f"there is no regressor {name!r}{nearest(name, REGRESSORS)}", where="regressors")
    return REGRESSORS[name]
