"""Decay shapes: how a learning rate falls from one level to another, as pure functions of progress.

A shape is a curve f over progress r in [0, 1] with f(0) = 1 and f(1) = ratio, together with its integral
from 0 to r. The value gives learning rates; the integral gives exact means over an interval, which is what
turns a decay curve into merge coefficients (`trainer_hooks.averaging_rules.curve_coefficients`).

    SHAPES["1-sqrt"].value(np.linspace(0, 1, 5), 0.0)        # 1, .5, .2929, .1340, 0
    polynomial(3.0).value(np.linspace(0, 1, 5), 0.0)         # a shape with a parameter
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Curve = Callable[[Floats, float], Floats]


@dataclass(frozen=True)
class Shape:
    """A decay shape.

    Args:
        value: (r, ratio) -> f(r); r of any shape, float64 in [0, 1]; ratio in [0, 1].
        integral: (r, ratio) -> the integral of f from 0 to r, in closed form.
        positive: whether the ratio must be above 0 (a curve through log 0 does not exist).
    """

    value: Curve
    integral: Curve
    positive: bool = False


def falling(part: Callable[[Floats], Floats], integral: Callable[[Floats], Floats]) -> Shape:
    """The shape 1 - (1 - ratio) g(r), where g rises from 0 to 1; `part` is g, `integral` that of g from 0."""
    return Shape(
        lambda r, ratio: 1 - (1 - ratio) * part(r),
        lambda r, ratio: r - (1 - ratio) * integral(r),
    )


def polynomial(power: float) -> Shape:
    """ratio + (1 - ratio) (1 - r)^power; 1 is linear. The power is above 0."""
    return falling(
        lambda r: 1 - np.power(1 - r, power),
        lambda r: r - (1 - np.power(1 - r, power + 1)) / (power + 1),
    )


def inverse_sqrt(alpha: float) -> Shape:
    """1 - (1 - ratio) h(r) / h(1) with h(x) = 1 / sqrt(1 + alpha x) - 1, alpha above 0.

    Source: the cooldown of infinite schedules, arXiv 2403.08763 and 2503.02844, which take alpha 10.
    """
    whole = 1 / np.sqrt(1 + alpha) - 1
    return falling(
        lambda r: (1 / np.sqrt(1 + alpha * r) - 1) / whole,
        lambda r: ((np.sqrt(1 + alpha * r) - 1) * 2 / alpha - r) / whole,
    )


def _cosine(r: Floats) -> Floats:
    return np.asarray((1 - np.cos(np.pi * r)) / 2)


def _cosine_integral(r: Floats) -> Floats:
    return np.asarray((r - np.sin(np.pi * r) / np.pi) / 2)


def _exponential(r: Floats, ratio: float) -> Floats:
    return np.power(ratio, r)


def _exponential_integral(r: Floats, ratio: float) -> Floats:
    return r if ratio == 1 else np.expm1(r * np.log(ratio)) / np.log(ratio)  # expm1: ratios near 1 cancel


SHAPES: dict[str, Shape] = {
    "linear": falling(lambda r: r, lambda r: r**2 / 2),
    "1-sqrt": falling(np.sqrt, lambda r: r**1.5 * 2 / 3),
    "cosine": falling(_cosine, _cosine_integral),
    "mirror_cosine": falling(lambda r: 2 * r - _cosine(r), lambda r: r**2 - _cosine_integral(r)),
    "square": falling(lambda r: r**2, lambda r: r**3 / 3),
    "polynomial": polynomial(2.0),
    "exponential": Shape(_exponential, _exponential_integral, positive=True),
    "megatron_exponential": falling(
        lambda r: 2 - 2 * np.exp2(-r), lambda r: 2 * r + 2 * np.expm1(-r * np.log(2)) / np.log(2)
    ),
    "inverse_sqrt": inverse_sqrt(10.0),
}
"""By name, those with a parameter at its usual value. Names as in epfml/schedules-and-scaling and Megatron-LM; 1-sqrt
is the decay of arXiv 2405.18392 and 2511.18903."""


def shape_of(name: str, *, power: float | None = None, alpha: float | None = None) -> Shape:
    """The shape of a name; `power` is the parameter of polynomial, `alpha` that of inverse_sqrt, None the usual one."""
    if power is not None:
        assert name == "polynomial"
        return polynomial(power)
    if alpha is not None:
        assert name == "inverse_sqrt"
        return inverse_sqrt(alpha)
    return SHAPES[name]
