"""What order policies share: a seed, soft borders, a merge of groups, and for those with scores one line to number.

A policy is a frozen setting that compiles itself into arrangements (curriculum/arrangement.py); an engine runs them.
Writing one means writing its keys: expressions over `_rank` and `_count` (place in the line of scores, which begins
with what is read first, and its length), `_hash` and `length`.

    class Halves(ScorePolicy):
        kind: Literal["halves"] = "halves"

        def keys(self) -> tuple[str, ...]:
            return ("CASE WHEN 2 * _rank < _count THEN 0 ELSE 1 END", "_hash")

With `within: source` the policy arranges each source by itself and merges them at the same pace, so that every prefix
keeps the shares. Several visits of one document have one score, so a sort reads them close together; where that is
not wanted, give each epoch a phase of its own.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field

from corpus.config import Config, Count
from curriculum.arrangement import Arrangement, Derive, Rank, Step, column
from curriculum.exact import floor_div
from curriculum.keyed_hash import hash_steps
from curriculum.noise import Noise, noise_steps, noisy

Missing = Literal["first", "last", "error"]
Unit = Literal["tokens", "documents"]
End = Literal["high", "low", "mixed"]
Ask = Callable[[str], pa.Table]
"""Answers a small SQL query over the table `visits`, for policies that must know which names there are."""

LINE_SEED = 0x6C696E65  # of the hash that decides between equal scores in a numbered line
_JITTER_SEED = 0x6A69  # apart from the seed that decides ties, so that a jittered shuffle is not the shuffle again


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


By = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class OrderPolicy(Config):
    """The base of all policies."""

    kind: str
    seed: int = Field(default=0, description="decides between equal places; another seed gives another shuffle")
    noise: Noise | None = Field(
        default=None,
        description="noise on the places, such as {kind: gauss, scale: 5%}: how far a visit moves is unbounded",
    )
    jitter: Count = Field(
        default=0, description="shuffle inside consecutive windows of this many visits afterwards; none moves further"
    )

    def arrangements(self, ask: Ask) -> tuple[Arrangement, ...]:
        """Recipes for consecutive stretches of the order; together they keep each visit exactly once."""
        return tuple(self._jittered(self._noisy(stretch)) for stretch in self.stretches(ask))

    def stretches(self, ask: Ask) -> tuple[Arrangement, ...]:
        """The recipes before noise and jitter: what a subclass defines."""
        raise TypeError(f"{type(self).__name__} does not define stretches")

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the visits that the policy reads, beyond those that all visits have."""
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        """Those of `needs` that hold names; all others are numbers."""
        return ()

    @property
    def parts(self) -> "tuple[OrderPolicy, ...]":
        """Policies inside this one."""
        return ()

    @property
    def end(self) -> End:
        """Which end of the score the last visits come from."""
        return "mixed"

    def check_line(self, visits: int, line: str) -> None:
        """Raise OrderError where a line of so many visits cannot be arranged; `line` names it, for the message."""

    def _noisy(self, stretch: Arrangement) -> Arrangement:
        if not self.noise:
            return stretch
        at, of, drawn = f"_{self.kind}_noised", f"_{self.kind}_of_noised", f"_{self.kind}_noise"
        steps = (Rank(by=stretch.keys, rank=at, count=of), *noise_steps(self.noise.kind, drawn, self.seed))
        place = f"CAST(2 * {at} + 1 AS DOUBLE) / (2 * {of})"
        return _then(stretch, steps, (noisy(place, self.noise.scale, drawn),))

    def _jittered(self, stretch: Arrangement) -> Arrangement:
        if not self.jitter:
            return stretch
        at, of, drawn = f"_{self.kind}_jittered", f"_{self.kind}_of_jittered", f"_{self.kind}_jitter"
        line = Rank(by=stretch.keys, rank=at, count=of)
        window = floor_div(at, self.jitter)
        return _then(stretch, (line, *hash_steps(drawn, self.seed ^ _JITTER_SEED)), (window, drawn))


