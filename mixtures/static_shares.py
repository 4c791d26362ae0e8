"""Shares that follow from what the sources hold: proportional, uniform, by temperature, UniMax; with floors and caps.

They are the mixtures to begin with and to measure learned ones against. All are exact fractions that sum to one,
by source, so a plan can say which bound a source stands at by comparing for equality; powers are computed in
decimal arithmetic of a fixed precision, which gives the same digits on every machine.

How it is used: `temperature_shares(tokens, 2)`, then `capped(shares, tokens, budget, 4)`, then
`mixtures.shares.largest_remainder`.

Sources: UniMax arXiv 2304.09151; caps as in Olmix (4 visits), RegMix (15 times the prior), OLMo 3 (4 to 7).
"""

import bisect
import decimal
import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from corpus.config import nearest
from mixtures.shares import MixtureError, Number, finite, normalised

Shares = dict[str, Fraction]
Visits = Number | Mapping[str, Number]
_ARITHMETIC = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)
_DIGITS = decimal.Context(prec=12, rounding=decimal.ROUND_HALF_EVEN)


def proportional_shares(tokens: Mapping[str, int]) -> Shares:
    """Each source's part of all tokens, n_i / sum n. Raises MixtureError for a source that holds none."""
    _hold_tokens(tokens)
    return {name: Fraction(held, sum(tokens.values())) for name, held in tokens.items()}


def uniform_shares(tokens: Mapping[str, int]) -> Shares:
    """1/k for each of k sources. Raises MixtureError for a source that holds no tokens."""
    _hold_tokens(tokens)
    return {name: Fraction(1, len(tokens)) for name in tokens}


def temperature_shares(tokens: Mapping[str, int], temperature: float) -> Shares:
    """n_i^(1/T) over their sum: T = 1 is proportional, T = infinity uniform; above 1 small sources gain.

    For other T the powers are rounded to 12 digits, the same on every machine.

    Raises: MixtureError for a temperature that is not above zero, or a source that holds no tokens.
    """
    if not temperature > 0:
        raise MixtureError(
            "this temperature cannot be used for shares",
            expected="above 0: 1 is proportional, inf is uniform",
            found=f"{temperature:g}",
            where="temperature",
        )
    if temperature == 1:
        return proportional_shares(tokens)
    if math.isinf(temperature):
        return uniform_shares(tokens)
    _hold_tokens(tokens)
    power = _ARITHMETIC.divide(1, Decimal(str(temperature)))
    largest = max(tokens.values())
    raised = [_ARITHMETIC.power(_ARITHMETIC.divide(held, largest), power) for held in tokens.values()]
    exact, _ = normalised([Fraction(_DIGITS.plus(value)) for value in raised])
    return dict(zip(tokens, exact, strict=True))


