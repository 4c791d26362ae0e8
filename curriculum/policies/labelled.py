"""Orders on labels: a level that rises (Bloom level, school stage, tercile) and a subject (topic, web domain).

`interleave` takes the subjects of a level in turn, `interleave_proportional` mixes them at the pace of their sizes,
`spiral` passes through all levels several times, `blocking` reads subject after subject. Source: CORGI (2310.09518),
where interleaving with a rising level was best and blocking could be worse than random; `blocking` is here as the
control. The subjects' turns follow a hash of their names and the seed.
"""

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.keyed_random import keyed_hashes
from curriculum.arrangement import Lookup, Rank, Step, column
from curriculum.exact import floor_div
from curriculum.policies.base import Ask, By, End, ScorePolicy, centred, key, named


class LabelledPolicy(ScorePolicy):
    """A policy over the lines of each level and subject."""

    by: By = Field(
        description="the level, a column of numbers; further columns order the documents of one level and subject "
        "(else a hash does); -name reverses one"
    )
    subject: str = Field(description="the column with each document's subject: names or whole numbers")

    @property
    def ordered_by(self) -> tuple[str, ...]:
        """Level, further columns, and subject: a document without one of them counts as without a score."""
        return (*super().ordered_by, self.subject)

    @property
    def names(self) -> tuple[str, ...]:
        """What parts the groups, and the subject."""
        return (*super().names, self.subject)

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The subject's turn, and the line inside its level."""
        line = (self.set_apart(), *(key(name, ascending=self.ascending) for name in self.by[1:]))
        return (self.turns(ask), *self.numbering(line, (*groups, column(self.ordered_by[0]), column(self.subject))))

    def numbering(self, line: tuple[str, ...], within: tuple[str, ...]) -> tuple[Step, ...]:
        """How the visits of one level and subject are numbered."""
        return (Rank(by=line, within=within),)

    def turns(self, ask: Ask) -> Lookup:
        """A number for each subject, from its name and the seed: whose turn comes first."""
        found = ask(f"SELECT DISTINCT {named(self.subject)} AS name FROM visits")["name"].to_pylist()
        names = sorted(found)
        hashes = keyed_hashes(self.seed, names)
        places = np.empty(len(names), np.int64)
        places[np.lexsort((np.arange(len(names)), hashes))] = np.arange(len(names))
        return Lookup(named(self.subject), pa.table({"_name": pa.array(names, pa.string()), "_subject": places}))

    def level(self) -> tuple[str, str]:
        """The first keys of all but blocking: visits without labels apart, then the level."""
        return (self.set_apart(), key(self.by[0], ascending=self.ascending))


class Interleave(LabelledPolicy):
    """Level after level; in each, one document of every subject in turn."""

    kind: Literal["interleave"] = "interleave"

    def keys(self) -> tuple[str, ...]:
        """Level, round, subject. When small subjects run out, the large ones end the level in a block."""
        return (*self.level(), "_rank", "_subject")


class InterleaveProportional(LabelledPolicy):
    """Level after level; in each, all subjects mixed in proportion to their sizes."""

    kind: Literal["interleave_proportional"] = "interleave_proportional"

    def numbering(self, line: tuple[str, ...], within: tuple[str, ...]) -> tuple[Step, ...]:
        """The centre of each visit in its subject's mass, by `unit`."""
        return centred("_middle", self.unit, line, within)

    def keys(self) -> tuple[str, ...]:
        """Level, centre, subject."""
        return (*self.level(), "_middle", "_subject")


class Spiral(LabelledPolicy):
    """Several passes through all levels and subjects, each over its share of every one of them."""

    kind: Literal["spiral"] = "spiral"
    passes: int = Field(default=4, ge=2, description="how often the run passes through all levels")

    def keys(self) -> tuple[str, ...]:
        """Pass, level, subject: the pass is j over the documents that each takes, n / passes rounded up."""
        chunk = floor_div(f"_count + {self.passes - 1}", self.passes)
        place, level = self.level()
        return (place, floor_div("_rank", chunk), level, "_subject", "_rank")

    @property
    def end(self) -> End:
        """Each pass ends on the highest level, but holds all of them."""
        return "mixed"


class Blocking(LabelledPolicy):
    """Subject after subject, each from its lowest level to its highest: the failure case, as a control."""

    kind: Literal["blocking"] = "blocking"

    def keys(self) -> tuple[str, ...]:
        """Subject, then the levels and what orders them."""
        place, level = self.level()
        return (place, "_subject", level, "_rank")

    @property
    def end(self) -> End:
        """The last subject holds all levels."""
        return "mixed"