class MergedPolicy(OrderPolicy):
    """A policy over one line of visits, or over one line a group, the groups merged at the same pace."""

    missing: Missing = Field(
        default="error",
        description="where visits without a value to be ordered by go in their line: first, last, or error to refuse "
        "them; a group without any value is shuffled",
    )
    within: str | None = Field(
        default=None,
        description="a column such as source: arrange each of its groups apart, and merge them at the same pace; "
        "null: one line over everything",
    )
    unit: Unit = Field(default="tokens", description="what the pace of a merge counts")

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """What the keys need to know of a visit; `groups` are the columns whose values part the visits into lines."""
        return self.numbered(groups)

    def numbered(
        self, groups: tuple[str, ...], *, before: str | None = None, total: str | None = None
    ) -> tuple[Step, ...]:
        """Steps that add `_rank` and `_count` (and the tokens `before` each visit, and of its line in `total`).

        Visits with equal scores stand in the line by a hash of their own. With `_hash`, a cut through them would leave
        the low hashes on one side, and a shuffle by `_hash` of the other side would read them late.
        """
        line = Rank(by=(*self.line(), "_line"), within=groups, before=before, total=total)
        return (*hash_steps("_line", self.seed ^ LINE_SEED), line)

    def keys(self) -> tuple[str, ...]:
        """The sort that makes the order out of what `steps` found."""
        raise TypeError(f"{type(self).__name__} does not define keys")

    def line(self) -> tuple[str, ...]:
        """Keys of the line that `_rank` counts along."""
        raise TypeError(f"{type(self).__name__} does not define line")

    def reason(self) -> str:
        """What the policy does with its line, for people: `ascending by edu`."""
        return self.kind

    def score(self) -> str:
        """An expression for the score that the order carries along."""
        return "CAST(NULL AS FLOAT)"

    @property
    def ordered_by(self) -> tuple[str, ...]:
        """Columns that a visit must have a value in to be placed; see `missing`."""
        return ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns to order by, and the one that parts the groups."""
        return (*self.ordered_by, *([self.within] if self.within else []))

    @property
    def names(self) -> tuple[str, ...]:
        """What parts the groups."""
        return (self.within,) if self.within else ()

    def unscored(self) -> str:
        """The condition under which a visit lacks what it is ordered by."""
        return " OR ".join(f"{column(name)} IS NULL" for name in self.ordered_by) or "FALSE"

    def set_apart(self) -> str:
        """The first key of every line: visits without a value stand at the end that `missing` says."""
        return f"CASE WHEN {self.unscored()} THEN {0 if self.missing == 'first' else 2} ELSE 1 END"

    def stretches(self, ask: Ask) -> tuple[Arrangement, ...]:
        """Arrange the line of each group by the policy's keys, and merge the groups at the same pace."""
        groups = (column(self.within),) if self.within else ()
        steps, keys = self.steps(groups, ask), self.keys()
        if groups:
            steps += centred("_place", self.unit, keys, groups)
            keys = ("_place",)
        rule = f"CASE WHEN {self.unscored()} THEN 1 ELSE 0 END"
        return (Arrangement(self.seed, steps, keys, rule, self.score(), self._reasons()),)

    def _reasons(self) -> tuple[str, str]:
        where = f"within each {self.within}, paced by {self.unit}" if self.within else "over all sources"
        place = {"first": "no score: first", "last": "no score: last", "error": "no scores: shuffled"}[self.missing]
        return f"{self.reason()} {where}", f"{place} {where}"


class ScorePolicy(MergedPolicy):
    """A policy over lines of scores."""

    by: By = Field(description="columns to order by, the first one first: a score, a level, length; -name reverses one")
    ascending: bool = Field(default=True, description="true: the lowest score first")

    @property
    def ordered_by(self) -> tuple[str, ...]:
        """The columns of `by`, without their signs."""
        return tuple(name.removeprefix("-") for name in self.by)

    @property
    def end(self) -> End:
        """A line that climbs ends on the high scores; a first column with a minus turns that round."""
        return "high" if self.climbs() else "low"

    def climbs(self) -> bool:
        """Does the line go up in its first column?"""
        return self.ascending != self.by[0].startswith("-")

    def line(self) -> tuple[str, ...]:
        """Visits without a score at their end, then each column in its direction."""
        return (self.set_apart(), *(key(name, ascending=self.ascending) for name in self.by))

    def reason(self) -> str:
        """`ascending by edu`, after the kind where it is more than a sort."""
        sort = f"{'ascending' if self.ascending else 'descending'} by {', '.join(self.by)}"
        return sort if self.kind in ("sorted", "interleaved") else f"{self.kind} {sort}"

    def score(self) -> str:
        """The first column ordered by."""
        return f"CAST({column(self.ordered_by[0])} AS FLOAT)"


def key(name: str, *, ascending: bool) -> str:
    """A number that grows in reading order, for a column or (with a minus before it) its reverse; 0 for null."""
    value = f"coalesce(CAST({column(name.removeprefix('-'))} AS DOUBLE), 0)"
    return value if ascending != name.startswith("-") else f"-{value}"


def named(name: str) -> str:
    """A column of names as text, '' for null: groups and reasons are never null."""
    return f"coalesce(CAST({column(name)} AS STRING), '')"


def centred(name: str, unit: Unit, by: tuple[str, ...], within: tuple[str, ...]) -> tuple[Step, ...]:
    """Steps that add the middle of a visit's mass in its group, a DOUBLE in (0, 1): with documents (j + 1/2) / n.

    Sorting by it merges the groups at the same pace. Centring keeps the share of a group within half a visit at every
    prefix; the numbers are quotients of whole numbers, so equal places are equal. Source: the token-mass form of
    the Puro-2B recipe (2608.27370).
    """
    at, of, before, total = (f"{name}_{part}" for part in ("at", "of", "before", "total"))
    if unit == "documents":
        middle = f"CAST(2 * {at} + 1 AS DOUBLE) / (2 * {of})"
        return Rank(by=by, within=within, rank=at, count=of), Derive({name: middle})
    middle = f"CAST(2 * {before} + length AS DOUBLE) / (2 * {total})"
    return Rank(by=by, within=within, rank=at, count=of, before=before, total=total), Derive({name: middle})


def _then(stretch: Arrangement, steps: Sequence[Step], keys: tuple[str, ...]) -> Arrangement:
    return Arrangement(stretch.seed, (*stretch.steps, *steps), keys, stretch.rule, stretch.score, stretch.reasons)
