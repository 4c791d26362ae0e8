"""The best mixture under log-linear losses, solved exactly: a convex programme with a certificate.

    minimise   sum_t w_t exp(s_t . x) + kl sum_i x_i log(x_i / q_i)
    subject to sum_i x_i = 1,  0 <= x_i <= cap_i

Every term is convex, so a simulation is not needed and a local answer is the answer. It is found by the
barrier method (Newton steps of the size of the number of sources), and proved by its gap: at any x the gradient
g bounds what any other mixture could gain by max over mixtures z of g . (x - z), which sorting solves. Without the
divergence (kl = 0) sources vanish from the mixture: keep it above 0.

Olmix takes kl of .05 to .1 and caps of four visits. Cost: milliseconds; the proxies are what is paid for.

How it is used: `solve(MixtureProgramme(...))`, with slopes from `mixtures.mixing_laws`.

Source: the programme of Olmix (arXiv 2602.12237); the method is that of S. Boyd and L. Vandenberghe, Convex
Optimization (2004), section 11.3, and the bound that of M. Frank and P. Wolfe (1956).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixtures.share_design import Floats
from mixtures.shares import MixtureError

STEPS = 100
TO_BOUND = 0.99  # a step goes at most this part of the way to the nearest bound
SHRINK = 0.1  # of the barrier, from centre to centre
LAST = 1e-17


@dataclass(frozen=True)
class MixtureProgramme:
    """What is minimised.

    Attributes:
        slopes: shape (T, K), s of each of T losses; constants of the losses do not matter.
        weights: shape (T,), w, not negative, of each loss in the sum.
        prior: shape (K,), q, the mixture to stay near; sums to one. A source with q = 0 gets nothing where kl > 0.
        kl: how much staying near counts, 0 or more.
        caps: shape (K,), the largest share of each source; 1 is no cap.
    """

    slopes: Floats
    weights: Floats
    prior: Floats
    kl: float
    caps: Floats

    def value(self, x: Floats) -> float:
        """The objective at a mixture x, shape (K,)."""
        inside = x > 0
        divergence = float(np.sum(x[inside] * np.log(x[inside] / self.prior[inside]))) if self.kl else 0.0
        return float(self.weights @ np.exp(self.slopes @ x)) + self.kl * divergence

    def gradient(self, x: Floats) -> Floats:
        """Its gradient at an inner mixture x, shape (K,)."""
        rising: Floats = self.slopes.T @ (self.weights * np.exp(self.slopes @ x))
        return rising + self.kl * (np.log(x / self.prior) + 1) if self.kl else rising

    def curvature(self, x: Floats) -> Floats:
        """Its Hessian at an inner mixture x, shape (K, K)."""
        bend: Floats = (self.slopes.T * (self.weights * np.exp(self.slopes @ x))) @ self.slopes
        return bend + np.diag(self.kl / x) if self.kl else bend


@dataclass(frozen=True)
class SolvedMixture:
    """The solution and its certificate.

    Attributes:
        shares: shape (K,), they sum to one and keep the caps.
        value: the objective there.
        gap: the objective of no mixture that keeps the caps is lower by more than this.
    """

    shares: Floats
    value: float
    gap: float


def solve(programme: MixtureProgramme, tolerance: float = 1e-9) -> SolvedMixture:
    """Solve to a proved gap of `tolerance` times (1 + |objective|).

    Raises: MixtureError for shapes that do not fit, numbers that are not finite, negative weights, a prior that is no
    mixture, caps that sum to less than one, or a gap that cannot be closed (slopes too large for floats).
    """
    _check(programme)
    free = (programme.caps > 0) & ((programme.prior > 0) | (programme.kl == 0))
    if programme.caps[free].sum() < 1 - 1e-12:
        raise _no_room(programme.caps[free])
    inner = MixtureProgramme(
        programme.slopes[:, free],
        programme.weights,
        programme.prior[free],
        programme.kl,
        np.minimum(programme.caps[free], 1.0),
    )
    at = _interior(inner, tolerance)
    shares = np.zeros(len(programme.caps))
    shares[free] = at
    return SolvedMixture(shares, inner.value(at), _proved(inner, at, tolerance))


def gap(programme: MixtureProgramme, x: Floats) -> float:
    """By how much the objective at x can exceed its minimum, at most: g . x minus the least g . z of any mixture z."""
    gradient, caps = programme.gradient(x), programme.caps
    cheapest = np.argsort(gradient, kind="stable")
    filled = np.minimum(np.cumsum(caps[cheapest]), 1.0)
    least = np.diff(filled, prepend=0.0)
    return float(gradient @ x - gradient[cheapest] @ least)


def _interior(programme: MixtureProgramme, tolerance: float) -> Floats:
    """A mixture whose gap is well within the tolerance, or the best that floats allow."""
    caps = programme.caps
    if len(caps) == 1 or caps.sum() <= 1 + 1e-12:
        return caps / caps.sum()
    x = caps / caps.sum()
    room, barrier = caps - x, 1.0
    best, least = x, gap(programme, x)
    while barrier > LAST and least > 0.01 * tolerance:
        barrier *= SHRINK
        x, room = _centred(programme, x, room, barrier)
        mixture = np.minimum(x / x.sum(), caps)
        if (now := gap(programme, mixture)) < least:
            best, least = mixture, now
    return best


def _centred(programme: MixtureProgramme, x: Floats, room: Floats, barrier: float) -> tuple[Floats, Floats]:
    """The minimum of objective - barrier * sum (log x + log room), by Newton steps; room is cap - x.

    The room is kept by itself, because cap - x loses its digits near a cap.
    """
    for _ in range(STEPS):
        slope = programme.gradient(x) - barrier / x + barrier / room
        by = _newton(programme.curvature(x) + np.diag(barrier / x**2 + barrier / room**2), slope)
        fall = float(-slope @ by)
        if not fall > 1e-3 * barrier:
            break
        step = min(_longest(x, by), _longest(room, -by))
        while step > 1e-12:
            at, left = x + step * by, room - step * by
            if float((programme.gradient(at) - barrier / at + barrier / left) @ by) <= 0.5 * fall:
                break  # the objective is convex: it falls along the step, and does not turn steeply upwards before
            step /= 2
        x, room = at, left
    return x, room


def _newton(curvature: Floats, slope: Floats) -> Floats:
    """The Newton step that keeps the sum, shape (K,)."""
    k = len(slope)
    scale = 1 / np.sqrt(np.diag(curvature))
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = scale[:, None] * curvature * scale
    system[:k, k] = system[k, :k] = scale / scale.max()
    solved: Floats = np.linalg.solve(system, np.append(-scale * slope, 0.0))
    return scale * solved[:k]


def _longest(values: Floats, change: Floats) -> float:
    """The longest step up to 1 that keeps values above zero."""
    falling = change < 0
    if not falling.any():
        return 1.0
    return min(1.0, TO_BOUND * float(np.min(values[falling] / -change[falling])))


def _proved(programme: MixtureProgramme, x: Floats, tolerance: float) -> float:
    found = gap(programme, x)
    if not found <= tolerance * (1 + abs(programme.value(x))):
        raise MixtureError(
            "the best mixture could not be proved",
            expected=f"a gap of at most {tolerance:g} of the objective",
            found=f"a gap of {found:g} at an objective of {programme.value(x):g}; slopes up to "
            f"{float(np.abs(programme.slopes).max()):g}",
            fix="fit the losses again: slopes of more than about 100 mean that nothing limits them",
        )
    return max(found, 0.0)


def _check(programme: MixtureProgramme) -> None:
    slopes, k = programme.slopes, len(programme.caps)
    arrays: tuple[npt.NDArray[np.float64], ...] = (slopes, programme.weights, programme.prior, programme.caps)
    if slopes.ndim != 2 or slopes.shape != (len(programme.weights), k) or len(programme.prior) != k:
        raise MixtureError(
            "the parts of a mixture programme do not fit",
            expected="slopes (T, K), weights (T,), prior (K,), caps (K,)",
            found=", ".join(str(array.shape) for array in arrays),
        )
    finite = all(bool(np.isfinite(array).all()) for array in arrays) and np.isfinite(programme.kl)
    if not finite or programme.weights.min() < 0 or programme.prior.min() < 0 or programme.caps.min() < 0:
        raise MixtureError("a mixture programme needs finite numbers, and weights, prior and caps of 0 or more")
    if programme.kl < 0 or abs(programme.prior.sum() - 1) > 1e-9:
        raise MixtureError(
            "a mixture programme needs kl of 0 or more and a prior that sums to one",
            found=f"kl {programme.kl:g}, sum {programme.prior.sum():g}",
        )


def _no_room(caps: Floats) -> MixtureError:
    return MixtureError(
        "the caps leave no room for a mixture",
        expected="caps of sources with a prior above 0 that sum to one or more",
        found=f"{caps.sum():.6g}",
        fix="raise max_visits, lower the budget, or add sources",
    )
