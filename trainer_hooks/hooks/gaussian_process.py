"""A Gaussian process over one variable in [0, 1], to choose where to measure next.

Matern 5/2 kernel on standardised values; its length is the most likely of a few. A dozen points need no more.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LENGTHS = (0.1, 0.2, 0.4, 0.8)
NOISE = 1e-4  # variance of a measurement, in units of the values' own
GRID = np.linspace(0.0, 1.0, 101)


def posterior(x: Floats, y: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation at points `at`, given finite values y at points x, both (n,), n at least 1."""
    scale = float(y.std()) or 1.0
    centred = (y - y.mean()) / scale
    length = max(LENGTHS, key=lambda length: _log_likelihood(x, centred, length))
    factor = np.linalg.cholesky(_kernel(x, x, length) + NOISE * np.eye(len(x)))
    across = np.linalg.solve(factor, _kernel(x, at, length))
    mean = y.mean() + scale * across.T @ np.linalg.solve(factor, centred)
    return mean, scale * np.sqrt(np.maximum(1 - (across**2).sum(0), 0.0))


def lowest_bound(x: Floats, y: Floats, kappa: float) -> float:
    """The point of a grid over [0, 1], none of those measured, whose mean - kappa x deviation is lowest."""
    free = GRID[np.abs(GRID[:, None] - x).min(1) > (GRID[1] - GRID[0]) / 2]
    mean, deviation = posterior(x, y, free)
    return float(free[np.argmin(mean - kappa * deviation)])


def _kernel(a: Floats, b: Floats, length: float) -> Floats:
    r = np.sqrt(5) * np.abs(a[:, None] - b) / length
    return np.asarray((1 + r + r**2 / 3) * np.exp(-r))


def _log_likelihood(x: Floats, y: Floats, length: float) -> float:
    factor = np.linalg.cholesky(_kernel(x, x, length) + NOISE * np.eye(len(x)))
    return float(-0.5 * (np.linalg.solve(factor, y) ** 2).sum() - np.log(np.diag(factor)).sum())
