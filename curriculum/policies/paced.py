"""A pool of the easiest documents that grows with progress, drawn from at random and without replacement.

Position t of n takes, of the documents not yet read among the easiest c(t/n) n (and at least t + 1), the one with the
lowest hash; so the order is an exact permutation, where common curricula draw with replacement. Progress is counted
in visits. With `quadratic` pacing, c(tau) never exceeds tau and the order is the sort itself.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from corpus.config import Share
from curriculum.arrangement import Ints, Rank, Scan, Step
from curriculum.pacing import WITHOUT_INITIAL, Pacing, PacingKind, pacing
from curriculum.policies.base import Ask, End, ScorePolicy, named


class Paced(ScorePolicy):
    """Drawn from the easiest part of the line, which grows until it is all of it."""

    kind: Literal["paced"] = "paced"
    pacing: PacingKind = Field(default="root2", description="how the pool grows: linear, root2, root3, quadratic, ...")
    initial: Share = Field(
        default=0.1, description="share of the line in the pool at the start; not for quadratic ones"
    )

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.pacing in WITHOUT_INITIAL and "initial" in self.model_fields_set:
            raise ValueError(f"{self.pacing} pacing starts with an empty pool; leave out initial, or take root2")
        return self

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """Lines one after the other; the first visit of each is marked by a negative number."""
        read = "CASE WHEN _rank = 0 THEN -1 - _hash ELSE _hash END"
        place = PoolDraw(pacing(self.pacing, self.initial))
        if not self.within:
            return (*super().steps(groups, ask), Scan("_rank", read, place, "_drawn"))
        one_by_one = Rank(by=(named(self.within), "_rank"), rank="_row", count="_rows")
        return (*super().steps(groups, ask), one_by_one, Scan("_row", read, place, "_drawn"))

    def keys(self) -> tuple[str, ...]:
        """When the pool gives a visit away."""
        return ("_drawn",)

    @property
    def end(self) -> End:
        """A pool that is nearly whole before the end leaves documents of every score for it."""
        return super().end if self.pacing in ("linear", "quadratic") else "mixed"


@dataclass(frozen=True)
class PoolDraw:
    """When each document is drawn from the pools of consecutive lines."""

    pacing: Pacing

    def __call__(self, values: Ints) -> Ints:
        """Positions in each line from 0, shape (n,), for hashes >= 0 from the easiest on; -1 - hash begins a line."""
        from curriculum.paced_kernel import draw

        places = np.empty(len(values), np.int64)
        starts = np.flatnonzero(values < 0)
        hashes = np.where(values < 0, -1 - values, values)
        p = self.pacing
        for first, stop in zip(starts, np.r_[starts[1:], len(values)], strict=True):
            draw(hashes[first:stop], p.constant, p.linear, p.square, p.root, places[first:stop])
        return places
