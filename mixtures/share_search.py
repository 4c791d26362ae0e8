"""The shares with the lowest predicted loss: a large seeded simulation, and the mean of its best vectors.

Vectors are drawn from Dirichlet distributions, predicted in chunks, and the best are averaged. That mean is not the
minimum of the predictions: it lies between the minimum and equal shares, further from the minimum the more shares
there are and the less the predictor knows. As regularisation that is wanted, since a minimum chases the predictor's
errors; as a statement about optimal shares it is biased, so the single best vector is given beside it. A concentration
of 1 keeps the search where shares are moderate; smaller ones let it reach sparse vectors, where a predictor errs more.

How it is used: `search(predictor, space, settings)`; one pass serves many predictors, as for a bootstrap. Vectors are
drawn around the space's centre and brought under its caps, so the mean of the best keeps the caps as well.

Source: RegMix, arXiv 2407.01492, and Meta-rater, arXiv 2504.14194: 100,000 or more draws of concentration 1, the mean
of the best 128.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydantic import Field, model_validator

from corpus.config import Config
from mixtures.share_design import Concentration, Floats
from mixtures.share_regression import Ints, Predictor
from mixtures.share_space import ShareSpace

CHUNK = 8192


class SearchSettings(Config):
    """How many vectors are simulated and how many of the best are averaged."""

    candidates: int = Field(200_000, ge=1, description="vectors drawn")
    best: int = Field(128, ge=1, description="how many with the lowest prediction are averaged")
    concentrations: tuple[Concentration, ...] = Field(
        (1.0,),
        min_length=1,
        description="of the Dirichlet distributions, in turn from draw to draw: their parameters' mean",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the draws")

    @model_validator(mode="after")
    def _enough(self) -> "SearchSettings":
        if self.best > self.candidates:
            raise ValueError(f"best is {self.best}, which is more than the {self.candidates} candidates")
        return self

    def thinned(self, by: int) -> "SearchSettings":
        """The same search with a `by`-th of the candidates, and of the best, at least one of each."""
        fewer = {"candidates": max(1, self.candidates // by), "best": max(1, self.best // by)}
        return self.model_copy(update=fewer)


@dataclass(frozen=True)
class Found:
    """What a search found for each of B predictors.

    Attributes:
        shares: shape (B, K), the mean of the best vectors; rows sum to one.
        lowest: shape (B, K), the single best vector.
    """

    shares: Floats
    lowest: Floats


class Finder(Protocol):
    """A way to find good shares for each of B predictors."""

    def find(self, predictor: Predictor) -> Found:
        """Good shares for a predictor from shares (m, K) to losses (m, B)."""
        ...

    def thinned(self, by: int) -> "Finder":
        """The same, at about a `by`-th of the cost where that is possible."""
        ...


@dataclass(frozen=True)
class Simulation:
    """The search of this module, in one space with one set of settings."""

    space: ShareSpace
    settings: SearchSettings

    def find(self, predictor: Predictor) -> Found:
        """The mean of the best vectors."""
        return search(predictor, self.space, self.settings)

    def thinned(self, by: int) -> "Simulation":
        """With fewer candidates."""
        return Simulation(self.space, self.settings.thinned(by))


def search(predictor: Predictor, space: ShareSpace, settings: SearchSettings) -> Found:
    """Search for B predictors at once, on the same candidates.

    Args:
        predictor: from shares (m, K) to predicted losses (m, B), as `Fitted.resampled` makes it.
        space: where the K shares may lie.

    Equal predictions are taken in the order of the draws. The draws are the same for the same settings.
    """
    drawn = draw_candidates(space, settings)
    kept: list[tuple[Floats, Ints]] = []
    for start in range(0, len(drawn), CHUNK):
        predicted = np.ascontiguousarray(predictor(drawn[start : start + CHUNK]).T)
        numbers = np.arange(start, start + predicted.shape[1])
        before = kept or [(np.zeros(0), np.zeros(0, np.int64))] * len(predicted)
        kept = [
            _lowest(np.concatenate([losses, column]), np.concatenate([at, numbers]), settings.best)
            for (losses, at), column in zip(before, predicted, strict=True)
        ]
    shares = np.array([drawn[at].mean(axis=0) for _, at in kept])
    lowest = np.array([drawn[at[np.argmin(losses)]] for losses, at in kept])
    return Found(shares / shares.sum(axis=1, keepdims=True), lowest)


def _lowest(losses: Floats, at: Ints, best: int) -> tuple[Floats, Ints]:
    """The `best` lowest losses and their numbers, in the order of the draws, which also decides between equal ones."""
    if len(losses) <= best:
        return losses, at
    bound = np.partition(losses, best - 1)[best - 1]
    below, equal = np.flatnonzero(losses < bound), np.flatnonzero(losses == bound)
    rows = np.sort(np.concatenate([below, equal[: best - len(below)]]))
    return losses[rows], at[rows]


def draw_candidates(space: ShareSpace, settings: SearchSettings) -> Floats:
    """The vectors a search looks at, shape (candidates, K)."""
    random = np.random.Generator(np.random.PCG64(settings.seed))
    drawn, step = np.empty((settings.candidates, len(space.centre))), len(settings.concentrations)
    for i, alpha in enumerate(settings.concentrations):
        drawn[i::step] = random.dirichlet(space.alphas(alpha), len(drawn[i::step]))
    return space.capped(drawn)
