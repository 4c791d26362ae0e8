"""Visits by a keyed hash: no order at all, and the control for every other."""

from typing import Literal

from pydantic import Field

from curriculum.arrangement import Arrangement, column
from curriculum.policies.base import Ask, OrderPolicy


class Shuffled(OrderPolicy):
    """Visits by a keyed hash: no order at all, and the control for every other."""

    kind: Literal["shuffled"] = "shuffled"
    by: str | None = Field(default=None, description="a score carried along for the report; it moves nothing")

    @property
    def needs(self) -> tuple[str, ...]:
        """The score carried along, where there is one."""
        return (self.by,) if self.by else ()

    def stretches(self, ask: Ask) -> tuple[Arrangement, ...]:
        """One stretch, sorted by the hash, which is the first of the ties."""
        score = f"CAST({column(self.by)} AS FLOAT)" if self.by else "CAST(NULL AS FLOAT)"
        return (Arrangement(self.seed, score=score, reasons=(f"shuffled, seed {self.seed}",)),)
