"""Whose turn it is along a phase whose shares may move: Tijdeman's deadline rule, for constant shares and for ramps.

A turn is a whole sequence of tokens from one component. After m turns a component with the integral S(m) of its share
has had S(m) turns, give or take at most 1 - 1/(2k - 2) for k components; more turns only add places. The theorem
holds for shares that change from turn to turn: with e = 1/(2k - 2), turn c of a component may come at the first m
with S(m) >= c + e, and must have come at the first m with S(m) > c + 1 - e; of the turns that may come, the one due
first does.

How it is used: `turns_of(starts, shares, ramp, n)`; without a ramp it is `mixtures.shares.deadline_turns`.

Source: R. Tijdeman, The chairman assignment problem (1980).
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from mixtures.ramps import given, places
from mixtures.shares import Turns, deadline_turns

Ints = npt.NDArray[np.int64]

_NEVER = 2**62
_NEAR = 1e-6  # floats decide where they are further than this from a whole place; fractions decide the rest


def turns_of(starts: Sequence[Fraction], shares: Sequence[Fraction], ramp: int, n: int) -> Turns:
    """Whose turn it is at each of `n` places, shape (n,), as indices of `shares`.

    Args:
        starts: shares at the first place; shares: from place `ramp` on; both sum to one.
    """
    read = [i for i in range(len(shares)) if shares[i] or (ramp and starts[i])]
    if not ramp or len(read) < 2:
        return deadline_turns(shares, n)
    edge = Fraction(1, 2 * len(read) - 2)
    ready, due = [], []
    for i in read:
        line = (starts[i], shares[i], ramp)
        turn = np.arange(int(given(n, *line)) + 2, dtype=np.int64)
        ready.append(_first(turn, edge, *line, strict=False))
        due.append(_first(turn, 1 - edge, *line, strict=True))
    begins = np.cumsum([0, *(len(one) for one in ready)])
    turns = np.zeros(n, np.int32)
    _compiled()(turns, np.concatenate(ready), np.concatenate(due), begins[:-1].copy())
    return np.array(read, np.int32)[turns]


def _first(turn: Ints, offset: Fraction, start: Fraction, share: Fraction, ramp: int, *, strict: bool) -> Ints:
    """The first place m with S(m) >= turn + offset (or above it, where strict), for each turn; _NEVER for none."""
    line = (start, share, ramp)
    at = places(turn.astype(np.float64) + float(offset), *line)
    found = np.floor(at).astype(np.int64) + 1 if strict else np.ceil(at).astype(np.int64)
    error = _NEAR * (1 + 0.1 * at)  # where a ramp ends at zero the root is good to half the digits only
    near = np.abs(at - np.rint(at)) < error
    flat = np.flatnonzero(near & (at > ramp + 1))
    if share and len(flat):
        found[flat] = ramp + _quotients(turn[flat], share, offset - given(ramp, *line), strict=strict)
    for i in np.flatnonzero(near & (at <= ramp + 1)).tolist():
        lowest = max(int(at[i] - error[i]) - 1, 0)
        found[i] = _search(int(turn[i]) + offset, lowest, *line, strict=strict)
    return found


def _quotients(turn: Ints, share: Fraction, offset: Fraction, *, strict: bool) -> Ints:
    """(turn + offset) / share, rounded up, or to the next whole number above it where strict; exact."""
    step, first = 1 / share, offset / share
    parts = math.lcm(step.denominator, first.denominator)
    above = turn.astype(object) * int(step * parts) + int(first * parts)
    return (above // parts + 1 if strict else -(-above // parts)).astype(np.int64)


def _search(target: Fraction, place: int, start: Fraction, share: Fraction, ramp: int, *, strict: bool) -> int:
    """The first place from `place` on by which the integral has reached, or where strict passed, a target."""
    while True:
        reached = given(place, start, share, ramp)
        if reached > target or (reached == target and not strict):
            return place
        if place >= ramp and not share:
            return _NEVER
        place += 1


@functools.cache
def _compiled() -> Any:
    import numba

    return numba.njit(cache=True, nogil=True)(_earliest_due)


def _earliest_due(turns: Turns, ready: Any, due: Any, next_turn: Any) -> None:
    """Fill `turns`: of the turns that are ready the one due first, of equal ones the earlier source's."""
    ends = np.empty_like(next_turn)
    ends[:-1] = next_turn[1:]
    ends[-1] = len(ready)
    for place in range(1, len(turns) + 1):
        best, earliest = -1, 0
        for i in range(len(next_turn)):
            at = next_turn[i]
            if at < ends[i] and ready[at] <= place and (best < 0 or due[at] < earliest):
                best, earliest = i, due[at]
        assert best >= 0, "some source is always behind by its share"
        turns[place - 1] = best
        next_turn[best] += 1
