"""Laws that give a loss from the shares of sources: the log-linear model of Olmix, and the data mixing laws.

    log-linear    L(x) = e^c + exp(s . x)
    mixing law    L(r) = c + k exp(t . r)

On shares that sum to one these are the same curve: s = t + log k, and a constant added to every t is taken off log k.
The first is fitted, because its numbers are determined; the second is read off it with the t centred on 0. A loss that
falls with a share has a negative slope there.

The fit minimises the Huber error by damped Gauss-Newton steps from several floors e^c, in NumPy: the same minimum that
the authors seek with L-BFGS, in far fewer steps. It is a regressor like those of `mixtures.share_regression`, so that
cross-validation and bootstrap judge it as they judge the others.

Evidence: on RegMix's published runs the log-linear law ranks mixtures at 60M at .94 from 64 proxies and .96 from 512,
where a Gaussian process reaches .97 and .99 (`benchmarks/results/regmix.md`). Cost: about five runs for each source; a
fit takes milliseconds. Fewer runs than sources determine no slopes.

How it is used: `LogLinear().fit(shares, losses).law`, then `law.predict(shares)` or `mixtures.mixture_search.solve`.

Source: arXiv 2403.16952 and Olmix (arXiv 2602.12237): Huber .01.
"""

from dataclasses import dataclass

import numpy as np

from corpus.errors import InputError
from mixtures.share_design import Floats
from mixtures.share_regression import Ints, Predictor

FLOORS = (0.05, 0.5, 2.0, 8.0)  # where fits start: so many spreads of the losses below the lowest
STEPS = 200
SETTLED = 1e-10  # a fit ends when a step lowers its error by less than this part of it
LARGEST = 600.0  # exponents beyond it leave the range of floats


@dataclass(frozen=True)
class LogLinearLaw:
    """L(x) = floor + exp(slopes . x); floor = e^c is the loss that no mixture gets below. `slopes` has shape (K,)."""

    floor: float
    slopes: Floats

    def predict(self, shares: Floats) -> Floats:
        """Losses, shape (m,), of share vectors of shape (m, K)."""
        losses: Floats = self.floor + np.exp(np.minimum(shares @ self.slopes, LARGEST))
        return losses


@dataclass(frozen=True)
class MixingLaw:
    """L(r) = c + k exp(t . r); `t` has shape (K,)."""

    c: float
    k: float
    t: Floats

    def predict(self, shares: Floats) -> Floats:
        """Losses, shape (m,), of share vectors of shape (m, K)."""
        losses: Floats = self.c + self.k * np.exp(shares @ self.t)
        return losses

    @classmethod
    def of(cls, law: LogLinearLaw) -> "MixingLaw":
        """The same curve on shares that sum to one, its t summing to 0."""
        middle = float(law.slopes.mean())
        return cls(law.floor, float(np.exp(middle)), law.slopes - middle)


@dataclass(frozen=True)
class LogLinear:
    """The log-linear model as a regressor. `delta`: errors above it, in units of loss, count linearly."""

    name: str = "log_linear"
    delta: float = 0.01

    def fit(self, shares: Floats, losses: Floats) -> "FittedLogLinear":
        """Fit to shares (n, K) and losses (n,). Raises InputError for losses that are not above 0."""
        if len(losses) == 0 or not float(losses.min()) > 0:
            raise InputError(
                "the log-linear model needs losses above 0",
                found=f"{losses.min():g}" if len(losses) else "no losses",
                fix="give losses in bits per byte or nats, not differences of losses",
            )
        return FittedLogLinear(shares, losses, self.delta)


class FittedLogLinear:
    """A law and the rows it was fitted to; `law` is the fit."""

    def __init__(self, shares: Floats, losses: Floats, delta: float) -> None:
        self.shares, self.losses, self.delta = shares, losses, delta
        once = np.ones(len(losses))
        found = [_descend(start, shares, losses, once, delta) for start in _starts(shares, losses)]
        self._at = min(found, key=lambda at: _error(at, shares, losses, once, delta))
        self.law = _law(self._at)

    def predict(self, shares: Floats) -> Floats:
        """Predicted losses, shape (m,), of share vectors of shape (m, K)."""
        return self.law.predict(shares)

    def resampled(self, counts: Ints) -> Predictor:
        """Fits to resamples; see `mixtures.share_regression.Fitted`."""
        laws = self.resampled_laws(counts)
        floors, slopes = np.array([law.floor for law in laws]), np.array([law.slopes for law in laws]).T
        return lambda shares: floors + np.exp(np.minimum(shares @ slopes, LARGEST))

    def resampled_laws(self, counts: Ints) -> list[LogLinearLaw]:
        """The law of each resample, its fit started at the full one; counts as for `resampled`."""
        rows = counts.astype(np.float64)
        return [_law(_descend(self._at, self.shares, self.losses, row, self.delta)) for row in rows]


def _law(at: Floats) -> LogLinearLaw:
    """From (c, slopes) as one vector."""
    return LogLinearLaw(float(np.exp(at[0])), at[1:])


def _starts(shares: Floats, losses: Floats) -> list[Floats]:
    """For each floor the slopes that fit log(loss - floor) by least squares, as (c, slopes)."""
    lowest, spread = float(losses.min()), max(float(losses.std()), 1e-6 * float(losses.min()))
    starts = []
    for below in FLOORS:
        floor = max(lowest - below * spread, 1e-3 * lowest)
        slopes = np.linalg.lstsq(shares, np.log(losses - floor), rcond=1e-8)[0]
        starts.append(np.append(np.log(floor), slopes))
    return starts


def _residuals(at: Floats, shares: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """Prediction minus loss, shape (n,), and the falling part exp(s . x)."""
    part = np.exp(np.minimum(shares @ at[1:], LARGEST))
    return np.exp(min(at[0], LARGEST)) + part - losses, part


def _error(at: Floats, shares: Floats, losses: Floats, weights: Floats, delta: float) -> float:
    """Weighted sum of Huber errors: e^2 / 2 up to delta, delta (|e| - delta / 2) beyond."""
    size = np.abs(_residuals(at, shares, losses)[0])
    small = np.minimum(size, delta)
    return float(weights @ (small**2 / 2 + delta * (size - small)))


def _descend(at: Floats, shares: Floats, losses: Floats, weights: Floats, delta: float) -> Floats:
    """Damped Gauss-Newton on errors reweighted as Huber's; it never climbs."""
    damping, error = 1e-3, _error(at, shares, losses, weights, delta)
    for _ in range(STEPS):
        residuals, part = _residuals(at, shares, losses)
        robust = weights * np.minimum(1.0, delta / np.maximum(np.abs(residuals), 1e-300))
        jacobian = np.hstack([np.full((len(losses), 1), np.exp(min(at[0], LARGEST))), part[:, None] * shares])
        gram, slope = (jacobian.T * robust) @ jacobian, jacobian.T @ (robust * residuals)
        damped = np.diag(gram).copy() + 1e-12 * float(np.trace(gram)) + 1e-300
        before = error
        while damping < 1e12:
            moved = at - np.linalg.solve(gram + damping * np.diag(damped), slope)
            lower = _error(moved, shares, losses, weights, delta)
            if lower < error:
                at, error, damping = moved, lower, max(damping / 10, 1e-12)
                break
            damping *= 10
        if before - error <= SETTLED * before:
            break
    return at
