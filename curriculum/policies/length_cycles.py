"""Pieces of documents by their length: short ones first, in one climb or in several, or just as they are.

For visits cut into pieces of powers of two (curriculum/power_pieces.py; `pieces` asks for it), so that a sequence
holds one piece of one document and short sequences, cheap for attention, come first. A bucket holds the lengths from
2^j up to 2^(j+1).
Sources: dataset decomposition (2405.13226), OLMo-core's variable sequence lengths.
"""

from typing import Literal

from pydantic import Field, model_validator

from corpus.config import Count
from curriculum.arrangement import Arrangement, Derive, Rank, Step
from curriculum.exact import floor_div
from curriculum.keyed_hash import hash_steps
from curriculum.policies.base import Ask, OrderPolicy
from curriculum.power_pieces import check_powers

# The pieces of one visit have one hash; their first token tells them apart.
_PIECE = "CAST(visit AS BIGINT) * 65539 % 2097143 + start % 2097143"


class LengthCycles(OrderPolicy):
    """Buckets of lengths in the order of a schedule, shuffled inside."""

    kind: Literal["length_cycles"] = "length_cycles"
    schedule: Literal["natural", "growing", "cycles"] = Field(
        default="cycles",
        description="natural: all lengths mixed; growing: bucket after bucket; cycles: growing, several times over",
    )
    cycles: int = Field(
        default=8, ge=2, description="climbs of the schedule cycles; each holds its share of every bucket"
    )
    pieces: tuple[Count, Count] | None = Field(
        default=None,
        description="cut documents into pieces of powers of two tokens first, the shortest and the longest of them, "
        "such as [256, 8192]; null: visits as they are, or were cut already",
    )

    @model_validator(mode="after")
    def _powers_of_two(self) -> "LengthCycles":
        if self.pieces:
            check_powers(*self.pieces)
        return self

    def stretches(self, ask: Ask) -> tuple[Arrangement, ...]:
        """One stretch."""
        bucket = " ".join(f"WHEN length >= {2**j} THEN {j}" for j in range(30, 0, -1))
        steps: list[Step] = [*hash_steps("_piece", self.seed, _PIECE), Derive({"_bucket": f"CASE {bucket} ELSE 0 END"})]
        keys: tuple[str, ...] = ("_piece",)
        if self.schedule == "growing":
            keys = ("_bucket", "_piece")
        elif self.schedule == "cycles":
            steps.append(Rank(by=("_piece",), within=("_bucket",)))
            keys = (floor_div(f"_rank * {self.cycles}", "_count"), "_bucket", "_piece")
        reason = f"{self.cycles} cycles of rising length" if self.schedule == "cycles" else f"lengths {self.schedule}"
        return (Arrangement(self.seed, tuple(steps), keys, score="CAST(length AS FLOAT)", reasons=(reason,)),)
