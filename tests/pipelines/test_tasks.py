"""Tasks resume, retry, and fail by name; the local runtime traces a dead worker to its task."""

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from corpus.artifacts import Artifact
from corpus.errors import InputError, TaskError
from corpus.shards import write_text
from pipelines.build import Workshop
from pipelines.progress import Progress
from pipelines.runtime import LocalRuntime
from pipelines.tally import Tally, add_totals
from pipelines.tasks import Task, completed, completion_path, note_progress, noted_progress, run_task


@dataclass(frozen=True)
class Write:
    """Writes its text; notes every call in `calls`, so that tests see what ran."""

    text: str
    calls: Path
    fail_times: int = 0

    def run(self, folder, tally):
        with self.calls.open("a") as file:
            file.write(self.text + "\n")
        if self.calls.read_text().split().count(self.text) <= self.fail_times:
            raise RuntimeError("a passing fault")
        tally.records_in += 3
        tally.kept += 2
        tally.dropped["too short"] += 1
        write_text(folder / f"{self.text}.txt", self.text)
        return [folder / f"{self.text}.txt"]


@dataclass(frozen=True)
class Refuse:
    def run(self, folder, tally):
        raise InputError("this input is bad", fix="mend it")


@dataclass(frozen=True)
class Die:
    def run(self, folder, tally):
        os.kill(os.getpid(), signal.SIGKILL)
        return []


@dataclass(frozen=True)
class Miscount:
    def run(self, folder, tally):
        tally.records_in += 1
        return []


def build(root, work, workers=1, config=None, **options):
    runtime = LocalRuntime(workers, **options)
    try:
        return Workshop(root, runtime).build_tasks("thing", "test", config=config or {}, inputs=[], work=work)
    finally:
        runtime.close()


def test_a_passing_fault_is_retried_and_the_attempts_are_counted(tmp_path):
    done = run_task(Task("a", tmp_path, Write("x", tmp_path / "calls", fail_times=2)))
    assert done.error is None
    assert done.attempts == 3
    assert completion_path(tmp_path, "a").exists()


def test_a_lasting_fault_fails_with_its_reason_and_trace(tmp_path):
    done = run_task(Task("a", tmp_path, Write("x", tmp_path / "calls", fail_times=9)))
    assert done.error == "RuntimeError: a passing fault"
    assert "Traceback" in done.trace
    assert not completion_path(tmp_path, "a").exists()


def test_errors_of_the_input_are_not_retried(tmp_path):
    done = run_task(Task("a", tmp_path, Refuse()))
    assert done.attempts == 1
    assert "mend it" in done.error


def test_a_record_that_is_neither_kept_nor_dropped_fails_the_task(tmp_path):
    assert "1 in, 0 kept, 0 dropped" in run_task(Task("a", tmp_path, Miscount(), attempts=1)).error


def test_a_build_runs_only_what_is_missing(tmp_path):
    calls = tmp_path / "calls"
    good, bad = Write("good", calls), Write("bad", calls, fail_times=3)
    with pytest.raises(TaskError, match=r"1 of 2 tasks failed, the first is b"):
        build(tmp_path, {"a": good, "b": bad})
    artifact = build(tmp_path, {"a": good, "b": bad})
    assert calls.read_text().split() == ["good", "bad", "bad", "bad", "bad"]
    assert artifact.manifest.totals == {"records_in": 6, "kept": 4, "dropped": {"too short": 2}, "problems": {}}
    build(tmp_path, {"a": good, "b": bad})
    assert len(calls.read_text().split()) == 5
    build(tmp_path, {"a": good, "b": bad}, config={"changed": True})
    assert len(calls.read_text().split()) == 7


def test_a_completion_whose_file_is_gone_does_not_count(tmp_path):
    task = Task("a", tmp_path, Write("x", tmp_path / "calls"))
    run_task(task)
    assert set(completed([task])) == {"a"}
    (tmp_path / "x.txt").unlink()
    assert completed([task]) == {}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path, workers):
    for name, count in (("one", 1), ("many", workers)):
        work = {f"t{i}": Write(f"text{i}", tmp_path / f"calls-{name}") for i in range(5)}
        build(tmp_path / name, work, count)
    first, second = (Artifact(tmp_path / name / "thing") for name in ("one", "many"))
    assert first.manifest == second.manifest
    assert (first.folder / "manifest.json").read_bytes() == (second.folder / "manifest.json").read_bytes()


