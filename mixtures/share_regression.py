"""From shares to a predicted loss: ridge, ridge with square roots, and a Gaussian process, in NumPy alone.

Loss falls concavely with the share of a thing, so square roots of shares help; whether they do is left to held-out
runs (`mixtures.share_selection`). Each regressor finds its own settings on the rows it is given and looks at no other
row. A fitted one can be fitted again to many resamples of its rows at once with those settings kept, which is what
makes bootstrap intervals cheap: one solve a resample, and one kernel or feature matrix for all of them.

How it is used: `fit(shares, losses)`, then `predict`, or `resampled(counts)` for a function of many columns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixtures.share_design import Floats

Ints = npt.NDArray[np.int64]
Predictor = Callable[[Floats], Floats]

PENALTIES = np.logspace(-6, 1, 36)  # of ridge, per row, on standardised features
LENGTHS = np.logspace(np.log10(0.05), np.log10(30), 13)  # square roots of two share vectors lie at most 1.42 apart
NOISES = np.logspace(-6, 4, 61)  # variance of the noise as a multiple of the process's variance
CONSTANT = 1e-12  # a column whose spread is below this is the same for all runs


class Fitted(Protocol):
    """A regressor fitted to n rows."""

    def predict(self, shares: Floats) -> Floats:
        """Predicted losses, shape (m,), of share vectors of shape (m, K)."""
        ...

    def resampled(self, counts: Ints) -> Predictor:
        """Fits to resamples of the rows, the regressor's own settings kept.

        Args:
            counts: shape (B, n), how often each of the n rows stands in each of B resamples; at least two rows each.

        Returns a function from shares (m, K) to predicted losses (m, B).
        """
        ...


@dataclass(frozen=True)
class OneColumn:
    """A fitted regressor as a predictor of one column: shares (m, K) to losses (m, 1)."""

    fitted: Fitted

    def __call__(self, shares: Floats) -> Floats:
        """Predicted losses, shape (m, 1)."""
        return self.fitted.predict(shares)[:, None]


class Regressor(Protocol):
    """A way to predict losses from shares; `fit` raises nothing for a poor fit, the caller judges the predictions."""

    @property
    def name(self) -> str:
        """The name settings and reports use."""
        ...

    def fit(self, shares: Floats, losses: Floats) -> Fitted:
        """Fit to shares (n, K) and losses (n,)."""
        ...


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run linear algebra on one thread, so that its last bits do not depend on the machine's cores.

    Matrices here are small, and more threads only wait for each other. Without threadpoolctl (of the extra `learn`)
    nothing is changed, and the last bits are those of as many threads as BLAS takes.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield


def linear_features(shares: Floats) -> Floats:
    """The shares themselves."""
    return shares


def root_features(shares: Floats) -> Floats:
    """The shares and their square roots, shape (m, 2K)."""
    return np.hstack([shares, np.sqrt(shares)])


@dataclass(frozen=True)
class Ridge:
    """Ridge regression on standardised features, its penalty the best of `PENALTIES` by leave-one-out error."""

    name: str = "ridge"
    features: Callable[[Floats], Floats] = linear_features

    def fit(self, shares: Floats, losses: Floats) -> Fitted:
        """Fit to shares (n, K) and losses (n,); leave-one-out in closed form from one singular value decomposition."""
        raw = self.features(shares)
        spread = raw.std(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > CONSTANT)
        design, target = (raw - raw.mean(axis=0)) * scale, losses - losses.mean()
        left, singular, _ = np.linalg.svd(design, full_matrices=False)
        shrunk = singular**2 / (singular**2 + PENALTIES[:, None] * len(losses))
        residuals = target - (shrunk * (left.T @ target)) @ left.T
        leverage = 1 / len(losses) + shrunk @ (left.T**2)
        errors = np.mean((residuals / np.maximum(1 - leverage, 1e-9)) ** 2, axis=1)
        return _FittedRidge(self.features, raw, losses, scale, float(PENALTIES[np.argmin(errors)]))


class _FittedRidge:
    def __init__(
        self, features: Callable[[Floats], Floats], raw: Floats, losses: Floats, scale: Floats, penalty: float
    ) -> None:
        self.features, self.raw, self.losses, self.scale, self.penalty = features, raw, losses, scale, penalty
        self._all = self.resampled(np.ones((1, len(losses)), np.int64))

    def predict(self, shares: Floats) -> Floats:
        return self._all(shares)[:, 0]

    def resampled(self, counts: Ints) -> Predictor:
        solved = [self._solve(row.astype(np.float64)) for row in counts]
        slopes = np.array([slope for slope, _ in solved]).T
        intercepts = np.array([intercept for _, intercept in solved])
        return lambda shares: (self.features(shares) * self.scale) @ slopes + intercepts

    def _solve(self, weights: Floats) -> tuple[Floats, float]:
        total, design = weights.sum(), self.raw * self.scale
        centre, mean = weights @ design / total, float(weights @ self.losses / total)
        centred = design - centre
        gram = (centred.T * weights) @ centred + self.penalty * total * np.eye(design.shape[1])
        slope = np.linalg.solve(gram, (centred.T * weights) @ (self.losses - mean))
        return slope, mean - float(centre @ slope)


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process on square-root shares: isotropic Matérn-5/2 plus white noise, losses standardised.

    Length and noise maximise the marginal likelihood, the process's variance being solved for. The search is a grid
    with one refinement, an eigendecomposition a length: no starting point, so no restarts and no local optimum missed
    by chance.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 2.25, 2.30 and 4.17.
    """

    name: str = "gaussian_process"

    def fit(self, shares: Floats, losses: Floats) -> Fitted:
        """Fit to shares (n, K) and losses (n,), the losses not all equal."""
        roots = np.sqrt(shares)
        distances = _distances(roots, roots)
        scaled = (losses - losses.mean()) / losses.std()
        coarse = [_best_noise(matern(distances / length), scaled) for length in LENGTHS]
        at = int(np.argmax([likelihood for likelihood, _ in coarse]))
        step = LENGTHS[1] / LENGTHS[0]
        lengths = LENGTHS[at] * step ** np.array([-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75])
        fine = [_best_noise(matern(distances / length), scaled) for length in lengths]
        at = int(np.argmax([likelihood for likelihood, _ in fine]))
        return _FittedProcess(roots, losses, float(lengths[at]), fine[at][1])


