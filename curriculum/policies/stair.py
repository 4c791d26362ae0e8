"""A sort whose line is softened around a few split points, so that no score leaves the run for good at a border.

The line is cut into `pieces` of equal size; around each of the cuts, within `radius` of it, the visits are folded
(stair) or zigzagged (saw). Cuts and radius are rounded half to even. Windows that would overlap are refused and
never shrunk. Source: microsoft/data-efficacy, STR and SAW.
"""

from fractions import Fraction
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from corpus.config import Share
from curriculum.arrangement import Derive, Step
from curriculum.exact import floor_div, fraction, half_even
from curriculum.order import OrderError
from curriculum.policies.base import Ask, ScorePolicy


class Stair(ScorePolicy):
    """Sorted, with the surroundings of each split point folded."""

    kind: Literal["stair"] = "stair"
    pieces: int = Field(default=2, ge=2, description="S: the line has S - 1 split points")
    radius: Share = Field(default=0.225, gt=0, description="rho: how far around a split point, as a share of the line")
    folds: int = Field(default=3, ge=2, description="folds around each split point")

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if 2 * fraction(self.radius) >= Fraction(1, self.pieces):
            raise ValueError(
                f"{self.kind} needs 2 x radius below 1 / pieces, or its windows overlap: radius {self.radius:g} with "
                f"{self.pieces} pieces gives {2 * self.radius:g} against {1 / self.pieces:g}; set radius below "
                f"{0.5 / self.pieces:.4g}, or fewer pieces"
            )
        return self

    def check_line(self, visits: int, line: str) -> None:
        """Refuse lines so short that rounding makes windows overlap."""
        radius = round(fraction(self.radius) * visits)
        for a, b in pairwise(round(Fraction(visits * j, self.pieces)) for j in range(1, self.pieces)):
            if b - a < 2 * radius:
                raise OrderError(
                    f"{self.kind} has windows that overlap in {visits:,} visits",
                    expected=f"split points at least {2 * radius} visits apart in {line}",
                    found=f"{a} and {b}",
                    where="order.pieces",
                    fix="set fewer pieces or a smaller radius, or order more visits",
                )

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The window that holds a visit, by its first rank: one of the two split points beside the visit has it."""
        rho = fraction(self.radius)
        before = floor_div(f"_rank * {self.pieces}", "_count")
        low, high = (half_even(f"_count * {piece}", self.pieces) for piece in ("_piece", "(_piece + 1)"))
        window = (
            f"CASE WHEN _piece >= 1 AND _rank >= _low - _reach AND _rank < _low + _reach THEN _low - _reach "
            f"WHEN _piece < {self.pieces - 1} AND _rank >= _high - _reach AND _rank < _high + _reach "
            f"THEN _high - _reach ELSE _rank END"
        )
        return (
            *super().steps(groups, ask),
            Derive({"_piece": before, "_reach": half_even(f"_count * {rho.numerator}", rho.denominator)}),
            Derive({"_low": low, "_high": high}),
            Derive({"_window": window}),
        )

    def keys(self) -> tuple[str, ...]:
        """The window (a visit outside is one of its own), the fold, then the line."""
        return ("_window", f"(_rank - _window) % {self.folds}", "_rank")


class Saw(Stair):
    """Sorted, with the surroundings of each split point zigzagged."""

    kind: Literal["saw"] = "saw"  # type: ignore[assignment]
    pieces: int = Field(default=3, ge=2, description="S: the line has S - 1 split points")
    radius: Share = Field(default=0.075, gt=0, description="rho: how far around a split point, as a share of the line")
    folds: int = Field(default=2, ge=2, description="climbs and descents around each split point")

    def keys(self) -> tuple[str, ...]:
        """As stair, every second fold turned round."""
        fold = f"(_rank - _window) % {self.folds}"
        return ("_window", fold, f"CASE WHEN ({fold}) % 2 = 1 THEN -_rank ELSE _rank END")
