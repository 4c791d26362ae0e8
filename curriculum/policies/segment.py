"""A shuffle with ends: one tail of the scores read first, the other last, each shuffled, and the rest between.

Source: microsoft/data-efficacy, SEG, with the counts floor(N x) of its tails.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from corpus.config import Share
from curriculum.exact import floor_div, fraction
from curriculum.policies.base import ScorePolicy


class Segment(ScorePolicy):
    """The first tail of the line, the middle, the last tail; a shuffle inside each."""

    kind: Literal["segment"] = "segment"
    front: Share = Field(default=0.1, description="share of visits read first: those at the beginning of the line")
    back: Share = Field(default=0.1, description="share of visits read last: those at the end of the line")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if fraction(self.front) + fraction(self.back) > 1:
            raise ValueError(
                f"front {self.front:g} and back {self.back:g} overlap: they add up to more than 1; lower one of them"
            )
        return self

    def keys(self) -> tuple[str, ...]:
        """The segment, then the hash."""
        front, back = fraction(self.front), fraction(self.back)
        first = floor_div(f"{front.numerator} * _count", front.denominator)
        last = floor_div(f"{back.numerator} * _count", back.denominator)
        return (f"CASE WHEN _rank < {first} THEN 0 WHEN _rank < _count - {last} THEN 1 ELSE 2 END", "_hash")