class _FittedProcess:
    def __init__(self, roots: Floats, losses: Floats, length: float, noise: float) -> None:
        self.roots, self.losses, self.length, self.noise = roots, losses, length, noise
        self.kernel = matern(_distances(roots, roots) / length)
        self._all = self.resampled(np.ones((1, len(losses)), np.int64))

    def predict(self, shares: Floats) -> Floats:
        return self._all(shares)[:, 0]

    def resampled(self, counts: Ints) -> Predictor:
        """A row that stands c times is one observation with a c-th of the noise, which is the same posterior."""
        duals, means = np.zeros((len(self.losses), len(counts))), np.zeros(len(counts))
        for b, weights in enumerate(counts):
            rows = np.flatnonzero(weights)
            means[b] = weights @ self.losses / weights.sum()
            kernel = self.kernel[np.ix_(rows, rows)] + np.diag(self.noise / weights[rows])
            duals[rows, b] = np.linalg.solve(kernel, self.losses[rows] - means[b])
        return lambda shares: matern(_distances(np.sqrt(shares), self.roots) / self.length) @ duals + means


def matern(distances: Floats) -> Floats:
    """The Matérn-5/2 correlation at distances in units of its length, 1 at distance 0."""
    d = np.sqrt(5.0) * distances
    return (1 + d + d * d / 3) * np.exp(-d)


def log_likelihoods(kernel: Floats, scaled: Floats, noises: Floats) -> Floats:
    """Log marginal likelihood for each noise, the variance of the process at its best; constants left out."""
    values, vectors = np.linalg.eigh(kernel)
    variances = np.maximum(values, 0.0) + noises[:, None]
    amplitude = np.mean((vectors.T @ scaled) ** 2 / variances, axis=1)
    likelihood: Floats = -0.5 * len(scaled) * np.log(amplitude) - 0.5 * np.log(variances).sum(axis=1)
    return likelihood


def _best_noise(kernel: Floats, scaled: Floats) -> tuple[float, float]:
    """The highest log likelihood over `NOISES`, and the noise that gives it."""
    likelihoods = log_likelihoods(kernel, scaled, NOISES)
    at = int(np.argmax(likelihoods))
    return float(likelihoods[at]), float(NOISES[at])


def _distances(a: Floats, b: Floats) -> Floats:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0.0))
