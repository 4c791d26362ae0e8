"""What an order is made of: steps over a table of visits, in SQL expressions that every engine evaluates alike.

A policy (curriculum/policies) says how visits are to be arranged as a short list of steps: sort visits into a line and
number them (`Rank`), compute columns from what is known (`Derive`), look a value up in a small table (`Lookup`),
keep some of the visits (`Keep`), let a sequential rule place them (`Scan`). The last step is a sort by `keys`.
Nothing here runs: an engine does, DuckDB in this process (curriculum/duckdb_engine.py) or Spark on a cluster
(pipelines/spark/order_engine.py), and both give the same rows in the same order.

Expressions keep to what DuckDB and Spark SQL read alike:

- `+ - * %`, comparisons, CASE, `&`, `>>`, `<<`, `floor`, `sqrt`, `least`, `greatest`, `coalesce`, CAST to BIGINT and
  DOUBLE, and of names and whole numbers to STRING.
- `/` gives a DOUBLE, so it is never given two FLOATs (DuckDB would answer with a FLOAT), and never divides by zero;
  whole quotients are `CAST(floor(a / b) AS BIGINT)`, exact below 2^53. A FLOAT column is cast to DOUBLE first.
- No `ln`, `exp`, `random`, no hash function: their last bits, or all of them, differ between engines. Such values
  come from a `Lookup` of whole numbers. No sum of floats; sums are of whole numbers.
- Keys are never null (coalesce them) and sort ascending; for the reverse negate a number.

Names of columns that steps make begin with an underscore, so that they cannot meet a column of the visits.
Every engine puts `_hash` before the first step: BIGINT in [0, 2^63), from the arrangement's seed, the document and the
number of the visit (curriculum/keyed_hash.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Visits: TypeAlias = pa.Table | Sequence[Path]
Ints = npt.NDArray[np.int64]

# What decides between visits with equal keys: the hash, and where hashes collide the place of the document itself.
TIES = ("_hash", "shard", "doc", "visit", "start")


@dataclass(frozen=True)
class Derive:
    """New columns: name -> expression over the columns there are (not over each other)."""

    columns: Mapping[str, str]


@dataclass(frozen=True)
class Keep:
    """Only the visits for which a condition holds; the others belong to another arrangement."""

    condition: str


@dataclass(frozen=True)
class Rank:
    """Sort the visits of each group and number them.

    Args:
        by: the keys; equal ones are decided by TIES.
        within: columns whose values part the visits into groups; none: one line of all.
        rank, count: names of the columns to add: number in the group from 0, visits of the group (BIGINT).
        before, total: names for the tokens before the visit in its group, and of the whole group (BIGINT); None: not
            needed, which saves the engine a running sum.
    """

    by: tuple[str, ...]
    within: tuple[str, ...] = ()
    rank: str = "_rank"
    count: str = "_count"
    before: str | None = None
    total: str | None = None


@dataclass(frozen=True)
class Lookup:
    """Add the columns of a small table: the row whose first column (unique) equals an expression.

    Every value of the expression must be in the table: a visit without a row would be lost.
    """

    on: str
    table: pa.Table


@dataclass(frozen=True)
class Scan:
    """Places computed in sequence, for rules that no expression of one row can state.

    `place` is called once with the values of `read` (a BIGINT expression) in the order of the column `rank` (numbers
    from 0 over all visits), shape (n,) int64, and gives a number for each, which becomes the column `name`. Its
    input and output pass through one process: 16 bytes a visit.
    """

    rank: str
    read: str
    place: Callable[[Ints], Ints]
    name: str


Step = Derive | Keep | Rank | Lookup | Scan


@dataclass(frozen=True)
class Arrangement:
    """A whole recipe for a stretch of an order.

    Args:
        seed: of the column `_hash`.
        steps: applied one after the other.
        keys: what the visits are sorted by in the end; TIES follow.
        rule: an expression that gives the number of the reason for a visit's place (texts are slow to sort).
        score: an expression for the score that the order carries along, FLOAT or null.
        reasons: the texts that `rule` counts, for people.
    """

    seed: int
    steps: tuple[Step, ...] = ()
    keys: tuple[str, ...] = ()
    rule: str = "0"
    score: str = "CAST(NULL AS FLOAT)"
    reasons: tuple[str, ...] = ("",)


class Engine(Protocol):
    """Something that sorts visits by arrangements, of any number that fits on its disks."""

    def columns(self, visits: Visits) -> dict[str, pa.DataType]:
        """Names and types of the visits' columns."""
        ...

    def query(self, sql: str, visits: Visits) -> pa.Table:
        """A small result, such as counts, of a query over the table `visits`."""
        ...

    def sort(self, visits: Visits, arrangement: Arrangement) -> Iterator[pa.RecordBatch]:
        """The visits that the arrangement keeps, in its order, as batches with the columns of `OUTPUT`."""
        ...


# The columns that engines give, in this order; `rule` numbers a reason, and `curriculum.arrange` puts its text.
OUTPUT = ("shard", "doc", "start", "length", "source", "phase", "visit", "score", "rule")


def column(name: str) -> str:
    """A column's name as SQL reads it, whatever characters are in it."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string literal. Backslashes, which Spark takes for escapes and DuckDB does not, are spelled by their number."""
    pieces = ["'" + piece.replace("'", "''") + "'" for piece in value.split("\\")]
    return pieces[0] if len(pieces) == 1 else f"({' || chr(92) || '.join(pieces)})"
