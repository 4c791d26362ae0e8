"""Which regressor to trust: nested cross-validation over proxy runs, and the refusal of fits that predict nothing.

Whole share vectors are held out: repeats of one vector are never on both sides, and count as one point. Two levels:
each regressor is judged by K-fold predictions, and the report's rank correlation comes from runs that neither fitted
the model nor took part in choosing it (in each outer fold the choice is made again from the other folds alone).
With K folds that takes K(K-1)/2 + K fits of a regressor, because leaving out folds a and b serves both.

How it is used: `select_regressor`; `learn_shares` does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corpus import rank_correlation
from corpus.errors import InputError
from corpus.keyed_random import keyed_hashes
from mixtures.share_design import Floats
from mixtures.share_regression import Fitted, Ints, Regressor, one_blas_thread
from mixtures.share_runs import RunTable

COLLAPSED = 0.01  # predictions whose spread is below this part of the losses' spread say nothing


@dataclass(frozen=True)
class Judged:
    """One regressor under cross-validation.

    Attributes:
        name: the regressor's.
        spearman: rank correlation of held-out predictions with losses over distinct vectors; NaN when undefined.
        error: mean squared held-out error, as a share of the losses' variance; 1 is no better than their mean.
        refused: why it may not be chosen, empty when it may.
    """

    name: str
    spearman: float
    error: float
    refused: str


@dataclass(frozen=True)
class Selection:
    """The chosen regressor fitted to all runs, and the evidence.

    Attributes:
        fitted: the chosen regressor, fitted to the whole table.
        chosen: its name.
        judged: every candidate, in the order given.
        losses, predictions: shape (vectors,), the mean loss of each distinct vector and its prediction from runs
            that neither fitted nor chose the model (their mean loss, where they left no regressor to choose).
    """

    fitted: Fitted
    chosen: str
    judged: tuple[Judged, ...]
    losses: Floats
    predictions: Floats


@one_blas_thread()
def select_regressor(table: RunTable, regressors: Sequence[Regressor], folds: int, seed: int) -> Selection:
    """Judge regressors by nested K-fold cross-validation, and fit the best by rank correlation to all runs.

    Raises InputError when the losses are all equal, when there are fewer than three distinct vectors a fold, or when
    every regressor is refused.
    """
    vector = vectors_of(table)
    n_vectors = int(vector.max()) + 1
    _check(table, n_vectors, folds)
    fold = _folds(table, vector, folds, seed)[vector]
    crosses = [_Cross(regressor, table, vector, fold) for regressor in regressors]
    everything = tuple(range(folds))
    judged = tuple(cross.judged(everything) for cross in crosses)
    at = _best(judged)
    if at is None:
        raise _all_refused(judged, n_vectors)
    predictions = np.zeros(n_vectors)
    for held in everything:
        rest = tuple(k for k in everything if k != held)
        inner = _best([cross.judged(rest, held) for cross in crosses])
        rows = fold == held
        outside = float(table.losses[~rows].mean()) if inner is None else crosses[inner].predictions((held,))[rows]
        predictions[vector[rows]] = outside
    return Selection(crosses[at].fit(()), judged[at].name, judged, by_vector(table.losses, vector), predictions)


def vectors_of(table: RunTable) -> Ints:
    """For each run the number of its distinct share vector, shape (n,)."""
    return np.unique(table.shares, axis=0, return_inverse=True)[1].astype(np.int64).reshape(-1)


def by_vector(values: Floats, vector: Ints) -> Floats:
    """Mean of the values of each distinct vector."""
    means: Floats = np.bincount(vector, values) / np.bincount(vector)
    return means


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation with ties at their mean rank; NaN when either side is constant."""
    found = rank_correlation.spearman(a, b)
    return float("nan") if found is None else found


def collapsed(predictions: Floats, losses: Floats) -> bool:
    """Whether predictions have no spread beside the losses they were fitted to."""
    return not float(predictions.std()) >= COLLAPSED * float(losses.std())


