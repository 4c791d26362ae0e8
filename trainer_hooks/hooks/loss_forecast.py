"""Forecast where a loss goes from its first steps: an exponential fall to a floor, without outliers.

L(t) = a e^(b t) + c with b < 0, fitted by least squares after points far from a smooth curve are left out, as in
AutoLRS (arXiv 2105.10762).
"""

import numpy as np
import numpy.typing as npt
from scipy.interpolate import LSQUnivariateSpline
from scipy.optimize import minimize_scalar

Floats = npt.NDArray[np.float64]
ROUNDS, SHARE = 10, 0.03
LEAST_POINTS = 4
FASTEST, SLOWEST = 2.0, 0.1  # rates of the fall: e^-2 a step, and e^-0.1 over all that was seen


def forecast(losses: npt.ArrayLike, at: float, positions: npt.ArrayLike | None = None) -> float:
    """The loss at position `at`, given losses (n,) at rising positions (0 to n - 1 where nothing is said).

    A loss that was not finite gives +inf: such a run diverged. With fewer than four losses it is their mean.
    """
    y = np.asarray(losses, np.float64)
    t = np.arange(len(y), dtype=np.float64) if positions is None else np.asarray(positions, np.float64)
    if not np.isfinite(y).all():
        return float("inf")
    if len(y) < LEAST_POINTS:
        return float(y.mean())
    a, b, c = fit_decay(*without_outliers(t, y))
    return float(a * np.exp(b * at) + c)


def fit_decay(t: Floats, y: Floats) -> tuple[float, float, float]:
    """a, b, c of the least squares fit a e^(b t) + c, b < 0.

    For each b the best a and c are a linear fit, so only b is searched: on a grid, then between its neighbours.
    """
    span = float(t[-1] - t[0])
    grid = np.linspace(np.log(SLOWEST / span), np.log(FASTEST), 65)
    best = int(np.argmin([_squares(point, t, y) for point in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(_squares, bounds=bounds, args=(t, y), method="bounded", options={"xatol": 1e-10})
    a, c = _linear(float(found.x), t, y)
    return a, -float(np.exp(found.x)), c


def without_outliers(t: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points left after ten rounds that each drop the 3 % farthest from a cubic spline of four pieces."""
    for _ in range(ROUNDS):
        dropped = int(SHARE * len(t))
        if not dropped:
            break
        smooth = LSQUnivariateSpline(t, y, np.quantile(t, [0.25, 0.5, 0.75]))
        kept = np.sort(np.argsort(np.abs(y - smooth(t)), kind="stable")[: len(t) - dropped])
        t, y = t[kept], y[kept]
    return t, y


def _linear(log_rate: float, t: Floats, y: Floats) -> tuple[float, float]:
    x = np.exp(-np.exp(log_rate) * (t - t[0]))
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope * float(np.exp(np.exp(log_rate) * t[0])), float(y.mean() - slope * x.mean())


def _squares(log_rate: float, t: Floats, y: Floats) -> float:
    a, c = _linear(log_rate, t, y)
    return float(((a * np.exp(-np.exp(log_rate) * t) + c - y) ** 2).sum())
