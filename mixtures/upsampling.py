"""How often each band of quality is read: the upsampling curve of OLMo 3, flat thresholds, and weights for bands.

A source's documents are ranked by a score; a band is a range of ranks from worst (0) to best (1). A curve says how
often each band is read, so better text is repeated more and the worst is left out, at the repetition that the
mixture asks of the source as a whole. The flat threshold, keep the best part and repeat it, is the baseline.

A factor of 2.28 means every document of the band twice and 28 % of them once more. All factors are exact
fractions of at most nine decimals, computed in decimal arithmetic, the same on every machine.

How it is used: `upsampling_curve(wanted / held)`, then `curve.shares(tokens of each band)`.

Source: OLMo 3 report, as told by secondary texts: it beat flat thresholds at equal repetition.
"""

import decimal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from mixtures.shares import MixtureError, Number, finite, largest_remainder, normalised

START, TOP, BANDS = Fraction(2, 5), 7, 20
"""OLMo 3: nothing below the 40 % quantile, the best band read at most 7 times, 20 bands."""
STEEPEST = 7
"""The largest exponent p, q = p + 1 = 8: at low repetition no exponent brings the best band to its limit."""

_UNIT = 10**9
_ARITHMETIC = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)
_HALVINGS = 60


@dataclass(frozen=True)
class Curve:
    """How often each band is read.

    Args:
        edges: ranks from 0 (worst) to 1 (best), rising, one more than there are bands.
        factors: visits of each band, zero or more.
        exponent: the p of the power curve they come from; None for other curves.
    """

    edges: tuple[Fraction, ...]
    factors: tuple[Fraction, ...]
    exponent: float | None = None

    @property
    def repetition(self) -> Fraction:
        """The integral: visits of the source as a whole, where bands hold tokens in proportion to their width."""
        bands = zip(pairwise(self.edges), self.factors, strict=True)
        return sum(((high - low) * factor for (low, high), factor in bands), Fraction(0))

    def shares(self, tokens: Sequence[int]) -> list[Fraction]:
        """Each band's share of the source's visits, from the tokens it holds; they sum to one.

        Raises: MixtureError when the bands that are read hold nothing, or `tokens` has another length.
        """
        if len(tokens) != len(self.factors):
            raise MixtureError(
                "tokens do not fit the bands", expected=f"{len(self.factors)} counts", found=str(len(tokens))
            )
        return normalised([factor * held for factor, held in zip(self.factors, tokens, strict=True)])[0]


def upsampling_curve(
    repetition: Number,
    *,
    start: Number = START,
    top: Number = TOP,
    bands: int = BANDS,
    growth: Number = 0,
    exponent: Number | None = None,
) -> Curve:
    """Visits by band proportional to the mean of (x - start)^p e^(growth (x - start)) over it, zero below `start`.

    Args:
        repetition: visits of the source as a whole, wanted tokens over held ones, above 0.
        start: the rank below which nothing is read, in [0, 1).
        top: the most that a band may be read.
        bands: how many of equal width, 2 or more.
        growth: the lambda of the curve, per unit of rank, from -100 to 100.
        exponent: p, in [0, 7]. None: the p of a rising curve at which the best band is read `top` times, or 7
            where it never is.

    Raises: MixtureError when even the flattest curve reads a band more than `top` times (with growth 0: when
    repetition / (1 - start) > top), or the one asked for does.
    """
    wanted, begin, most = finite(repetition, "repetition"), finite(start, "start"), finite(top, "top")
    rate = finite(growth, "growth", signed=True)
    given = None if exponent is None else finite(exponent, "exponent")
    _check(wanted, begin, bands, rate)
    with decimal.localcontext(_ARITHMETIC):
        below = _below(begin, _decimal(rate))
        scale = _decimal(wanted) * bands
        flattest = max(Fraction(0), -rate * (1 - begin))
        p = _decimal(flattest if given is None else given)
        if given is None:
            second = Fraction(bands - 1, bands)
            p = _steepest_within(lambda p: scale * (1 - below(second, p)), p, _decimal(most))
        reached = [below(Fraction(i, bands), p) for i in range(bands + 1)]
        masses = [high - low for low, high in pairwise(reached)]
        if not 0 <= p <= STEEPEST or scale * max(masses) > _decimal(most) + Decimal("1e-20"):
            raise _too_high(wanted, begin, most, scale * max(masses), p)
    edges = tuple(Fraction(i, bands) for i in range(bands + 1))
    return Curve(edges, _factors(masses, wanted * bands), float(p))


