"""Lengths and ratios as a plan writes them: `30B`, `64K`, `15%`, `1/300`.

A length on the token axis is a share of the run or a count of tokens, never both, and is made exact once, by
`trainer_hooks.resolution`. One phase of a plan may take the `rest` of the run.
"""

from fractions import Fraction
from math import floor
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from corpus.config import Config, parse_count, parse_share


def parse_ratio(value: Any) -> Any:
    """Turn `1/300`, `33%` or a number in [0, 1] into a float. Raises ValueError for other text."""
    if isinstance(value, str) and "/" in value:
        try:
            value = float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is not a ratio; write for example 1/300, 0.33 or 33%") from None
    return parse_share(value)


def parse_length(value: Any) -> Any:
    """Turn `15%` or 0.15 into a share of the run and `64K` or 1000 into a count of tokens.

    A bare 1 is refused, because it may mean one token or the whole run.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.endswith("%") or (text[-1:].isdigit() and "." in text):
            return {"share": parse_share(text)}
        value = parse_count(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value == 1 and isinstance(value, int):
        raise ValueError("1 may mean one token or the whole run; write 100% or 1.0 for the whole run")
    return {"tokens": value} if isinstance(value, int) else {"share": parse_share(value)}


class LengthValue(Config):
    """A length on the token axis: a share of the run, or a count of tokens; never both."""

    share: float | None = Field(default=None, ge=0, le=1, description="a share of the plan's tokens")
    tokens: int | None = Field(default=None, ge=0, description="a count of tokens")

    @model_validator(mode="after")
    def _one_unit(self) -> "LengthValue":
        if (self.share is None) == (self.tokens is None):
            raise ValueError("a length is either a share of the run or a count of tokens, not both and not neither")
        return self

    def of(self, total: int) -> Fraction:
        """The exact length in tokens in a run of `total` tokens."""
        if self.tokens is not None:
            return Fraction(self.tokens)
        assert self.share is not None
        return Fraction(self.share).limit_denominator(10**9) * total

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens" if self.share is None else f"{100 * self.share:g}%"


class PhaseLengthValue(LengthValue):
    """The length of a phase: as any other, or what the other phases leave of the run."""

    rest: bool = Field(default=False, description="all that the other phases of the plan leave")

    @model_validator(mode="after")
    def _one_unit(self) -> "PhaseLengthValue":
        if self.rest + (self.share is not None) + (self.tokens is not None) != 1:
            raise ValueError("a phase's length is a share of the run, a count of tokens or rest; not both, not neither")
        return self

    def __str__(self) -> str:
        return "rest" if self.rest else super().__str__()


def parse_phase_length(value: Any) -> Any:
    """Turn `rest` into what the other phases leave, and all else as `parse_length` does."""
    if isinstance(value, LengthValue):
        return value.model_dump()
    return {"rest": True} if value == "rest" else parse_length(value)


Length = Annotated[LengthValue, BeforeValidator(parse_length)]
PhaseLength = Annotated[PhaseLengthValue, BeforeValidator(parse_phase_length)]
Ratio = Annotated[float, BeforeValidator(parse_ratio)]


def half_up(value: Fraction) -> int:
    """The nearest whole number; halves go up."""
    return floor(value + Fraction(1, 2))
