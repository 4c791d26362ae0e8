"""The mixture's own order: components interleaved so that each keeps its share all along, ramps included.

A draw gives every visit its place on the token axis of its phase (`mixtures.draw`): where the cumulative share of its
component reaches the middle of the visit, or the sequence that the component's turn fills. This policy sorts by it, and
moves nothing else: inside a component, visits stay in the sequence in which they were drawn. So every prefix holds each
component at its share to within half a document of each, and extending the run or editing a later phase keeps what came
before.
"""

from typing import Literal

from pydantic import Field

from curriculum.arrangement import Arrangement, column
from curriculum.policies.base import Ask, OrderPolicy


class Mixed(OrderPolicy):
    """Visits by the place that the mixture gave them."""

    kind: Literal["mixed"] = "mixed"
    by: str | None = Field(default=None, description="a score carried along for the report; it moves nothing")

    @property
    def needs(self) -> tuple[str, ...]:
        """The place, and the score carried along, where there is one."""
        return ("place", *((self.by,) if self.by else ()))

    def stretches(self, ask: Ask) -> tuple[Arrangement, ...]:
        """One stretch, sorted by place."""
        score = f"CAST({column(self.by)} AS FLOAT)" if self.by else "CAST(NULL AS FLOAT)"
        return (Arrangement(self.seed, keys=("place",), score=score, reasons=("at its place in the mixture",)),)
