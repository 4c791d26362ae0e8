"""Visits in one line by score, or in one line a source, the lines merged at the same pace."""

from typing import Literal

from pydantic import Field

from curriculum.policies.base import ScorePolicy


class Sorted(ScorePolicy):
    """All visits in one line by score. Sources whose scores differ drift to opposite ends."""

    kind: Literal["sorted"] = "sorted"


class Interleaved(ScorePolicy):
    """Each source sorted by score, all sources merged at the same pace: every prefix keeps the mixture's shares."""

    kind: Literal["interleaved"] = "interleaved"
    within: str = Field(default="source", description="the column whose groups are sorted apart and merged")
