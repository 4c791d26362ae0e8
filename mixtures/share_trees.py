"""Boosted trees from shares to a predicted loss: a bag of LightGBM models, for surfaces that bend and break.

LightGBM's own minimum of 20 rows a leaf makes every fit below about 40 rows a constant, hence 5 here. The bag's k
members each train on all folds but one and stop early on that one; the prediction is their mean. Early stopping
therefore sees training rows only, never those a report is made from.

How it is used: as the other regressors; it needs the extra `learn`, and is the slowest of them by far.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.errors import EnvironmentProblem
from mixtures.share_design import Floats
from mixtures.share_regression import Fitted, Ints, Predictor


@dataclass(frozen=True)
class TreeBag:
    """LightGBM, bagged: `members` models, at most `rounds` trees each, early stopping after `patience`.

    Raises EnvironmentProblem at `fit` when LightGBM is not installed. One thread and LightGBM's deterministic mode:
    same rows, same trees.
    """

    name: str = "lightgbm"
    min_data_in_leaf: int = 5
    learning_rate: float = 0.01
    rounds: int = 1000
    patience: int = 20
    members: int = 5

    def fit(self, shares: Floats, losses: Floats) -> Fitted:
        """Fit to shares (n, K) and losses (n,), n at least the number of members."""
        lightgbm = lightgbm_module()
        fold = np.random.default_rng(0).permutation(len(losses)) % self.members
        models = []
        for member in range(self.members):
            apart = fold == member
            train = lightgbm.Dataset(shares[~apart], losses[~apart])
            stop = lightgbm.Dataset(shares[apart], losses[apart], reference=train)
            stopping = lightgbm.early_stopping(self.patience, verbose=False)
            models.append(
                lightgbm.train(self.parameters(), train, self.rounds, valid_sets=[stop], callbacks=[stopping])
            )
        return _FittedBag(self, shares, losses, fold, models)

    def parameters(self) -> dict[str, Any]:
        """What LightGBM is given."""
        return {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_data_in_leaf,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": 0,
            "verbosity": -1,
        }


class _FittedBag:
    def __init__(self, bag: TreeBag, shares: Floats, losses: Floats, fold: Ints, models: list[Any]) -> None:
        self.bag, self.shares, self.losses, self.fold, self.models = bag, shares, losses, fold, models

    def predict(self, shares: Floats) -> Floats:
        return _mean(self.models, shares)

    def resampled(self, counts: Ints) -> Predictor:
        """Each member trains on its own rows of the resample, with as many trees as it stopped at."""
        bags = [self._refit(row) for row in counts]
        return lambda shares: np.stack([_mean(models, shares) for models in bags], axis=1)

    def _refit(self, counts: Ints) -> list[Any]:
        lightgbm, models = lightgbm_module(), []
        for member, model in enumerate(self.models):
            kept = np.where(self.fold != member, counts, 0)
            rows = np.repeat(np.arange(len(counts)), kept if kept.any() else counts)
            data = lightgbm.Dataset(self.shares[rows], self.losses[rows])
            models.append(lightgbm.train(self.bag.parameters(), data, model.num_trees()))
        return models


def lightgbm_module() -> Any:
    """The package LightGBM; raises EnvironmentProblem when it is not installed."""
    try:
        import lightgbm
    except ImportError:
        raise EnvironmentProblem(
            "LightGBM is not installed",
            expected="the package lightgbm",
            fix="pip install 'gradatim[learn]', or leave lightgbm out of `regressors`",
        ) from None
    return lightgbm


def _mean(models: list[Any], shares: Floats) -> Floats:
    total = np.zeros(len(shares))
    for model in models:
        total += model.predict(shares, num_threads=1)
    return total / len(models)
