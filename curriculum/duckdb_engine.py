"""Sort visits with DuckDB, in this process: in memory while they fit, through files on disk when they do not.

An arrangement becomes one nested query, whose rows stream out in order; the whole table is never held as Arrow.

How it is used: `DuckDBEngine(threads=2, memory="4GB").sort([path], arrangement)`.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curriculum.arrangement import (
    OUTPUT,
    TIES,
    Arrangement,
    Derive,
    Keep,
    Lookup,
    Rank,
    Scan,
    Step,
    Visits,
    column,
)
from curriculum.keyed_hash import hash_steps

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 122_880  # DuckDB's own row group
_NAMES = ("source", "component", "phase")


class DuckDBEngine:
    """The engine of one machine.

    Args:
        threads: cores to use; None for all of them. The result does not depend on it.
        memory: what DuckDB may hold, such as "4GB"; None for its own rule, 80 % of the machine.
        scratch: folder for what does not fit; None for the system's temporary folder.
    """

    def __init__(self, threads: int | None = None, memory: str | None = None, scratch: Path | None = None) -> None:
        self.threads, self.memory, self.scratch = threads, memory, scratch
        self._opened: duckdb.DuckDBPyConnection | None = None

    def columns(self, visits: Visits) -> dict[str, pa.DataType]:
        """Names and types of the visits' columns."""
        with self._open(visits) as db:
            schema = db.sql("SELECT * FROM visits LIMIT 0").to_arrow_table().schema
        return {entry.name: entry.type for entry in schema}

    def query(self, sql: str, visits: Visits) -> pa.Table:
        """The whole result of a query over the table `visits`."""
        with self._open(visits) as db:
            return db.sql(sql).to_arrow_table()

    def sort(self, visits: Visits, arrangement: Arrangement) -> Iterator[pa.RecordBatch]:
        """The visits that the arrangement keeps, in its order, with the columns of OUTPUT."""
        with self._open(visits) as db:
            inner = f"SELECT * REPLACE ({_coded_names(db)}) FROM visits"
            for number, step in enumerate((*hash_steps("_hash", arrangement.seed), *arrangement.steps)):
                inner = self._apply(db, step, inner, number)
            shown = {"score": arrangement.score, "rule": arrangement.rule}
            chosen = ", ".join(f"{shown.get(name, column(name))} AS {column(name)}" for name in OUTPUT)
            keys = ", ".join((*arrangement.keys, *TIES))
            yield from db.sql(f"SELECT {chosen} FROM ({inner}) ORDER BY {keys}").to_arrow_reader(BATCH_ROWS)

    def _apply(self, db: "duckdb.DuckDBPyConnection", step: Step, inner: str, number: int) -> str:
        if isinstance(step, Derive):
            made = ", ".join(f"{expression} AS {name}" for name, expression in step.columns.items())
            return f"SELECT *, {made} FROM ({inner})"
        if isinstance(step, Keep):
            return f"SELECT * FROM ({inner}) WHERE {step.condition}"
        if isinstance(step, Rank):
            return f"SELECT *, {_windows(step)} FROM ({inner})"
        table, on = (step.table, step.on) if isinstance(step, Lookup) else (self._scan(db, step, inner), step.rank)
        view = f"_looked_up_{number}"
        db.register(view, table)
        first, *others = table.column_names
        added = ", ".join(f"t.{column(name)}" for name in others)
        return f"SELECT v.*, {added} FROM ({inner}) v JOIN {view} t ON ({on}) = t.{column(first)}"

    def _scan(self, db: "duckdb.DuckDBPyConnection", step: Scan, inner: str) -> pa.Table:
        read = db.sql(f"SELECT {step.read} AS value FROM ({inner}) ORDER BY {step.rank}").fetchnumpy()["value"]
        return pa.table({"_at": np.arange(len(read)), step.name: pa.array(step.place(read))})

    @contextmanager
    def _open(self, visits: Visits) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection of its own to the engine's database, which sees the table `visits`."""
        with self._database().cursor() as db:
            if isinstance(visits, pa.Table):
                db.register("visits", visits)
            else:
                db.from_parquet([str(path) for path in visits]).create_view("visits", replace=True)
            yield db

    def _database(self) -> "duckdb.DuckDBPyConnection":
        """The database, opened at first use: opening one takes longer than arranging a few thousand visits."""
        if self._opened is None:
            import duckdb

            spill = tempfile.mkdtemp(prefix="gradatim-order-", dir=self.scratch)
            self._opened = db = duckdb.connect()
            weakref.finalize(self, _close, db, spill)
            db.execute(f"SET threads = {self.threads or os.cpu_count() or 1}")
            db.execute("SET temp_directory = ?", [spill])
            if self.memory:
                db.execute("SET memory_limit = ?", [self.memory])
        return self._opened


def _coded_names(db: "duckdb.DuckDBPyConnection") -> str:
    """The columns of names that all visits have, as enumerations in the order of the names: a byte or two to sort."""
    found = db.sql(f"SELECT DISTINCT {', '.join(_NAMES)} FROM visits").to_arrow_table()
    made = []
    for name in _NAMES:
        values = sorted(set(found[name].cast(pa.string()).to_pylist())) or [""]
        listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        made.append(f"CAST({name} AS ENUM ({listed})) AS {name}")
    return ", ".join(made)


def _close(db: "duckdb.DuckDBPyConnection", spill: str) -> None:
    """What an engine leaves behind is removed with it."""
    db.close()
    shutil.rmtree(spill)


def _windows(step: Rank) -> str:
    """Window functions for what a Rank adds."""
    parted = f"PARTITION BY {', '.join(step.within)} " if step.within else ""
    ordered = f"({parted}ORDER BY {', '.join((*step.by, *TIES))} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    made = [f"row_number() OVER {ordered} - 1 AS {step.rank}", f"count(*) OVER ({parted}) AS {step.count}"]
    if step.before:
        made.append(f"CAST(sum(length) OVER {ordered} AS BIGINT) - length AS {step.before}")
    if step.total:
        made.append(f"CAST(sum(length) OVER ({parted}) AS BIGINT) AS {step.total}")
    return ", ".join(made)
