"""Whole-number arithmetic as SQL text, for places in an order that rounding must not move.

Split points, radii and tails of an order are shares of a count. Floating point would put some of them one place to the
side (0.29 x 100 is below 29), so a share is taken as the fraction that its decimals say, and all that follows is
in whole numbers, alike in DuckDB, Spark SQL and Python.

How it is used: `floor_div("29 * _count", 100)` in the keys of a policy (curriculum/policies).
"""

from fractions import Fraction

_FINEST = 1_000_000  # shares are told apart to a millionth; counts times this stay below 2^53 up to 9e9 visits


def fraction(share: float) -> Fraction:
    """The fraction that a share's decimals say: 0.075 is 3/40, and 0.3333333 is 1/3."""
    return Fraction(repr(share)).limit_denominator(_FINEST)


def floor_div(numerator: str, denominator: str | int) -> str:
    """The whole quotient of two BIGINT expressions, exact where the numerator is below 2^53."""
    return f"CAST(floor(({numerator}) / ({denominator})) AS BIGINT)"


def half_even(numerator: str, denominator: int) -> str:
    """A quotient rounded to the nearest whole number, halves to the even one, as Python's `round` of a Fraction."""
    up = floor_div(f"2 * ({numerator}) + {denominator}", 2 * denominator)
    tie = f"(2 * ({numerator}) + {denominator}) % {2 * denominator} = 0"
    return f"({up} - CASE WHEN {tie} AND {up} % 2 = 1 THEN 1 ELSE 0 END)"


def double(value: float) -> str:
    """A DOUBLE literal with every bit of a float; a bare 0.1 would be a DECIMAL."""
    return f"CAST('{value!r}' AS DOUBLE)"
