"""A curriculum for the beginning only: the easiest documents first, and then everything else without an order.

Source: 2506.11300, where such a warm-up saved steps early in training; what "easy" is, is the score's matter.
"""

from typing import Literal

from pydantic import Field

from corpus.config import Share
from curriculum.arrangement import Step
from curriculum.exact import double
from curriculum.policies.base import Ask, End, ScorePolicy


class CurriculumWarmup(ScorePolicy):
    """The beginning of the line in order, as long as it fills a share of the tokens; a shuffle of the rest."""

    kind: Literal["curriculum_warmup"] = "curriculum_warmup"
    tokens: Share = Field(
        gt=0, lt=1, description="share of the tokens to read in order; the visit amid which it ends counts"
    )

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The tokens before each visit in its line."""
        return self.numbered(groups, before="_tokens_before", total="_tokens")

    def keys(self) -> tuple[str, ...]:
        """The line in the beginning; then the hash, which ties are decided by anyway."""
        return (f"CASE WHEN _tokens_before < {double(self.tokens)} * _tokens THEN _rank ELSE _count END", "_hash")

    @property
    def end(self) -> End:
        """The end is shuffled."""
        return "mixed"