def keep_and_repeat(keep: Number, repeat: Number) -> Curve:
    """The flat threshold: the best part `keep` of a source, read `repeat` times; repetition is their product.

    Raises: MixtureError when keep is not in (0, 1], or repeat is not above 0.
    """
    kept, times = finite(keep, "keep"), finite(repeat, "repeat")
    if not 0 < kept <= 1 or not times:
        raise MixtureError(
            "this filter keeps nothing that could be read",
            expected="keep above 0 and at most 1, repeat above 0",
            found=f"keep {float(kept):g}, repeat {float(times):g}",
        )
    if kept == 1:
        return Curve((Fraction(0), Fraction(1)), (times,))
    return Curve((Fraction(0), 1 - kept, Fraction(1)), (Fraction(0), times))


def weighted_bands(weights: Sequence[Number], repetition: Number) -> Curve:
    """Bands of equal width that get given weights of the source's visits, the best band first.

    Weights 50, 30, 20 give the best third of a source half of its visits; they are normalised to sum to one.

    Args:
        repetition: visits of the source as a whole.

    Raises: MixtureError for weights that cannot be used.
    """
    exact, _ = normalised(weights, [f"band {i + 1}" for i in range(len(weights))], "weights")
    visits = finite(repetition, "repetition") * len(exact)
    edges = tuple(Fraction(i, len(exact)) for i in range(len(exact) + 1))
    return Curve(edges, tuple(weight * visits for weight in reversed(exact)))


def _below(start: Fraction, rate: Decimal) -> Callable[[Fraction, Decimal], Decimal]:
    """A function of a rank x and an exponent p: the part of the curve's integral that lies below x."""
    width = _decimal(1 - start)

    def below(rank: Fraction, p: Decimal) -> Decimal:
        part = _decimal(max(rank - start, Fraction(0))) / width
        return _integral(part, p, rate * width) / _integral(Decimal(1), p, rate * width)

    return below


def _integral(z: Decimal, p: Decimal, rate: Decimal) -> Decimal:
    """The integral of y^p e^(rate y) over y in [0, z], times p + 1: z^(p+1) for rate 0.

    As a series without cancellation: the exponential's, integrated, for a rate above zero, and Kummer's,
    z^(p+1) e^(rate z) sum_n (-rate z)^n / ((p+2)...(p+1+n)), below.
    """
    if z == 0:
        return Decimal(0)
    power, n = Decimal(1), 0
    term = total = Decimal(1)
    while rate and term > Decimal("1e-30") * total:
        n += 1
        power *= abs(rate) * z / (n if rate > 0 else p + 1 + n)
        term = power * (p + 1) / (p + 1 + n) if rate > 0 else power
        total += term
    whole = z ** (p + 1) * total
    return whole if rate >= 0 else whole * (rate * z).exp()


def _steepest_within(best: Callable[[Decimal], Decimal], flattest: Decimal, most: Decimal) -> Decimal:
    """The largest p at which the best band is read at most `most` times, by halving; `flattest` where none is."""
    low, high = flattest, Decimal(STEEPEST)
    if best(high) <= most:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if best(middle) <= most else (low, middle)
    return low


def _factors(masses: Sequence[Decimal], total: Fraction) -> tuple[Fraction, ...]:
    """Factors of nine decimals that sum to `total` (less what does not fit nine decimals)."""
    units = largest_remainder([Fraction(mass) for mass in masses], int(total * _UNIT))
    return tuple(Fraction(one, _UNIT) for one in units)


def _decimal(value: Fraction) -> Decimal:
    return _ARITHMETIC.divide(Decimal(value.numerator), Decimal(value.denominator))


def _check(repetition: Fraction, start: Fraction, bands: int, rate: Fraction) -> None:
    if not repetition or start >= 1 or bands < 2 or abs(rate) > 100:
        raise MixtureError(
            "this curve cannot be used",
            expected="repetition above 0, start below 1, 2 bands or more, growth from -100 to 100",
            found=f"repetition {float(repetition):g}, start {float(start):g}, {bands} bands, growth {float(rate):g}",
        )


def _too_high(wanted: Fraction, start: Fraction, most: Fraction, best: Decimal, p: Decimal) -> MixtureError:
    flat = wanted / (1 - start)
    return MixtureError(
        "the source cannot be repeated this often under the limit for a band",
        expected=f"a band read at most {float(most):g} times, by an exponent of 0 to {STEEPEST}",
        found=f"a repetition of {float(wanted):.6g}, which is {float(flat):.6g} over the best {float(1 - start):.0%}: "
        f"{best:.4g} visits of a band at exponent {p:.4g}",
        where="repetition",
        fix=f"ask for at most {float(most * (1 - start)):.6g} visits of the source, start lower, or raise top"
        if flat > most
        else "use a growth or an exponent nearer to 0, or raise top",
    )