def unimax_tokens(tokens: Mapping[str, int], budget: int, epochs: Visits) -> dict[str, int]:
    """Whole tokens for each source, as even as its text allows: none is read more than `epochs` times.

    From the source that may give least on, each gets an equal part of what is left of the budget, or all it may
    give. So a source that gets fewer tokens than another is at its cap (but for one token, where parts are not whole).

    Args:
        epochs: for all sources, or for each by name.

    Raises: MixtureError when the budget exceeds what the epochs allow (which the paper leaves unspent), or a source
    holds no tokens.

    Source: arXiv 2304.09151, algorithm 1.
    """
    _hold_tokens(tokens)
    caps = _most(tokens, epochs)
    if sum(caps.values()) < budget:
        raise _too_few(tokens, budget, caps)
    left, given = budget, dict.fromkeys(tokens, 0)
    for i, name in enumerate(sorted(caps, key=lambda name: caps[name])):
        given[name] = min(left // (len(caps) - i), caps[name])
        left -= given[name]
    return given


def capped(shares: Mapping[str, Number], tokens: Mapping[str, int], budget: int, max_visits: Visits) -> Shares:
    """Shares under which no source is read more than `max_visits` times in a run of `budget` tokens.

    A source over max_visits * n_i / budget is clipped to it and the free ones are rescaled, until none is over.

    Args:
        max_visits: for all sources, or for each by name.

    Raises: MixtureError when all sources with a share, each read so often, hold less than the budget.
    """
    exact = _by_name(shares)
    if budget < 1:
        raise MixtureError("a cap on visits needs a budget", expected="1 token or more", found=str(budget))
    _known(exact, tokens, "shares")
    read = {name: tokens[name] for name, share in exact.items() if share}
    _hold_tokens(read)
    times = _times(read, max_visits)
    if sum(times[name] * held for name, held in read.items()) < budget:
        raise _too_few(read, budget, _most(read, max_visits))
    return bounded(exact, ceilings={name: times[name] * held / budget for name, held in read.items()})


def bounded(
    shares: Mapping[str, Number],
    floors: Mapping[str, Number] | None = None,
    ceilings: Mapping[str, Number] | None = None,
) -> Shares:
    """The shares nearest to those asked for that keep to floors and ceilings: asked * s, clipped, with one s for all.

    Sources between their bounds keep their proportions to each other. A source with a share of zero gets its floor.

    Args:
        floors, ceilings: the least and the most that a source may have, as shares of the budget; a ceiling above 1
            binds nothing.

    Raises: MixtureError for bounds that name no source, cross, or cannot be met together: floors that sum to more
    than one, ceilings of what may be read to less.
    """
    exact = _by_name(shares)
    low = {**dict.fromkeys(exact, Fraction(0)), **_bounds(exact, floors or {}, "floors")}
    high = {**dict.fromkeys(exact, Fraction(1)), **_bounds(exact, ceilings or {}, "ceilings")}
    high = {name: min(high[name], Fraction(1)) if share else low[name] for name, share in exact.items()}
    _check_bounds(low, high)

    def clipped(scale: Fraction) -> Shares:
        return {name: min(max(scale * share, low[name]), high[name]) for name, share in exact.items()}

    turns = [Fraction(0), *sorted({b[name] / share for name, share in exact.items() if share for b in (low, high)})]
    # the sum of clipped shares grows with the scale in straight pieces: find the piece that passes one
    after = bisect.bisect_right(turns, Fraction(1), key=lambda scale: sum(clipped(scale).values(), Fraction(0)))
    below = turns[after - 1]
    if after == len(turns):
        return clipped(below)
    at_below, above = (sum(clipped(scale).values(), Fraction(0)) for scale in (below, turns[after]))
    return clipped(below + (1 - at_below) * (turns[after] - below) / (above - at_below))


def _by_name(shares: Mapping[str, Number]) -> Shares:
    exact, _ = normalised(list(shares.values()), list(shares))
    return dict(zip(shares, exact, strict=True))


def _bounds(shares: Shares, bounds: Mapping[str, Number], kind: str) -> Shares:
    _known(bounds, shares, kind)
    return {name: finite(bound, f"{kind}.{name}") for name, bound in bounds.items()}


def _known(names: Mapping[str, object], known: Mapping[str, object], where: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MixtureError(f"{where} name the source {unknown[0]!r}, which is not there{nearest(unknown[0], known)}")


def _check_bounds(low: Shares, high: Shares) -> None:
    crossed = [name for name in low if low[name] > high[name]]
    if crossed:
        name = crossed[0]
        raise MixtureError(
            f"the source {name!r} cannot have its floor",
            expected=f"a share of {float(low[name]):.6g} or more",
            found=f"a ceiling of {float(high[name]):.6g}",
            where=f"floors.{name}",
            fix=f"lower the floor to {float(high[name]):.6g}, or allow more visits of {name}",
        )
    for bounds, word, sign in ((low, "floors", 1), (high, "ceilings", -1)):
        total = sum(bounds.values(), Fraction(0))
        if (total - 1) * sign > 0:
            set_ = ", ".join(f"{name} {float(bound):.6g}" for name, bound in bounds.items() if bound)
            raise MixtureError(
                f"the {word} cannot be kept together",
                expected=f"{word} that sum to {'at most' if sign > 0 else 'at least'} 1",
                found=f"{float(total):.6g}: {set_}",
                where=word,
                fix="lower one of the floors" if sign > 0 else "raise one of the ceilings, or add a source",
            )


def _hold_tokens(tokens: Mapping[str, int]) -> None:
    empty = [name for name, held in tokens.items() if held < 1]
    if empty or not tokens:
        raise MixtureError(
            f"the source {empty[0]!r} holds no tokens" if empty else "there is no source",
            expected="1 token or more in each source",
            found=str(tokens[empty[0]]) if empty else "",
            fix="leave the source out, or check that its shards are those meant",
        )


def _times(tokens: Mapping[str, int], visits: Visits) -> Shares:
    if isinstance(visits, Mapping):
        _known(tokens, visits, "tokens")
        return {name: finite(visits[name], f"max_visits.{name}") for name in tokens}
    return dict.fromkeys(tokens, finite(visits, "max_visits"))


def _most(tokens: Mapping[str, int], visits: Visits) -> dict[str, int]:
    return {name: math.floor(tokens[name] * times) for name, times in _times(tokens, visits).items()}


def _too_few(tokens: Mapping[str, int], budget: int, caps: Mapping[str, int]) -> MixtureError:
    held, most = sum(tokens.values()), sum(caps.values())
    return MixtureError(
        "the sources hold too little for the budget",
        expected=f"{budget:,} tokens",
        found=f"{held:,} tokens in {len(tokens)} sources, which give {most:,} under the cap on visits",
        where="tokens",
        fix=f"allow {math.ceil(Fraction(1000 * budget, held)) / 1000:.10g} visits of each, or set tokens: {most}",
    )
