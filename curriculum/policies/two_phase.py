"""Diverse first, then quality: the tokens with the highest scores last, each part in an order of its own.

Its control is `{kind: shuffled}` over the same visits: the same multiset, so that a difference is the order's. Source:
2412.15285, +3.4 % relative over that control. Sorting the last part alone gained nothing in 2511.18903.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from corpus.config import Share
from curriculum.arrangement import Arrangement, Keep, Rank, column
from curriculum.exact import double, fraction
from curriculum.keyed_hash import hash_steps
from curriculum.policies.base import LINE_SEED, Ask, OrderPolicy, ScorePolicy
from curriculum.policies.shuffled import Shuffled

if TYPE_CHECKING:
    from curriculum.kinds import OnePhase


class TwoPhase(ScorePolicy):
    """The line of scores cut in two by tokens; what comes last in it is read last.

    The guards of the parts' own policies (such as folds) count all visits, not those of the part.
    """

    kind: Literal["two_phase"] = "two_phase"
    last_tokens: Share = Field(
        gt=0, lt=1, description="share of the tokens in the last part; with within, of each group"
    )
    first: "OnePhase" = Field(default=Shuffled(), description="the order of the first part")
    last: "OnePhase" = Field(default=Shuffled(), description="the order of the last part")

    @property
    def parts(self) -> tuple[OrderPolicy, ...]:
        """The policies of both parts."""
        return (self.first, self.last)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the cut reads, and what the parts do."""
        return tuple(dict.fromkeys((*super().needs, *self.first.needs, *self.last.needs)))

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of names in any of them."""
        return tuple(dict.fromkeys((*super().names, *self.first.names, *self.last.names)))

    def stretches(self, ask: Ask) -> tuple[Arrangement, ...]:
        """Two stretches: each cuts the same line by the same hash, and arranges its side of the cut."""
        groups = (column(self.within),) if self.within else ()
        line = Rank(
            by=(*self.line(), "_cut_hash"), within=groups, rank="_cut_at", count="_cut_of", before="_cut", total="_all"
        )
        early = f"_cut < {double(float(1 - fraction(self.last_tokens)))} * _all"
        made = []
        for policy, side, label in ((self.first, early, "first part: "), (self.last, f"NOT ({early})", "last part: ")):
            for part in policy.arrangements(ask):
                steps = (*hash_steps("_cut_hash", self.seed ^ LINE_SEED), line, Keep(side), *part.steps)
                reasons = tuple(label + reason for reason in part.reasons)
                made.append(Arrangement(part.seed, steps, part.keys, part.rule, self.score(), reasons))
        return tuple(made)