def test_a_dead_worker_is_laid_at_its_tasks_door(tmp_path):
    calls = tmp_path / "calls"
    work = {"dies": Die(), **{f"t{i}": Write(f"text{i}", calls) for i in range(3)}}
    with pytest.raises(TaskError, match=r"1 of 4 tasks failed, the first is dies(.|\n)*worker process died"):
        build(tmp_path, work, workers=2)
    assert {path.name for path in (tmp_path / "thing").glob("*.txt")} == {"text0.txt", "text1.txt", "text2.txt"}


ORPHANS = """
import sys
from pathlib import Path
from pipelines.runtime import LocalRuntime
from pipelines.tasks import Task
from tests.pipelines.test_tasks import Linger

folder = Path(sys.argv[1])
LocalRuntime(1, own_process=True).map([Task("a", folder, Linger(folder / "pid"))], print)
"""


@dataclass(frozen=True)
class Linger:
    """Says which process it is in, and stays for as long as it may."""

    note: Path

    def run(self, folder, tally):
        write_text(self.note, str(os.getpid()))
        time.sleep(600)
        return []


def test_no_worker_outlives_a_killed_run(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", ORPHANS, str(tmp_path)])
    note = tmp_path / "pid"
    while not note.exists():
        assert run.poll() is None
        time.sleep(0.05)
    worker = Path("/proc") / note.read_text()
    assert worker.exists()
    run.kill()
    run.wait()
    deadline = time.monotonic() + 20
    while worker.exists() and "Z" not in (worker / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the worker goes on without its run"
        time.sleep(0.05)


@dataclass(frozen=True)
class DieTimes:
    """Kills its process so many times, then writes the number of the process that did the work."""

    name: str
    notes: Path
    times: int = 0

    def run(self, folder, tally):
        with self.notes.open("a") as file:
            file.write(self.name + "\n")
        if self.notes.read_text().split().count(self.name) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        write_text(folder / f"{self.name}.txt", str(os.getpid()))
        return [folder / f"{self.name}.txt"]


def test_a_task_may_kill_its_process_often_and_the_others_share_one_again(tmp_path):
    names = {"a": 0, "b": 4, "c": 0, "d": 0}
    work = {name: DieTimes(name, tmp_path / "notes", times) for name, times in names.items()}
    runtime = LocalRuntime(1, own_process=True)
    made = Workshop(tmp_path, LocalRuntime(1)).build_tasks(
        "thing", "test", config={}, inputs=[], work=work, runtime=runtime, deaths=6
    )
    ran_in = {name: (made.folder / f"{name}.txt").read_text() for name in names}
    assert ran_in["c"] == ran_in["d"]
    assert len(set(ran_in.values())) == 3
    again = {name: DieTimes(name, tmp_path / "more", times) for name, times in names.items()}
    with pytest.raises(TaskError, match="1 of 4 tasks failed, the first is b"):
        Workshop(tmp_path / "few", LocalRuntime(1)).build_tasks(
            "thing", "test", config={}, inputs=[], work=again, runtime=LocalRuntime(1, own_process=True), deaths=3
        )


def test_words_beside_the_bar_are_shown(tmp_path):
    screen = io.StringIO()
    progress = Progress(console=Console(file=screen, force_terminal=True, width=140))
    with progress.stage("rephrased", total=1, done=0, watch=lambda: (3, 12, "250 tokens/s, 92% kept")):
        time.sleep(1.0)
    assert "3/12" in screen.getvalue()
    assert "250 tokens/s, 92% kept" in screen.getvalue()


def test_a_long_task_moves_the_bar(tmp_path):
    assert noted_progress(tmp_path) is None
    note_progress(tmp_path, 3, 12)
    assert noted_progress(tmp_path) == (3, 12)
    screen = io.StringIO()
    progress = Progress(console=Console(file=screen, force_terminal=True, width=100))
    with progress.stage("runs/a", total=1, done=0, watch=lambda: noted_progress(tmp_path)):
        time.sleep(1.0)
    assert "3/12" in screen.getvalue()
    assert "done" in screen.getvalue()


def test_strict_stops_at_the_first_problem():
    tally = Tally(strict=True)
    with pytest.raises(InputError, match="without --strict"):
        tally.problem("malformed JSON", "a.jsonl", 7, "{")
    lenient = Tally()
    lenient.problem("malformed JSON", "a.jsonl", 7, "{")
    assert lenient.problem_counts == {"malformed JSON": 1}


def test_totals_add_up_key_by_key():
    parts = [{"kept": 1, "dropped": {"a": 1}}, {"kept": 2, "dropped": {"b": 2, "a": 1}}]
    assert add_totals(parts) == {"kept": 3, "dropped": {"a": 2, "b": 2}}
