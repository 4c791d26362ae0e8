"""What a task counts: every record in is kept or dropped with a reason, and every fault of the input is named.

The tally of a task travels home in its completion row; the tallies of all tasks add up to the funnel in the
manifest. `check` refuses a task whose counts do not add up, so a record can never be lost in silence.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from corpus.errors import InputError

MAX_PROBLEMS_LISTED = 10_000

DROPPED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int32()),
        pa.field("excerpt", pa.string()),
    ]
)
EXCERPT_CHARACTERS = 300


@dataclass(frozen=True)
class Problem:
    """One fault of an input: what kind, in which file, at which byte or line, and what was seen there."""

    kind: str
    file: str
    offset: int | None
    detail: str


@dataclass
class Tally:
    """Counts of one task. `strict` turns the first problem into an error instead of a count."""

    strict: bool = False
    records_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    problem_counts: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)

    def problem(self, kind: str, file: str, offset: int | None, detail: str) -> None:
        """Note a fault of the input. Under `strict` raises InputError with the same facts."""
        if self.strict:
            at = "" if offset is None else f", offset {offset:,}"
            raise InputError(
                f"{kind} in {file}", found=detail, where=f"{file}{at}", fix="mend the input or run without --strict"
            )
        self.problem_counts[kind] += 1
        if len(self.problems) < MAX_PROBLEMS_LISTED:
            self.problems.append(Problem(kind, file, offset, detail[:500]))

    def lose(self, reason: str) -> None:
        """Count a record that was met and could not become a row at all (and so has no row to drop)."""
        self.records_in += 1
        self.dropped[reason] += 1

    def check(self, where: str) -> None:
        """Assert that records in = kept + dropped."""
        gone = sum(self.dropped.values())
        assert self.records_in == self.kept + gone, f"{where}: {self.records_in} in, {self.kept} kept, {gone} dropped"

    def as_totals(self) -> dict[str, Any]:
        """The counts as a plain mapping, for a completion row or a manifest."""
        return {
            "records_in": self.records_in,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "problems": dict(sorted(self.problem_counts.items())),
            **dict(sorted(self.totals.items())),
        }


def add_totals(all_totals: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum completion totals: numbers add up, mappings add up key by key."""
    result: dict[str, Any] = {}
    for totals in all_totals:
        for key, value in totals.items():
            if isinstance(value, dict):
                result[key] = dict(sorted(add_totals([result.get(key, {}), value]).items()))
            else:
                result[key] = result.get(key, 0) + value
    return result
