"""The Spark runtime: the same tasks and the same SQL as the local runtime, on any Spark master.

Spark carries names and settings, never texts: a worker reads its shard and writes its output by itself. Small
tasks share a Spark task, because starting one in Python costs 55 ms. Completions come back through a Spark
accumulator: it needs no port and no polling of files, delivers each finished Spark task once and at once, and
works on every master; the driver looks at it ten times a second. A worker that dies is traced to its task: what was
open in its group runs again, one by one, and the culprit's completion carries the reason.

Run it:  gradatim run recipe.yaml --runtime spark --master 'local[4]'
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from corpus.errors import InputError, SchemaError
from pipelines.spark.report import spark_errors, worker_death
from pipelines.tasks import Completion, Task, completed

if TYPE_CHECKING:
    from curriculum.arrangement import Engine
    from pipelines.spark.session import Session

OnDone = Callable[[Completion], None]
GROUPS_PER_SLOT = 16  # enough for even load and a steady bar, and under a second of Spark's own cost a slot
_CODE = "gradatim-code"


class SparkRuntime:
    """Runs tasks and SQL on Spark. Nothing starts before the first of them comes.

    Args:
        master: as of spark-submit; None for this machine.
        workers: tasks side by side on a local master; a cluster decides by its own settings.
        scratch: folder for temporary files and `spark.log`.
        settings: Spark settings that override ours.
    """

    name = "spark"

    def __init__(
        self, *, master: str | None, workers: int | None, scratch: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.master, self.workers, self.scratch, self.settings = master, workers, scratch, settings
        self._session: Session | None = None
        self._code: str | None = None

    def map(self, tasks: Sequence[Task], on_done: OnDone) -> None:
        """Run every task; each completion, good or bad, is handed to `on_done` in the calling thread.

        A task that kills its worker three times gets a completion with the reason; the others still run.

        Raises:
            EnvironmentProblem: no Java, no cluster, or Spark itself gave up.
        """
        open_tasks = {task.name: task for task in tasks}
        assert len(open_tasks) == len(tasks), "task names are unique"

        def deliver(done: Completion) -> None:
            if open_tasks.pop(done.name, None) is not None:
                on_done(done)

        alone: set[str] = set()
        while open_tasks:
            groups = self._groups(open_tasks, alone)
            failure = self._run(groups, deliver)
            if failure is None:
                assert not open_tasks, "every task of a finished job has a completion"
                return
            death = worker_death(failure, log_file=self._open().log_file)
            group = groups[death.group]
            for done in completed(list(open_tasks.values())).values():
                deliver(done)
            suspects = [task.name for task in group if task.name in open_tasks]
            if len(group) == 1 and suspects:
                deliver(Completion(name=suspects[0], attempts=death.times, error=death.reason))
            alone.update(suspects)

    def sql(self, query: str, views: Mapping[str, Sequence[Path]], schema: pa.Schema) -> pa.Table:
        """Run one query over Parquet files named as views; the result is cast to `schema`, in the query's order.

        One text serves DuckDB and Spark (ANSI mode, double-quoted identifiers, UTC) if it keeps to these rules:

        - `ORDER BY` is total and says `NULLS FIRST` or `NULLS LAST`: the engines' defaults differ.
        - `/` is never used on integers to get integers, and never divides by zero (an error here, null there):
          `floor(a / nullif(b, 0))`.
        - A fraction becomes an integer by `floor` or `round` first: a bare CAST truncates here and rounds there.
        - Types are written BIGINT, INT, DOUBLE, FLOAT, STRING, BOOLEAN; no VARCHAR without a length.
        - `array_agg`, `row_number`, `ntile`, `percentile_cont(p) WITHIN GROUP (ORDER BY x)`; no list indices (0 or
          1 based), no `unnest` or `explode`, no `//`, no SEMI JOIN (write EXISTS), no engine's hash function.
        - Sums of floats depend on the partition, and percentiles differ in the last bit: sum integers, or round.
        - Columns are signed: Spark reads a Parquet uint64 as decimal(20, 0). Files and folders whose name begins
          with `_` or `.` are invisible to Spark.

        Raises:
            InputError: a view without files. SchemaError: the result does not fit `schema`.
            EnvironmentProblem: Spark failed; the queries are ours, so this is never the user's SQL.
        """
        from pipelines.spark.session import read_parquet

        if empty := [name for name, paths in views.items() if not paths]:
            raise InputError(f"no Parquet files for {', '.join(empty)}", expected="at least one, even if without rows")
        session = self._open()
        try:
            with spark_errors(session.log_file):
                for name, paths in views.items():
                    read_parquet(session.spark, paths).createOrReplaceTempView(name)
                table = session.spark.sql(query).toArrow()
        finally:
            for name in views:
                session.spark.catalog.dropTempView(name)
        if table.column_names != schema.names:
            raise SchemaError(
                "a query's columns differ from its schema", expected=str(schema.names), found=str(table.column_names)
            )
        return table.cast(schema)

    def order_engine(self, scratch: Path) -> "Engine":
        """Spark itself; on a cluster `scratch` must lie where every executor can write."""
        from pipelines.spark.order_engine import SparkOrderEngine

        return SparkOrderEngine(self._open(), scratch)

    def close(self) -> None:
        """Stop Spark and its process, and remove its temporary files."""
        if self._session is not None:
            self._session.close()
            self._session = self._code = None

    def _open(self) -> "Session":
        if self._session is None:
            from pipelines.spark.session import open_session
            from pipelines.spark.shipped import pack

            self._session = open_session(
                self.master,
                scratch=self.scratch,
                log_file=self.scratch / "spark.log",
                workers=self.workers,
                settings=self.settings,
            )
            if not self._session.is_local:
                archive = pack(self._session.folder / f"{_CODE}.zip")
                self._session.spark.sparkContext.addArchive(f"{archive.as_uri()}#{_CODE}")
                self._code = _CODE
        return self._session

    def _groups(self, tasks: Mapping[str, Task], alone: set[str]) -> list[list[Task]]:
        """Neighbouring tasks in groups of equal size; those in `alone` each in a group of their own."""
        shared = [task for name, task in tasks.items() if name not in alone]
        size = -(-len(shared) // (GROUPS_PER_SLOT * self._open().slots)) or 1
        groups = [shared[start : start + size] for start in range(0, len(shared), size)]
        return [[tasks[name]] for name in tasks if name in alone] + groups

    def _run(self, groups: Sequence[Sequence[Task]], deliver: OnDone) -> Exception | None:
        """Run groups as one Spark job and deliver what arrives; the exception that ended the job, or None."""
        from pyspark import InheritableThread, cloudpickle

        from pipelines.spark import worker

        cloudpickle.register_pickle_by_value(worker)  # type: ignore[no-untyped-call]
        context = self._open().spark.sparkContext
        arrivals = context.accumulator([], worker.Arriving())
        dumps: Callable[[Task], bytes] = cloudpickle.dumps
        payloads = [[dumps(task) for task in group] for group in groups]
        work = partial(worker.run_groups, code=self._code, arrivals=arrivals)
        failures: list[Exception] = []
        label = f"gradatim-{arrivals.aid}"

        def job() -> None:
            context.setJobGroup(label, f"{sum(map(len, groups))} tasks", interruptOnCancel=True)
            try:
                context.parallelize(payloads, len(payloads)).foreachPartition(work)
            except Exception as error:  # carried to the calling thread, which blames a task or raises
                failures.append(error)

        thread = InheritableThread(target=job, name=label, daemon=True)
        thread.start()
        delivered = 0
        try:
            while True:
                running = thread.is_alive()
                thread.join(0.1)
                for done in (batch := arrivals.value[delivered:]):
                    deliver(done)
                delivered += len(batch)
                if not running:
                    return failures[0] if failures else None
        except BaseException:
            context.cancelJobGroup(label)
            thread.join(10.0)
            raise
