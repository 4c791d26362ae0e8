"""The runtime contract, and the local runtime: a process pool for tasks, DuckDB for global steps.

A runtime carries tasks to workers and runs SQL over Parquet files; it knows nothing of what they mean. `local`
needs no JVM and starts at once; `spark` (pipelines/spark/runtime.py) runs the same tasks on a cluster. SQL
texts stay within the common subset of DuckDB and Spark SQL and end in a total ORDER BY.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from corpus.errors import ConfigError
from pipelines.tasks import Completion, Task, run_task

if TYPE_CHECKING:
    from curriculum.arrangement import Engine

OnDone = Callable[[Completion], None]


class Runtime(Protocol):
    """Something that runs tasks and global SQL steps."""

    name: str

    def map(self, tasks: Sequence[Task], on_done: OnDone) -> None:
        """Run every task; each completion, good or bad, is handed to `on_done` as soon as it is known."""
        ...

    def sql(self, query: str, views: Mapping[str, Sequence[Path]], schema: pa.Schema) -> pa.Table:
        """Run one query over Parquet files named as views; the result is cast to `schema`, in the query's order."""
        ...

    def order_engine(self, scratch: Path) -> "Engine":
        """What sorts visits into orders here; what does not fit in memory lies under `scratch` meanwhile.

        Use it before the runtime is closed. The order does not depend on the runtime or its workers.
        """
        ...

    def close(self) -> None:
        """Free workers and scratch space. A runtime that was never used holds none."""
        ...


class LocalRuntime:
    """Runs tasks in worker processes of this machine.

    One worker works in this process, unless `own_process` asks for one apart: work that takes gigabytes or
    sets threads (a language model, training) gives them back when its process ends.
    """

    name = "local"

    def __init__(self, workers: int, *, own_process: bool = False) -> None:
        self.workers, self.own_process = workers, own_process
        self._pool: ProcessPoolExecutor | None = None

    def map(self, tasks: Sequence[Task], on_done: OnDone) -> None:
        """Run tasks side by side. A worker that dies is traced to its task by running those it may have had alone.

        Tasks are taken in their order, so these are the first of the open ones, as many as there are workers.
        """
        if self.workers == 1 and not self.own_process:
            for task in tasks:
                on_done(run_task(task))
            return
        open_tasks = {task.name: task for task in tasks}
        while open_tasks:
            try:
                pool = self._workers()
                futures = [pool.submit(run_task, task) for task in open_tasks.values()]
                for future in as_completed(futures):
                    done = future.result()
                    del open_tasks[done.name]
                    on_done(done)
            except BrokenProcessPool:
                self.close()
                for task in list(open_tasks.values())[: self.workers]:
                    del open_tasks[task.name]
                    on_done(_run_alone(task))

    def sql(self, query: str, views: Mapping[str, Sequence[Path]], schema: pa.Schema) -> pa.Table:
        """Run the query in an in-memory DuckDB. Raises duckdb.Error for invalid SQL: the queries are ours."""
        import duckdb

        with duckdb.connect() as db:
            db.execute(f"SET threads = {self.workers}")
            for name, paths in views.items():
                db.from_parquet([str(path) for path in paths]).create_view(name)
            return db.sql(query).to_arrow_table().cast(schema)

    def order_engine(self, scratch: Path) -> "Engine":
        """DuckDB with as many threads as there are workers, and a quarter of the machine's memory."""
        from curriculum.duckdb_engine import DuckDBEngine

        return DuckDBEngine(threads=self.workers, memory=f"{quarter_of_memory()}MiB", scratch=scratch)

    def close(self) -> None:
        """Stop the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Workers are many and single-threaded; where one does use threads, idle ones must not spin on a busy core.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")
            context = multiprocessing.get_context("forkserver")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_end_with_parent)
        return self._pool


def quarter_of_memory() -> int:
    """What one process may take without being asked, in MiB: a quarter of the machine's memory, 1 to 8 GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(8192, max(1024, memory // 4 // 2**20))


def _end_with_parent() -> None:
    """Kill this worker when the process that asked for it ends, however that ends.

    A worker that outlived a killed run would go on generating, beside the run that resumes it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "called by a worker as it starts"

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _run_alone(task: Task) -> Completion:
    """Run one task in a process of its own, so that a crash can be laid at its door."""
    for _ in range(task.deaths):
        try:
            context = multiprocessing.get_context("forkserver")
            with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
                return pool.submit(run_task, task).result()
        except BrokenProcessPool:
            continue
    reason = "the worker process died (out of memory, or a crash in native code)"
    return Completion(name=task.name, attempts=task.deaths, error=reason)


def make_runtime(name: str, *, workers: int, master: str | None, scratch: Path) -> Runtime:
    """Build a runtime by name (`local` or `spark`). Nothing starts until it has work.

    Raises ConfigError for an unknown name, or for a --master given to the local runtime.
    """
    if name == "local":
        if master:
            raise ConfigError("--master is for the spark runtime", found=f"--runtime local --master {master}")
        return LocalRuntime(workers)
    if name == "spark":
        from pipelines.spark.runtime import SparkRuntime

        return SparkRuntime(master=master, workers=workers, scratch=scratch)
    raise ConfigError(f"there is no runtime {name!r}", expected="local or spark")
