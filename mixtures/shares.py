"""Shares to whole counts: how many of M tokens each source gets, and whose turn it is in a stream.

Shares are read as the decimal numbers people write (0.575 is 575/1000) and counted in whole numbers, so no
rounding of floats can move a token from one source to another.

How it is used: `largest_remainder` once for a budget; `deadline_turns` for a stream that may be extended.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from corpus.errors import GradatimError


class MixtureError(GradatimError):
    """A mixture that cannot be had as asked: shares, caps, budgets, or sources that are not there."""


def normalised(shares: Sequence[float]) -> tuple[list[Fraction], str]:
    """Shares that sum to exactly one, and a sentence saying what was changed (empty when nothing was).

    Raises MixtureError when a share is negative or none is above zero.
    """
    exact = [Fraction(str(share)) for share in shares]
    total = sum(exact, Fraction(0))
    if total <= 0 or min(exact) < 0:
        raise MixtureError(
            "the shares of a mixture cannot be used",
            expected="shares of zero or more, one of them above zero",
            found=", ".join(f"{share:g}" for share in shares) or "no shares",
        )
    said = "" if total == 1 else f"the shares sum to {float(total):.6g} and were divided by it"
    return [share / total for share in exact], said


def largest_remainder(shares: Sequence[float] | Sequence[Fraction], total: int) -> list[int]:
    """Whole counts that sum to `total`: the floor of each share, and one more for the largest remainders.

    Shares are normalised first; equal remainders go to the earlier source. For one budget only: a larger total
    may give a source less (shares 6, 6, 2 of 14 give 4, 4, 2 of ten and 5, 5, 1 of eleven).

    Source: Hamilton's method of apportionment.
    """
    exact = _exact(shares)
    counts = [int(share * total) for share in exact]
    behind = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i] * total, i))
    for i in behind[: total - sum(counts)]:
        counts[i] += 1
    return counts


def deadline_turns(shares: Sequence[float] | Sequence[Fraction], n: int) -> npt.NDArray[np.int32]:
    """Whose turn it is at each of `n` places, shape (n,), as indices of `shares`; a longer stream only adds places.

    After m places a source with share p has had p m turns, give or take at most 1 - 1/(2k - 2), for k sources.

    Source: R. Tijdeman, The chairman assignment problem (1980): with e = 1/(2k - 2), among the sources that are
    behind by at least e, the one whose next turn is due soonest, (1 - e - behind) / p; equal ones in order.
    """
    exact = _exact(shares)
    k = len(exact)
    if k == 1:
        return np.zeros(n, np.int32)
    unit = math.lcm(*(share.denominator for share in exact))
    weights = [int(share * unit) for share in exact]
    turns, counts = np.empty(n, np.int32), [0] * k
    for m in range(1, n + 1):
        due: tuple[Fraction, int] | None = None
        for i, weight in enumerate(weights):
            behind = (weight * m - unit * counts[i]) * (2 * k - 2)
            if weight and behind >= unit:
                candidate = (Fraction(unit * (2 * k - 3) - behind, weight), i)
                due = candidate if due is None or candidate < due else due
        assert due is not None, "some source is always behind by its share"
        turns[m - 1] = due[1]
        counts[due[1]] += 1
    return turns


def _exact(shares: Sequence[float] | Sequence[Fraction]) -> list[Fraction]:
    if all(isinstance(share, Fraction) for share in shares) and sum(shares) == 1:
        return [Fraction(share) for share in shares]
    return normalised([float(share) for share in shares])[0]
