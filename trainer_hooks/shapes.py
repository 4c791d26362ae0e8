"""Decay shapes: how a learning rate falls from one level to another, as pure functions of progress.

A shape is a curve f over progress r in [0, 1] with f(0) = 1 and f(1) = ratio, together with its integral
from 0 to r. The value gives learning rates; the integral gives exact means over an interval, which is what
turns a decay curve into merge coefficients (`trainer_hooks.averaging.curve_coefficients`).

    SHAPES["1-sqrt"].value(np.linspace(0, 1, 5), 0.0)        # 1, .5, .2929, .1340, 0
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


def _linear(r: Floats, ratio: float) -> Floats:
    return 1 - (1 - ratio) * r


def _linear_integral(r: Floats, ratio: float) -> Floats:
    return r - (1 - ratio) * r**2 / 2


def _one_minus_sqrt(r: Floats, ratio: float) -> Floats:
    return 1 - (1 - ratio) * np.sqrt(r)


def _one_minus_sqrt_integral(r: Floats, ratio: float) -> Floats:
    return r - (1 - ratio) * r**1.5 * 2 / 3


def _cosine(r: Floats, ratio: float) -> Floats:
    return ratio + (1 - ratio) * (1 + np.cos(np.pi * r)) / 2


def _cosine_integral(r: Floats, ratio: float) -> Floats:
    return ratio * r + (1 - ratio) * (r + np.sin(np.pi * r) / np.pi) / 2


def _square(r: Floats, ratio: float) -> Floats:
    return 1 - (1 - ratio) * r**2


def _square_integral(r: Floats, ratio: float) -> Floats:
    return r - (1 - ratio) * r**3 / 3


def _exponential(r: Floats, ratio: float) -> Floats:
    return np.power(ratio, r)


def _exponential_integral(r: Floats, ratio: float) -> Floats:
    return r if ratio == 1 else np.expm1(r * np.log(ratio)) / np.log(ratio)  # expm1: ratios near 1 cancel


SHAPES: dict[str, Shape] = {
    "linear": Shape(_linear, _linear_integral),
    "1-sqrt": Shape(_one_minus_sqrt, _one_minus_sqrt_integral),
    "cosine": Shape(_cosine, _cosine_integral),
    "square": Shape(_square, _square_integral),
    "exponential": Shape(_exponential, _exponential_integral, positive=True),
}
"""Names as in epfml/schedules-and-scaling; 1-sqrt is the decay of arXiv 2405.18392 and 2511.18903."""
