"""Budgets for sources: how a selection's tokens are shared out, so that good text does not come from one place only.

Three ways, one at a time:

- shares: each named source has its share of the budget to itself; the rest, if any, goes to all others together.
- proportional: each source has the share of the budget that it has of the tokens that can be selected.
- caps: one ranking for all, but a named source stops at its cap and the others go on.

A source that cannot fill its budget leaves a shortfall, which is reported and never handed on: the shares are what was
asked for, or less.

How it is used:  groups = budget_groups(Quotas(shares={"web": 0.6}), 1_000_000, tokens_of)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from pydantic import Field, model_validator

from corpus.config import Config, Share, nearest
from corpus.errors import ConfigError
from mixtures.shares import largest_remainder

OTHERS = "all others"
ALL = "all sources"


class Quotas(Config):
    """What sources may have of a budget."""

    shares: dict[str, Share] = Field({}, description="share of the budget each named source has to itself")
    proportional: bool = Field(False, description="each source has the share that it has of the tokens on offer")
    caps: dict[str, Share] = Field({}, description="the most that a source may have of the budget")

    @model_validator(mode="after")
    def _one_way(self) -> "Quotas":
        if bool(self.shares) + self.proportional + bool(self.caps) > 1:
            raise ValueError("give shares, proportional or caps: one of them says who gets what")
        total = sum((Fraction(str(share)) for share in self.shares.values()), Fraction(0))
        if total > 1:
            raise ValueError(f"the shares of {', '.join(self.shares)} sum to {float(total):.6g}, which is more than 1")
        return self

    @property
    def by_source(self) -> bool:
        """Whether sources matter at all."""
        return bool(self.shares or self.proportional or self.caps)


@dataclass(frozen=True)
class Group:
    """Sources that share one budget, in tokens."""

    name: str
    sources: tuple[str, ...]
    budget: int


Cuts = TypeVar("Cuts")


def budget_groups(quotas: Quotas, budget: int, tokens_of: Mapping[str, int]) -> list[Group]:
    """The groups under `shares` or `proportional`, or one group of all; sources of no group have no budget.

    `tokens_of`: tokens on offer by source. Raises ConfigError for a quota or cap of a source that is not there.
    """
    for name in (*quotas.shares, *quotas.caps):
        if name not in tokens_of:
            raise ConfigError(f"a quota names the source {name!r}, which has no document{nearest(name, tokens_of)}")
    sources = sorted(tokens_of)
    if quotas.proportional:
        offered = [Fraction(tokens_of[name]) for name in sources]
        counts = largest_remainder(offered, budget) if sum(offered) else [0] * len(sources)
        return [Group(name, (name,), count) for name, count in zip(sources, counts, strict=True)]
    if not quotas.shares:
        return [Group(ALL, tuple(sources), budget)]
    shares = [Fraction(str(share)) for share in quotas.shares.values()]
    *counts, rest = largest_remainder([*shares, 1 - sum(shares, Fraction(0))], budget)
    named = [Group(name, (name,), count) for name, count in zip(quotas.shares, counts, strict=True)]
    others = tuple(name for name in sources if name not in quotas.shares)
    return [*named, Group(OTHERS, others, rest)] if others and rest else named


def within_caps(
    caps: Mapping[str, float],
    budget: int,
    sources: Sequence[str],
    solve: Callable[[Sequence[Group]], tuple[Cuts, Sequence[Mapping[str, int]]]],
) -> tuple[list[Group], Cuts]:
    """The groups and their cuts when some sources stop at a cap: what walking down the ranking would select.

    `solve` cuts groups and says, for each, how many tokens each of its sources got. A source found over its cap is
    given its cap as a budget of its own, the others share what is left, and so on until none is over: at most one round
    a cap, since what one source loses only lets the others have more.
    """
    limits = {name: int(Fraction(str(cap)) * budget) for name, cap in caps.items()}
    capped: list[str] = []
    spent = 0
    while True:
        rest = tuple(name for name in sources if name not in capped)
        own = [Group(name, (name,), limits[name]) for name in capped]
        groups = [*own, Group(OTHERS if own else ALL, rest, max(budget - spent, 0))] if rest else own
        cuts, got = solve(groups)
        spent_now = sum(sum(tokens.values()) for tokens in got[: len(own)])
        if rest and spent_now != spent:  # how much capped sources really take is known only now
            spent = spent_now
            continue
        over = [name for name in rest if name in limits and got[-1].get(name, 0) > limits[name]]
        if not over:
            return groups, cuts
        capped += over
