"""Read Spark's report of a failed job: which group of tasks lost its worker, and why.

Tasks never raise (pipelines/tasks.py), so a job fails for one of three reasons: a worker process died, the
workers cannot run our code at all, or Spark itself gave up. Only the first can be laid at a task's door.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import EnvironmentProblem

_FAILED = re.compile(r"Task (\d+) in stage [\d.]+ failed (\d+) times")
_TRACEBACK = "Traceback (most recent call last)"
_RAISED = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception)\b.*)", re.MULTILINE)
_FATAL = re.compile(r"Fatal Python error: ([^\n]+)")


@dataclass(frozen=True)
class Death:
    """A worker that died: the index of its group, how often it was tried, and the reason in words."""

    group: int
    times: int
    reason: str


def worker_death(failure: Exception, *, log_file: Path) -> Death:
    """What a failed job says about a worker that died.

    Raises:
        EnvironmentProblem: no worker died; they cannot run our code, or Spark stopped.
    """
    text, where = _text(failure), str(log_file)
    if _TRACEBACK in text:  # a worker that dies leaves none
        raised = _RAISED.findall(text.partition(_TRACEBACK)[2]) or [first_line(failure)]
        raise EnvironmentProblem(
            "Spark's workers cannot run our tasks",
            found=raised[0],
            where=where,
            fix="give the executors a Python with Gradatim's requirements (PYSPARK_PYTHON)",
        ) from failure
    failed = _FAILED.search(text)
    if failed is None:
        raise EnvironmentProblem(
            "Spark stopped before the tasks were done", found=first_line(failure), where=where
        ) from failure
    fatal = _FATAL.search(text)
    cause = fatal[1] if fatal else "out of memory, or a crash in native code"
    return Death(int(failed[1]), int(failed[2]), f"the worker process died {failed[2]} times ({cause})")


@contextmanager
def spark_errors(log_file: Path) -> Iterator[None]:
    """Raise EnvironmentProblem for an error of Spark's inside; the queries are ours, so it is never the user's SQL."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        raise EnvironmentProblem("Spark could not run a query", found=first_line(error), where=str(log_file)) from error


def first_line(error: Exception) -> str:
    """The first line of an exception's message."""
    return (_text(error).strip().splitlines() or [type(error).__name__])[0]


def _text(error: Exception) -> str:
    """The message; a Java exception asks the Java process for it, which may be gone."""
    from py4j.protocol import Py4JError

    try:
        return str(error)
    except (Py4JError, OSError):
        return f"{type(error).__name__}, and Spark's Java process is gone"
