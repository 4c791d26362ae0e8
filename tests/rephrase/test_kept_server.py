"""A server that is kept running: started again when it ends or hangs, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TOY = """
import http.server, os, pathlib, signal, subprocess, sys, time

port, folder, how = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
starts = len(list(folder.glob("start-*")))
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # an engine of the server's own
(folder / f"start-{starts}").write_text(f"{os.getpid()} {engine.pid}")
if how == "never" or how == "once" and starts:
    sys.exit(3)

def end(*_):
    engine.kill()
    os._exit(0)

if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, end)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if how == "hangs" and starts == 0 and (folder / "hang").exists():
            time.sleep(600)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

KEEPER = """
import sys
from pathlib import Path
import rephrase.kept_server as kept
from corpus.errors import EnvironmentProblem

port, folder, how = sys.argv[1:]
kept._HEALTH_EVERY, kept._HEALTH_TIMEOUT, kept.GRACE = 0.2, 0.5, 1.0
server = kept.KeptServer(
    module=["toy_server", port, folder, how], environment={}, root=f"http://127.0.0.1:{port}",
    log=Path(folder) / "log", say=lambda line: print(line, flush=True), ready="READY",
    problem=lambda error, since: EnvironmentProblem("it did not start", found=str(error)),
    patience=kept.Patience(start=60, hang=1.0, deaths=2, first_pause=0.1),
)
try:
    server.run()
except EnvironmentProblem as error:
    print(error, flush=True)
    sys.exit(2)
"""


class Kept:
    """A keeper in a process of its own, with the toy server below it."""

    def __init__(self, folder: Path, how: str) -> None:
        (folder / "toy_server.py").write_text(TOY)
        (folder / "keeper.py").write_text(KEEPER)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        command = [sys.executable, str(folder / "keeper.py"), str(self.port), str(folder), how]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
        self.out = (folder / "out").open("w")
        self.process = subprocess.Popen(command, env=environment, stdout=self.out, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return (self.folder / "out").read_text()

    def pids(self, start: int) -> list[int]:
        return [int(pid) for pid in (self.folder / f"start-{start}").read_text().split()]

    def ready(self, times: int) -> None:
        until(lambda: self.said().count("READY") == times)


@pytest.fixture
def keep(tmp_path) -> Iterator[Callable[[str], Kept]]:
    started: list[Kept] = []

    def start(how: str) -> Kept:
        started.append(Kept(tmp_path, how))
        return started[-1]

    yield start
    for kept in started:
        kept.process.kill()
        kept.process.wait()
        kept.out.close()


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def test_a_killed_server_is_started_again_and_its_engine_does_not_stay(keep):
    kept = keep("well")
    kept.ready(1)
    os.kill(kept.pids(0)[0], signal.SIGKILL)
    kept.ready(2)
    until(lambda: gone(kept.pids(0)))
    assert "killed by signal 9" in kept.said()
    with urllib.request.urlopen(f"http://127.0.0.1:{kept.port}/health", timeout=30) as response:
        assert response.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["well", "stubborn"])
def test_a_stop_is_passed_on_and_leaves_nothing_behind(keep, number, how):
    kept = keep(how)
    kept.ready(1)
    kept.process.send_signal(number)
    assert kept.process.wait(60) == 0
    until(lambda: gone(kept.pids(0)))  # a killed process may need a moment on a busy machine


def test_a_killed_keeper_takes_its_server_with_it(keep):
    kept = keep("well")
    kept.ready(1)
    kept.process.kill()
    until(lambda: gone(kept.pids(0)))


def test_a_server_that_hangs_is_started_again(keep):
    kept = keep("hangs")
    kept.ready(1)
    (kept.folder / "hang").touch()
    kept.ready(2)
    until(lambda: gone(kept.pids(0)))
    assert "/health has not answered" in kept.said()


def test_a_server_that_does_not_start_is_an_error_at_once(keep):
    kept = keep("never")
    assert kept.process.wait(60) == 2
    assert "it did not start" in kept.said()
    assert "exit status 3" in kept.said()
    until(lambda: gone(kept.pids(0)))


def test_a_server_that_ends_again_and_again_is_given_up(keep):
    kept = keep("once")
    kept.ready(1)
    os.kill(kept.pids(0)[0], signal.SIGKILL)
    assert kept.process.wait(60) == 2
    assert "the server ended 3 times in a row" in kept.said()
    until(lambda: all(gone(kept.pids(start)) for start in range(3)))
