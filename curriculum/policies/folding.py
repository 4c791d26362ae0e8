"""The line of scores dealt into folds, so that every part of the run climbs from low to high.

Folding reads ranks 0, L, 2L, ... then 1, L + 1, ...; zigzag turns every second fold round, so that no fold begins with
a cliff. What is left of the sort is little: the rank correlation is about 1/L, and 1/L^2. Sources: DELT (2506.21545),
microsoft/data-efficacy.
"""

from typing import Literal

from pydantic import Field, field_validator

from curriculum.order import OrderError
from curriculum.policies.base import ScorePolicy


class Folding(ScorePolicy):
    """Every `folds`-th document of the sort, then every `folds`-th from the second on, and so on."""

    kind: Literal["folding"] = "folding"
    folds: int = Field(
        default=3, ge=2, description="climbs in the run, 2 or more; 3 was best in DELT, 5 is common code's"
    )

    def keys(self) -> tuple[str, ...]:
        """The fold, then the line inside it."""
        return (f"_rank % {self.folds}", "_rank")

    def check_line(self, visits: int, line: str) -> None:
        """Refuse lines too short to be folded."""
        if visits < self.folds:
            raise OrderError(
                f"{self.kind} cannot deal {visits:,} visits into {self.folds} folds",
                expected=f"at least {self.folds} visits in {line}",
                where="order.folds",
                fix=f"set order.folds to at most {visits:,}, or order more visits"
                if visits >= 2
                else "order more visits",
            )


class Zigzag(Folding):
    """Folding with every second fold turned round: up, down, up."""

    kind: Literal["zigzag"] = "zigzag"  # type: ignore[assignment]
    folds: int = Field(default=5, ge=3, description="climbs and descents together, an odd number")

    @field_validator("folds")
    @classmethod
    def _odd(cls, folds: int) -> int:
        if folds % 2 == 0:
            raise ValueError(
                f"zigzag with {folds} folds would end on the scores it began with; write an odd number, "
                f"such as {folds - 1} or {folds + 1}"
            )
        return folds

    def keys(self) -> tuple[str, ...]:
        """The fold, then the line inside it, turned round in every second one."""
        fold = f"_rank % {self.folds}"
        return (fold, f"CASE WHEN ({fold}) % 2 = 1 THEN -_rank ELSE _rank END")
