"""Keep a server's process running: wait until it is healthy, start it again when it ends or hangs, end it at last.

The server is a child in a process group of its own. It never outlives this process (rephrase/serving_process.py), and
when it ends, what is left of its group is killed before the next one starts.

How it is used:  KeptServer(command, root="http://127.0.0.1:8000", log=path, say=print, ...).run()
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from corpus.errors import EnvironmentProblem
from rephrase.server_status import is_healthy
from rephrase.serving_process import GRACE

_POLL = 0.5  # seconds between looks at the child
_HEALTH_EVERY, _HEALTH_TIMEOUT = 5.0, 10.0
_TOLD_EVERY = 15.0  # seconds between lines while the server starts
_STABLE = 600.0  # seconds of service after which earlier deaths are forgotten
_LONGEST_PAUSE = 60.0
_KILLED = 5.0  # seconds until killed processes are gone; zombies that nobody reaps stay longer, and hold nothing


@dataclass(frozen=True)
class Patience:
    """How long a start and a silence may last, in seconds, and how many deaths in a row are borne."""

    start: float = 1800.0
    hang: float = 180.0
    deaths: int = 8
    first_pause: float = 1.0


@dataclass
class KeptServer:
    """A server that is kept running until this process is asked to stop.

    Args:
        module: the program, with its arguments: run as `python -m`.
        environment: variables it gets beside this process's own.
        root: URL below which /health answers 200 when the server is ready.
        log: file that takes all that the server prints, appended.
        say: takes a line for the user.
        ready: what to say whenever the server is ready.
        problem: makes the error of a server that did not start, from a reason and its log's length before, in bytes.
        patience: see Patience.
    """

    module: Sequence[str]
    environment: Mapping[str, str]
    root: str
    log: Path
    say: Callable[[str], None]
    ready: str
    problem: Callable[[BaseException, int], EnvironmentProblem]
    patience: Patience = field(default_factory=Patience)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _child: "subprocess.Popen[bytes] | None" = None

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; must be called from the main thread.

        Raises EnvironmentProblem when the server does not start, or ends again and again.
        """
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._keep_running()
        finally:
            self._end_child()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _keep_running(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            why, lasted = self._once(first=deaths == 0)
            self._end_child()
            if self._stopping.is_set():
                return
            deaths = 1 if lasted > _STABLE else deaths + 1
            self._pause_after(why, deaths)

    def _once(self, *, first: bool) -> tuple[str, float]:
        """Start the server and stay until it ends: why it did, and how many seconds it served."""
        since = self.log.stat().st_size if self.log.exists() else 0
        self._start()
        if not self._await_ready(since, first=first):
            return f"it did not start, {self._how_ended()}", 0.0
        self.say(self.ready)
        began = time.monotonic()
        return self._watch(), time.monotonic() - began

    def _pause_after(self, why: str, deaths: int) -> None:
        if deaths > self.patience.deaths:
            raise EnvironmentProblem(
                f"the server ended {deaths} times in a row",
                found=why,
                where=str(self.log),
                fix="read the end of that log; what was answered until now is kept by those who asked",
            )
        pause = min(_LONGEST_PAUSE, self.patience.first_pause * 2.0 ** (deaths - 1))
        self.say(f"the server ended ({why}); starting it again in {pause:.0f} s. Log: {self.log}")
        self._stopping.wait(pause)

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "rephrase.serving_process", *self.module]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def _await_ready(self, since: int, *, first: bool) -> bool:
        """Wait for /health. False when the child ended; raises when it did so at the first start, or takes too long."""
        began = told = time.monotonic()
        while not self._stopping.wait(_POLL):
            if self._ended():
                if first:
                    error = RuntimeError(f"the server ended while it started, {self._how_ended()}")
                    raise self.problem(error, since)
                return False
            if is_healthy(self.root, timeout=2.0):
                return True
            now = time.monotonic()
            if now - began > self.patience.start:
                error = RuntimeError(f"not ready after {now - began:.0f} seconds")
                raise self.problem(error, since)
            if now - told >= _TOLD_EVERY:
                told = now
                self.say(f"  {now - began:4.0f} s: {_last_line(self.log, since)}")
        return False

    def _watch(self) -> str:
        """Until the child ends, hangs, or must stop; says why."""
        healthy = asked = time.monotonic()
        while not self._stopping.wait(_POLL):
            if self._ended():
                return self._how_ended()
            now = time.monotonic()
            if now - asked < _HEALTH_EVERY:
                continue
            if is_healthy(self.root, timeout=_HEALTH_TIMEOUT):
                healthy = time.monotonic()
            elif now - healthy > self.patience.hang:
                return f"/health has not answered for {now - healthy:.0f} seconds"
            asked = time.monotonic()
        return "asked to stop"

    def _end_child(self) -> None:
        """Ask the child to end, wait, and kill what is left of its group."""
        child = self._child
        if child is None:
            return
        if child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
        self._child = None
        _kill_group(child)  # engines that outlived their server
        assert child.stdin is not None
        child.stdin.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping.is_set() and self._child is not None:  # asked twice: at once
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._stopping.set()

    def _ended(self) -> bool:
        return self._child is None or self._child.poll() is not None

    def _how_ended(self) -> str:
        code = self._child.returncode if self._child else None
        return f"killed by signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def _kill_group(leader: "subprocess.Popen[bytes]") -> None:
    """Kill a process group, and wait a moment until its memory and ports are free."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()
        end = time.monotonic() + _KILLED
        while time.monotonic() < end:
            os.killpg(leader.pid, 0)
            time.sleep(0.05)


def _last_line(log: Path, since: int) -> str:
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - 4096))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "nothing printed yet")