class _Cross:
    """One regressor's fits without one or two folds, each made once."""

    def __init__(self, regressor: Regressor, table: RunTable, vector: Ints, fold: Ints) -> None:
        self.regressor, self.table, self.vector, self.fold = regressor, table, vector, fold
        self._fits: dict[frozenset[int], tuple[Fitted, Floats, bool]] = {}

    def fit(self, without: Sequence[int]) -> Fitted:
        return self._fit(without)[0]

    def predictions(self, without: Sequence[int]) -> Floats:
        return self._fit(without)[1]

    def judged(self, folds: Sequence[int], without: int | None = None) -> Judged:
        """Cross-validation within `folds`, the fold `without` left out of everything."""
        outside: tuple[int, ...] = () if without is None else (without,)
        rows = np.isin(self.fold, folds)
        predicted = np.zeros(len(rows))
        for held in folds:
            at = self.fold == held
            predicted[at] = self.predictions((held, *outside))[at]
        vector = np.unique(self.vector[rows], return_inverse=True)[1]
        guess, truth = by_vector(predicted[rows], vector), by_vector(self.table.losses[rows], vector)
        fits = [outside, *((held, *outside) for held in folds)]
        flat = sum(self._fit(left_out)[2] for left_out in fits)
        refused = f"predicts a constant in {flat} of {len(fits)} fits" if flat else ""
        rank, error = spearman(guess, truth), float(np.mean((guess - truth) ** 2) / truth.var())
        if np.isnan(rank) and not refused:
            refused = "predicts the same loss for all held-out runs"
        return Judged(self.regressor.name, rank, error, refused)

    def _fit(self, without: Sequence[int]) -> tuple[Fitted, Floats, bool]:
        key = frozenset(without)
        if key not in self._fits:
            rows = ~np.isin(self.fold, list(key))
            fitted = self.regressor.fit(self.table.shares[rows], self.table.losses[rows])
            predicted = fitted.predict(self.table.shares)
            self._fits[key] = (fitted, predicted, collapsed(predicted[rows], self.table.losses[rows]))
        return self._fits[key]


def _best(judged: Sequence[Judged]) -> int | None:
    """The regressor with the highest rank correlation, equal ones by error; None when all are refused."""
    allowed = [i for i, one in enumerate(judged) if not one.refused]
    return min(allowed, key=lambda i: (-judged[i].spearman, judged[i].error), default=None)


def _folds(table: RunTable, vector: Ints, folds: int, seed: int) -> Ints:
    """A fold for each distinct vector, sizes within one of each other, drawn by the id of the vector's first run."""
    firsts = [table.run_ids[int(np.argmax(vector == v))] for v in range(int(vector.max()) + 1)]
    rank = np.argsort(np.argsort(keyed_hashes(seed, firsts), kind="stable"), kind="stable")
    return (rank % folds).astype(np.int64)


def _check(table: RunTable, n_vectors: int, folds: int) -> None:
    if n_vectors < 3 * folds:
        raise InputError(
            "there are too few proxy runs to learn shares from",
            expected=f"at least {3 * folds} distinct share vectors with a loss, three a fold; 64 are a good number",
            found=f"{n_vectors} vectors, {len(table.failed)} failed runs",
            fix="train more runs of the design (earlier ones are kept), or see why runs failed",
        )
    if float(table.losses.std()) <= 1e-12 * max(1.0, float(np.abs(table.losses).max())):
        raise InputError(
            "every proxy run has the same loss, so nothing can be learned from them",
            found=f"{table.losses[0]:.6g} in all {len(table.losses)} runs",
            fix="check that each run trained on its own subset, and for long enough that data can matter",
        )


def _all_refused(judged: Sequence[Judged], n_vectors: int) -> InputError:
    return InputError(
        "no regressor finds anything in these runs: each predicts the same loss for all shares",
        expected="predictions with at least 1 % of the losses' spread",
        found="; ".join(f"{one.name} {one.refused}" for one in judged) + f"; {n_vectors} vectors",
        fix="repeat runs to see whether losses differ by more than noise, train proxies longer, or add vectors",
    )
