"""Bands of equal numbers of visits along the score, read one after the other and shuffled inside."""

from typing import Literal

from pydantic import Field

from curriculum.exact import floor_div
from curriculum.policies.base import ScorePolicy


class Banded(ScorePolicy):
    """Quantile bands in order: coarse levels of difficulty, without a fine sort that a noisy score does not deserve."""

    kind: Literal["banded"] = "banded"
    bands: int = Field(ge=2, description="how many bands; each holds the same number of visits, give or take one")

    def keys(self) -> tuple[str, ...]:
        """The band, then the hash."""
        return (floor_div(f"_rank * {self.bands}", "_count"), "_hash")
