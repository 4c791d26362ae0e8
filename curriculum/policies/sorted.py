"""Visits in one line by score, or in one line a source, the lines merged at the same pace."""

from typing import Literal

from pydantic import Field

from curriculum.arrangement import Step
from curriculum.policies.base import Ask, ScorePolicy


class Sorted(ScorePolicy):
    """All visits in one line by score. Sources whose scores differ drift to opposite ends."""

    kind: Literal["sorted"] = "sorted"

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """None: a plain sort needs no numbers."""
        return ()

    def keys(self) -> tuple[str, ...]:
        """The line itself."""
        return self.line()


class Interleaved(Sorted):
    """Each source sorted by score, all sources merged at the same pace: every prefix keeps the mixture's shares."""

    kind: Literal["interleaved"] = "interleaved"  # type: ignore[assignment]
    within: str = Field(default="source", description="the column whose groups are sorted apart and merged")
