"""What every order policy shares: a seed, a soft border (`jitter`), and for those with scores one line to number.

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

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from corpus.config import Config, Count
from curriculum.arrangement import Arrangement, Derive, Rank, Step, column, text
from curriculum.keyed_hash import hash_steps

Missing = Literal["first", "last", "error"]
End = Literal["high", "low", "mixed"]
_JITTER_SEED = 0x6A69  # apart from the seed that decides ties, so that a jittered shuffle is not the shuffle again


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


By = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class OrderPolicy(Config):
    """The base of all policies."""

    seed: int = Field(default=0, description="decides between equal places; another seed gives another shuffle")
    jitter: Count = Field(
        default=0, description="shuffle inside consecutive windows of this many visits afterwards; none moves further"
    )

    def arrangements(self) -> tuple[Arrangement, ...]:
        """Recipes for consecutive stretches of the order; together they keep each visit exactly once."""
        return tuple(self._jittered(stretch) for stretch in self.stretches())

    def stretches(self) -> tuple[Arrangement, ...]:
        """The recipes before jitter: what a subclass defines."""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the visits that the policy reads, beyond those that all visits have."""
        return ()

    @property
    def end(self) -> End:
        """Which end of the score the last visits come from."""
        return "mixed"

    def _jittered(self, stretch: Arrangement) -> Arrangement:
        if not self.jitter:
            return stretch
        line = Rank(by=stretch.keys, rank="_at", count="_of")
        steps = (*stretch.steps, line, *hash_steps("_jitter", self.seed ^ _JITTER_SEED))
        keys = (f"_at - _at % {self.jitter}", "_jitter")
        return Arrangement(stretch.seed, steps, keys, stretch.rule, stretch.score)


class ScorePolicy(OrderPolicy):
    """A policy over one line of scores, or one line a group."""

    by: By = Field(description="columns to order by, the first one first: a score, a level, length; -name reverses one")
    ascending: bool = Field(default=True, description="true: the lowest score first")
    missing: Missing = Field(
        default="error",
        description="where visits without a score go in their line: first, last, or error to refuse them; "
        "a group without any score is shuffled",
    )
    within: str | None = Field(
        default=None,
        description="a column such as source: arrange each of its groups apart, and merge them at the same pace; "
        "null: one line over everything",
    )
    unit: Literal["tokens", "documents"] = Field(default="tokens", description="what the pace of a merge counts")

    def keys(self) -> tuple[str, ...]:
        """The sort that makes the order out of `_rank`, `_count`, `_hash` and `length`."""
        return ("_rank",)

    def reason(self) -> str:
        """What the policy does with its line, for people: `ascending by edu`."""
        return f"{self.direction} by {', '.join(self.by)}"

    @property
    def direction(self) -> str:
        """Up or down the score."""
        return "ascending" if self.ascending else "descending"

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns to order by, and the one that parts the groups."""
        return (*(name.removeprefix("-") for name in self.by), *([self.within] if self.within else []))

    @property
    def end(self) -> End:
        """A line that climbs ends on the high scores."""
        return "high" if self.ascending else "low"

    def line(self) -> tuple[str, ...]:
        """Keys of the line of scores: visits without a score at their end, then each column in its direction."""
        place = f"CASE WHEN {self.unscored()} THEN {0 if self.missing == 'first' else 2} ELSE 1 END"
        return (place, *(_key(name, ascending=self.ascending) for name in self.by))

    def unscored(self) -> str:
        """The condition under which a visit lacks what it is ordered by."""
        return " OR ".join(f"{column(name.removeprefix('-'))} IS NULL" for name in self.by)

    def stretches(self) -> tuple[Arrangement, ...]:
        """Number the line of each group, arrange it by the policy's keys, and merge the groups at the same pace."""
        groups = (column(self.within),) if self.within else ()
        keys, steps = self.keys(), list[Step]()
        if keys == ("_rank",):
            keys = self.line()  # a plain sort needs no numbers
        else:
            steps.append(Rank(by=self.line(), within=groups))
        if groups:
            pace = Rank(
                by=keys, within=groups, rank="_turn", count="_turns",
                before="_before" if self.unit == "tokens" else None, total="_total" if self.unit == "tokens" else None,
            )  # fmt: skip
            steps += [pace, Derive({"_place": _CENTRED[self.unit]})]
            keys = ("_place",)
        score = f"CAST({column(self.by[0].removeprefix('-'))} AS FLOAT)"
        return (Arrangement(self.seed, tuple(steps), keys, self._rule(), score),)

    def _rule(self) -> str:
        where = text(" over all sources")
        if self.within:
            where = f"{text(f' within {self.within} ')} || {column(self.within)} || {text(f', paced by {self.unit}')}"
        place = {"first": "no score: first", "last": "no score: last", "error": "no scores: shuffled"}[self.missing]
        return f"CASE WHEN {self.unscored()} THEN {text(place)} ELSE {text(self.reason())} END || {where}"


# The middle of a visit's mass in its group: with documents (j + 1/2) / n. Centring keeps the share of a group within
# half a visit at every prefix; places are quotients of whole numbers, so equal ones are equal. Source: the token-mass
# form of the Puro-2B recipe (2608.27370).
_CENTRED = {
    "tokens": "CAST(2 * _before + length AS DOUBLE) / (2 * _total)",
    "documents": "CAST(2 * _turn + 1 AS DOUBLE) / (2 * _turns)",
}


def _key(name: str, *, ascending: bool) -> str:
    """A number that grows in reading order; 0 for null, which another key has set apart."""
    value = f"coalesce(CAST({column(name.removeprefix('-'))} AS DOUBLE), 0)"
    return value if ascending != name.startswith("-") else f"-{value}"
