"""A task: the unit that runtimes schedule, retry and resume.

One task reads its input, writes its output files atomically into an artifact's folder, and leaves a completion
row, `_tasks/<name>.json`, as its last act. Runtimes only carry tasks to workers; `run_task` is the same
function everywhere, so names, row order and bytes do not depend on who ran it. A rerun reads the completion
rows and runs only the tasks without one.
"""

import json
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, ValidationError

from corpus.artifacts import TASKS, Part, describe_part
from corpus.config import Config
from corpus.errors import EnvironmentProblem, GradatimError
from corpus.shards import write_text
from pipelines.tally import Tally

PROGRESS = "progress"


class Work(Protocol):
    """What a task does. Implementations are picklable and hold plain settings and paths only."""

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Do the work, write files atomically under `folder`, count in `tally`, and name the files written."""
        ...


@dataclass(frozen=True)
class Task:
    """A named piece of work on one artifact. The name is a file name: no slashes.

    `attempts`: how often it is tried when it raises what may pass; `deaths`: how often its process may die.
    """

    name: str
    folder: Path
    work: Work
    strict: bool = False
    attempts: int = 3
    deaths: int = 3


class Completion(Config):
    """What a task leaves behind: its files and counts, or the reason why it failed."""

    name: str
    parts: tuple[Part, ...] = ()
    totals: dict[str, Any] = Field(default={})
    seconds: float = 0.0
    attempts: int = 1
    error: str | None = None
    trace: str | None = None


def run_task(task: Task) -> Completion:
    """Run a task to its end, retrying what may pass; never raises for a failing task.

    Errors of the input, the configuration or the disk (`GradatimError`) are final at once; anything else is
    tried `attempts` times. The completion row is written only for success.
    """
    started = time.monotonic()
    for attempt in range(1, task.attempts + 1):
        try:
            parts, totals = _attempt(task)
        except Exception as error:  # the boundary of a task: every failure becomes a row with its reason
            final = isinstance(error, GradatimError) or attempt == task.attempts
            if final:
                return _failure(task, error, attempt, time.monotonic() - started)
            time.sleep(0.1 * attempt)
        else:
            seconds = time.monotonic() - started
            done = Completion(name=task.name, parts=parts, totals=totals, seconds=round(seconds, 3), attempts=attempt)
            write_text(completion_path(task.folder, task.name), done.model_dump_json())
            return done
    raise AssertionError("a task has at least one attempt")


def _attempt(task: Task) -> tuple[tuple[Part, ...], dict[str, Any]]:
    tally = Tally(strict=task.strict)
    files = list(task.work.run(task.folder, tally))
    if tally.problems:
        path = task.folder / "problems" / f"{task.name}.jsonl"
        lines = (json.dumps(vars(problem), ensure_ascii=True, sort_keys=True) for problem in tally.problems)
        write_text(path, "\n".join(lines) + "\n")
        files.append(path)
    tally.check(task.name)
    return tuple(describe_part(task.folder, path) for path in files), tally.as_totals()


def _failure(task: Task, error: Exception, attempt: int, seconds: float) -> Completion:
    ours = isinstance(error, GradatimError)
    reason = str(error) if ours else f"{type(error).__name__}: {error}"
    trace = None if ours and not isinstance(error, EnvironmentProblem) else traceback.format_exc()
    return Completion(name=task.name, seconds=round(seconds, 3), attempts=attempt, error=reason, trace=trace)


def completion_path(folder: Path, name: str) -> Path:
    """Where the completion row of a task lies while its artifact is being built."""
    return folder / TASKS / f"{name}.json"


def note_progress(folder: Path, done: int, total: int) -> None:
    """Leave a note of how far this task is, for the progress bar of whoever waits; nothing depends on it."""
    path = folder / TASKS / PROGRESS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{done} {total}")


def noted_progress(folder: Path) -> tuple[int, int] | None:
    """The newest note in an artifact that is being built; None where there is none that can be read yet."""
    try:
        done, total = (folder / TASKS / PROGRESS).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(done), int(total)


def completed(tasks: Sequence[Task]) -> dict[str, Completion]:
    """The completions of an earlier, interrupted build whose files are all still there, by task name."""
    found = {}
    for task in tasks:
        path = completion_path(task.folder, task.name)
        if not path.exists():
            continue
        try:
            done = Completion.model_validate_json(path.read_bytes())
        except ValidationError:
            continue
        files = [(task.folder / part.file, part.bytes) for part in done.parts]
        if all(file.exists() and file.stat().st_size == size for file, size in files):
            found[task.name] = done
    return found
