"""A share that moves in a straight line, then stays: how many tokens it has given by a place, and where it has given
them.

A source with share `start` at the beginning of a phase and `share` from the end of the ramp on has given S(x) = start
x + (share - start) x^2 / (2 ramp) tokens by place x of the ramp, and `share` a token after it. The inverse has a
closed form with one square root, so places are the same on every machine.

How it is used: `given(place, ...)` exact; `places(tokens, ...)` for arrays.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def given(place: int, start: Fraction, share: Fraction, ramp: int) -> Fraction:
    """Tokens of a source among the first `place` tokens of its phase, exactly: the integral of its share."""
    if place >= ramp:
        return (start + share) * ramp / 2 + share * (place - ramp)
    return start * place + (share - start) * place**2 / (2 * ramp)


def places(tokens: Floats, start: Fraction, share: Fraction, ramp: int) -> Floats:
    """Where in the phase a source has given so many tokens, shape (n,): the inverse of `given`.

    A share that ends at zero gives nothing after the ramp: what is beyond its integral is placed at the ramp's end.
    """
    flat = np.float64(1 / share) if share else np.float64(0)
    if not ramp:
        return tokens * flat
    knee, begin, slope = float((start + share) * ramp / 2), float(start), float(2 * (share - start) / ramp)
    with np.errstate(divide="ignore", invalid="ignore"):
        rising = 2 * tokens / (begin + np.sqrt(np.maximum(begin * begin + slope * tokens, 0)))
    return np.where(tokens <= knee, np.where(tokens > 0, rising, 0), ramp + (tokens - knee) * flat)
