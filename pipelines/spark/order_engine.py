"""Sort visits with Spark: the engine for orders of more visits than one machine sorts in good time.

The steps of an arrangement (curriculum/arrangement.py) become Spark SQL, whose rows equal DuckDB's one by one. No step
gathers all visits in one task. A sort cuts the line of keys into ranges, one a task, and sorts each; its files,
read in the order of the ranges, are the order. A number in the whole line is a number in the range plus the
visits of the ranges before it, which are counted in a second pass over the same files.

How it is used: `SparkRuntime(...).order_engine(scratch).sort(paths, arrangement)`.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.shards import read_schema
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
from pipelines.spark.report import spark_errors
from pipelines.spark.session import Session, read_parquet

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RANGE_VISITS = 1_000_000  # a task that lacks the memory for them sorts through its disk
BATCH_ROWS = 122_880
# What the expressions need, whoever opened the session: quotes as in DuckDB, overflow an error, no `${...}` variables.
_SETTINGS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.legacy.consecutiveStringLiterals.enabled": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.variable.substitute": "false",
    "spark.sql.parquet.compression.codec": "lz4_raw",
}


class SparkOrderEngine:
    """The engine of a cluster, or of Spark on this machine.

    Args:
        session: an open session; the engine works in one of its own beside it, with its own settings and views.
        scratch: a folder that every executor and this process reach: every sort writes its rows there once, and
            every `Rank` once more.
        range_visits: about how many visits a task sorts at a time. The result does not depend on it.
    """

    def __init__(self, session: Session, scratch: Path, *, range_visits: int = RANGE_VISITS) -> None:
        self.session, self.scratch, self.range_visits = session, scratch.resolve(), range_visits
        self._spark: SparkSession = session.spark.newSession()
        for key, value in _SETTINGS.items():
            self._spark.conf.set(key, value)

    def columns(self, visits: Visits) -> dict[str, pa.DataType]:
        """Names and types of the visits' columns."""
        schema = visits.schema if isinstance(visits, pa.Table) else read_schema(Path(visits[0]))
        return {
            field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema
        }

    def query(self, sql: str, visits: Visits) -> pa.Table:
        """The whole result of a query over the table `visits`. Raises EnvironmentProblem where Spark fails."""
        with self._open(visits) as work, spark_errors(self.session.log_file):
            work.visits.createOrReplaceTempView("visits")
            return self._spark.sql(sql).toArrow()

    def sort(self, visits: Visits, arrangement: Arrangement) -> Iterator[pa.RecordBatch]:
        """The visits that the arrangement keeps, in its order, with the columns of OUTPUT.

        Raises EnvironmentProblem where Spark fails.
        """
        with self._open(visits) as work:
            with spark_errors(self.session.log_file):
                files = work.sorted(arrangement)
            for file in files:
                yield from pq.ParquetFile(file, read_dictionary=["source", "phase"]).iter_batches(BATCH_ROWS)

    @contextmanager
    def _open(self, visits: Visits) -> Iterator["_Work"]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gradatim-order-", dir=self.scratch) as place:
            folder = Path(place)
            if isinstance(visits, pa.Table):
                pq.write_table(visits, folder / "visits.parquet", row_group_size=BATCH_ROWS)
                visits = [folder / "visits.parquet"]
            n = sum(pq.read_metadata(path).num_rows for path in visits)
            ranges = max(1, -(-n // self.range_visits))
            with spark_errors(self.session.log_file):
                self._spark.conf.set("spark.sql.shuffle.partitions", str(max(ranges, self.session.slots)))
                frame = read_parquet(self._spark, visits)
            yield _Work(self._spark, frame, folder, ranges)


class _Work:
    """One pass over visits: a frame, a folder for its files, and into how many ranges a sort is cut."""

    def __init__(self, spark: "SparkSession", visits: "DataFrame", folder: Path, ranges: int) -> None:
        self.spark, self.visits, self.folder, self.ranges = spark, visits, folder, ranges
        self._written = 0

    def sorted(self, arrangement: Arrangement) -> list[Path]:
        """Parquet files of the arranged visits, in order, with the columns of OUTPUT."""
        frame = self.visits
        steps = (*hash_steps("_hash", arrangement.seed), *arrangement.steps)
        for number, step in enumerate(steps):
            frame = self._apply(_pruned(frame, _texts(steps[number:], arrangement)), step)
        shown = {"score": arrangement.score, "rule": arrangement.rule}
        keys = (*arrangement.keys, *TIES)
        named = [f"{key} AS __key{i}" for i, key in enumerate(keys)]
        made = [f"{shown.get(name, column(name))} AS {column(name)}" for name in OUTPUT]
        ordered = self._by_range(frame.selectExpr(*made, *named), [f"__key{i}" for i in range(len(keys))])
        return self._written_files(ordered.select(*OUTPUT))

    def _apply(self, frame: "DataFrame", step: Step) -> "DataFrame":
        if isinstance(step, Derive):
            return frame.selectExpr("*", *(f"{expression} AS {name}" for name, expression in step.columns.items()))
        if isinstance(step, Keep):
            return frame.where(step.condition)
        if isinstance(step, Rank):
            return self._ranked(frame, step)
        if isinstance(step, Lookup):
            return self._joined(frame, step.table, step.on)
        return self._joined(frame, self._scanned(frame, step), step.rank)

    def _by_range(self, frame: "DataFrame", keys: Sequence[str]) -> "DataFrame":
        """The frame cut into ranges of the keys, each sorted. Keys end in TIES, so that equal ones cannot pile up."""
        return frame.repartitionByRange(self.ranges, *keys).sortWithinPartitions(*keys)

    def _written_files(self, frame: "DataFrame") -> list[Path]:
        """Write a frame; its files by partition. They keep the rows' order, and a partition makes one file at most."""
        self._written += 1
        folder = self.folder / f"rows-{self._written}"
        frame.write.parquet(f"file://{folder}")
        return sorted(folder.glob("part-*.parquet"))

    def _ranked(self, frame: "DataFrame", step: Rank) -> "DataFrame":
        """Number the visits of each group.

        The sort puts groups one after the other, so in every range a group is one run of rows. Ranges and rows are
        numbered while the sorted rows are written, and everything after reads those files: where Spark puts the
        borders, which depends on a sample, or whether it sorts a lost range again, cannot make the passes disagree.
        """
        groups = [f"__group{i}" for i in range(len(step.within))]
        keys = [f"__key{i}" for i in range(len(step.by) + len(TIES))]
        parted, sorted_by = zip(step.within, groups, strict=True), zip((*step.by, *TIES), keys, strict=True)
        named = [f"{value} AS {name}" for value, name in (*parted, *sorted_by)]
        ordered = self._by_range(frame.selectExpr("*", *named), [*groups, *keys]).drop(*keys)
        # Spark's id of a row: the partition's number times 2^33, plus the row's number in its partition.
        numbered = ordered.selectExpr("*", "monotonically_increasing_id() AS __id")
        numbered = numbered.selectExpr("* EXCEPT (__id)", "__id >> 33 AS __range", f"__id & {2**33 - 1} AS __row")
        read_parquet(self.spark, self._written_files(numbered), numbered.schema).createOrReplaceTempView("ranked")
        return self.spark.sql(_rank_sql(step, groups)).drop("__range", "__row", *groups)

    def _joined(self, frame: "DataFrame", table: pa.Table, on: str) -> "DataFrame":
        """Add the columns of a table. A small one goes to every task; for another Spark sorts both sides."""
        self._written += 1
        path = self.folder / f"table-{self._written}.parquet"
        pq.write_table(table.rename_columns(["__first", *table.column_names[1:]]), path, row_group_size=BATCH_ROWS)
        right = read_parquet(self.spark, [path])
        keyed = frame.selectExpr("*", f"{on} AS __on")
        return keyed.join(right, keyed["__on"] == right["__first"]).drop("__on", "__first")

    def _scanned(self, frame: "DataFrame", step: Scan) -> pa.Table:
        files = self._written_files(frame.selectExpr(f"{step.rank} AS at", f"{step.read} AS value"))
        values = np.zeros(sum(pq.read_metadata(file).num_rows for file in files), np.int64)
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
                values[batch.column("at").to_numpy()] = batch.column("value").to_numpy()
        places = step.place(values)
        return pa.table({"_at": np.arange(len(places), dtype=np.int64), step.name: places})


def _rank_sql(step: Rank, groups: Sequence[str]) -> str:
    """Numbers over the view `ranked`, where rows are numbered in their ranges and a group is a run of rows in each."""
    listed, by_group = "".join(f", {name}" for name in groups), f"PARTITION BY {', '.join(groups)}" if groups else ""
    earlier = f"OVER ({by_group} ORDER BY __range ROWS UNBOUNDED PRECEDING)"
    in_range = f"OVER (PARTITION BY r.__range{''.join(f', r.{name}' for name in groups)} ORDER BY r.__row)"
    made = [f"r.__row + o.skipped AS {step.rank}", f"o.visits AS {step.count}"]
    if step.before:
        made.append(f"o.earlier + sum(r.length) {in_range} - r.length AS {step.before}")
    if step.total:
        made.append(f"o.tokens AS {step.total}")
    same = " AND ".join(f"r.{name} <=> o.{name}" for name in ("__range", *groups))  # a group may be null
    return f"""
        WITH runs AS (
            SELECT __range{listed}, count(*) AS n, sum(length) AS mass, min(__row) AS first
            FROM ranked GROUP BY __range{listed}
        ), offsets AS (
            SELECT __range{listed}, sum(n) {earlier} - n - first AS skipped, sum(n) OVER ({by_group}) AS visits,
                sum(mass) {earlier} - mass AS earlier, sum(mass) OVER ({by_group}) AS tokens
            FROM runs
        )
        SELECT /*+ BROADCAST(o) */ r.*, {", ".join(made)} FROM ranked r JOIN offsets o ON {same}"""


def _pruned(frame: "DataFrame", texts: str) -> "DataFrame":
    """Only the columns that every order has or a later step names, so that no other is sorted and written.

    A name that merely occurs in a longer one keeps its column, which costs room and nothing else.
    """
    always = {*OUTPUT, *TIES}
    named = [name for name in frame.columns if name in always or column(name)[1:-1].lower() in texts]
    return frame.selectExpr(*map(column, named))


def _texts(steps: Sequence[Step], arrangement: Arrangement) -> str:
    """All expressions of what is still to be done, in one text of small letters."""
    parts = [*arrangement.keys, arrangement.rule, arrangement.score]
    for step in steps:
        if isinstance(step, Derive):
            parts += step.columns.values()
        elif isinstance(step, Keep):
            parts.append(step.condition)
        elif isinstance(step, Rank):
            parts += [*step.by, *step.within]
        elif isinstance(step, Lookup):
            parts.append(step.on)
        else:
            parts += [step.rank, step.read]
    return "\n".join(parts).lower()
