"""Shares to whole counts: how many of M tokens each source gets, and whose turn it is in a stream.

Shares are read as the decimal numbers people write (0.575 is 575/1000) and counted in whole numbers, so no
rounding of floats can move a token from one source to another.

How it is used: `largest_remainder` once for a budget; `deadline_turns` for a stream that may be extended, and
`block_turns` where a fixed rhythm of the turns would be a pattern the model could learn.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.errors import GradatimError
from corpus.keyed_random import keyed_hashes

Number = float | Fraction
"""An int, a float (read as the decimal it prints as) or an exact fraction."""
Turns = npt.NDArray[np.int32]


class MixtureError(GradatimError):
    """A mixture that cannot be had as asked: shares, caps, budgets, or sources that are not there."""


def exactly(value: Number) -> Fraction | None:
    """The number as it is written, as a fraction: .1 is 1/10. None for NaN and infinity."""
    if isinstance(value, Fraction):
        return value
    return Fraction(str(value)) if np.isfinite(value) else None


def finite(value: Number, where: str, *, signed: bool = False) -> Fraction:
    """The number as it is written. Raises MixtureError, naming `where`, for NaN, infinity, or less than zero."""
    exact = exactly(value)
    if exact is None or (exact < 0 and not signed):
        raise MixtureError(
            f"{where} cannot be used",
            expected="a finite number" if signed else "a finite number of zero or more",
            found=f"{float(value):g}",
            where=where,
        )
    return exact


def normalised(shares: Sequence[Number], names: Sequence[str] = (), where: str = "") -> tuple[list[Fraction], str]:
    """Shares that sum to exactly one, and a sentence saying what was changed (empty when nothing was).

    Args:
        names: the sources, one a share, for what an error says; where: the setting the shares come from.

    Raises: MixtureError when a share is negative, NaN or infinite, none is above zero, or a name occurs twice.
    """
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise MixtureError(
            f"the source {twice[0]!r} is named twice in a mixture",
            expected="each source once",
            where=where,
            fix="keep one entry and add the shares up",
        )
    read = [exactly(share) for share in shares]
    exact = [share for share in read if share is not None and share >= 0]
    total = sum(exact, Fraction(0))
    if total == 0 or len(exact) < len(read):
        raise _unusable(shares, read, names, where)
    said = "" if total == 1 else f"the shares sum to {float(total):.6g} and were divided by it"
    return [share / total for share in exact], said


def largest_remainder(shares: Sequence[Number], total: int) -> list[int]:
    """Whole counts that sum to `total`: the floor of each share, and one more for the largest remainders.

    Shares are normalised first; equal remainders go to the earlier source. For one budget only: a larger total
    may give a source less (shares 6, 6, 2 of 14 give 4, 4, 2 of ten and 5, 5, 1 of eleven).

    Source: Hamilton's method of apportionment.
    """
    exact, _ = normalised(shares)
    counts = [share.numerator * total // share.denominator for share in exact]
    behind = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i] * total, i))
    for i in behind[: total - sum(counts)]:
        counts[i] += 1
    return counts


def deadline_turns(shares: Sequence[Number], n: int) -> Turns:
    """Whose turn it is at each of `n` places, shape (n,), as indices of `shares`; a longer stream only adds places.

    After m places a source with share p has had p m turns, give or take at most 1 - 1/(2k - 2), for the k sources
    with a share above zero. Cost grows as n k. Whole numbers throughout, compiled where they fit 64 bits: shares that
    are token counts or have 12 digits do; floats of 17 digits may not, and then take some twenty times as long.

    Source: R. Tijdeman, The chairman assignment problem (1980). With e = 1/(2k - 2), turn c (from 0) of a source may
    come from place (c + e)/p on and is due by place (c + 1 - e)/p; of the turns that may come, the one due first
    does, and of equal ones the earlier source's. That is the rule "among the sources behind by at least e, the
    smallest (1 - e - behind)/p", seen from the turns.
    """
    exact, _ = normalised(shares)
    drawn = [i for i, share in enumerate(exact) if share]
    turns = np.zeros(n, np.int32)
    if len(drawn) == 1:
        turns[:] = drawn[0]
        return turns
    edge = 2 * len(drawn) - 2
    state = [_first_turn(exact[i], edge) for i in drawn]
    columns = [list(column) for column in zip(*state, strict=True)]
    reach = max(max(parts * 2, n + 3 * (step + 1)) for _, _, _, _, step, _, parts in state)
    if reach < 2**62:
        _compiled()(turns, *(np.array(column, np.int64) for column in columns))
    else:
        _fill_turns(turns, *columns)
    return turns if len(drawn) == len(exact) else np.array(drawn, np.int32)[turns]


def block_turns(shares: Sequence[Number], n: int, *, block: int, names: Sequence[str], seed: int) -> Turns:
    """Whose turn it is at each of `n` places, shape (n,): counts exact in every block, keyed order inside it.

    Each block of `block` places holds the turns that `deadline_turns` gives it, so after every block each source
    is within 1 - 1/(2k - 2) of its share, and has exactly its share of every block where that is a whole number.
    Inside a block turns are sorted by keys: turn c of a source has the c-th word of a Philox stream keyed by (seed, its
    name). A longer run only adds places.

    Raises: MixtureError for shares that cannot be used, names that do not fit them or occur twice, or an empty block.
    """
    if len(names) != len(shares):
        raise MixtureError("turns need a name a share", expected=f"{len(shares)} names", found=str(len(names)))
    normalised(shares, names)
    if block < 1:
        raise MixtureError("a block of turns holds no place", expected="block of 1 or more", found=str(block))
    return keyed_blocks(deadline_turns(shares, -(-n // block) * block), block=block, names=names, seed=seed)[:n]


def keyed_blocks(turns: Turns, *, block: int, names: Sequence[str], seed: int) -> Turns:
    """The same turns in every block of `block` places, in keyed order, shape (n,); a longer array only adds blocks.

    Args:
        turns: as indices of `names`, shape (n,), n a multiple of `block`.
    """
    keys = np.empty(len(turns), np.uint64)
    for i, key in enumerate(keyed_hashes(seed, names)):
        places = np.flatnonzero(turns == i)
        keys[places] = np.random.Philox(key=int(key)).random_raw(len(places))
    order = np.argsort(keys.reshape(-1, block), axis=1, kind="stable")
    arranged: Turns = np.take_along_axis(turns.reshape(-1, block), order, axis=1).reshape(-1)
    return arranged


def _unusable(
    shares: Sequence[Number], read: Sequence[Fraction | None], names: Sequence[str], where: str
) -> MixtureError:
    labels = names or [f"share {i}" for i in range(len(shares))]
    wrong = [i for i, share in enumerate(read) if share is None or share < 0]
    said = [f"{labels[i]}: {float(shares[i]):g}" for i in (wrong or range(len(shares)))]
    return MixtureError(
        "the shares of a mixture cannot be used",
        expected="finite shares of zero or more" if wrong else "a share above zero",
        found=", ".join(said) or "no shares",
        where=where,
        fix="give each source its part, such as 0.3 or 30%; leave out what is not to be read",
    )


def _first_turn(share: Fraction, edge: int) -> tuple[int, ...]:
    """When the first turn of a share a/b may come and is due, and how far apart turns are, for e = 1/edge.

    All are places, floor and rest, the rests counted in parts of a * edge: (ready, rest, due, rest, step, rest, parts).
    """
    a, b = share.numerator, share.denominator
    parts = a * edge
    return (*divmod(b, parts), *divmod(b * (edge - 1), parts), b // a, b % a * edge, parts)


@functools.cache
def _compiled() -> Any:
    import numba
    from numba.extending import register_jitable

    register_jitable(_sooner)
    return numba.njit(cache=True, nogil=True, error_model="numpy")(_fill_turns)


def _sooner(a: int, b: int, c: int, d: int) -> bool:
    """Whether a/b < c/d, for 0 <= a < b and 0 <= c < d, by Euclid's algorithm: nothing is multiplied."""
    while c:
        if a == 0:
            return True
        right, left = d // c, b // a  # a/b < c/d where d/c < b/a
        if right != left:
            return right < left
        a, b, c, d = d % c, c, b % a, a
    return False


def _fill_turns(
    turns: Turns,
    ready: list[int],
    ready_rest: list[int],
    due: list[int],
    due_rest: list[int],
    step: list[int],
    step_rest: list[int],
    parts: list[int],
) -> None:
    """Fill `turns` by the deadline rule. Run as it stands on Python's integers, or compiled on arrays of int64."""
    for place in range(len(turns)):
        best = -1
        for i in range(len(parts)):
            if ready[i] > place + 1 or (ready[i] == place + 1 and ready_rest[i] > 0):
                continue
            if (
                best < 0
                or due[i] < due[best]
                or (due[i] == due[best] and _sooner(due_rest[i], parts[i], due_rest[best], parts[best]))
            ):
                best = i
        assert best >= 0, "some source is always behind by its share"
        turns[place] = best
        ready_rest[best] += step_rest[best]
        ready[best] += step[best] + ready_rest[best] // parts[best]
        ready_rest[best] %= parts[best]
        due_rest[best] += step_rest[best]
        due[best] += step[best] + due_rest[best] // parts[best]
        due_rest[best] %= parts[best]
