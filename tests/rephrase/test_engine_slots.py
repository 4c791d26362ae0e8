"""A slot belongs to one process and is free again however that process ends."""

import os
import signal
import subprocess
import sys

import pytest

from corpus.errors import EnvironmentProblem
from rephrase.engine_slots import claim_slot, devices_of, release_slot, slots_folder

HOLD = """
import sys, pathlib
from rephrase.engine_slots import claim_slot
print(claim_slot(pathlib.Path(sys.argv[1]), 3).number, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    """Start a process that claims a slot, says which, and holds it."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_processes_take_different_slots_and_a_killed_one_frees_its_own(tmp_path, hold):
    holders = [hold() for _ in range(3)]
    assert [number for _, number in holders] == [0, 1, 2]
    with pytest.raises(EnvironmentProblem, match="all 3 engine slots of this machine are taken"):
        claim_slot(tmp_path, 3)
    killed = holders[1][0]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    slot = claim_slot(tmp_path, 3)
    assert slot.number == 1
    release_slot(slot)
    assert hold()[1] == 1


def test_a_child_process_does_not_keep_the_slot(tmp_path):
    slot = claim_slot(tmp_path, 1)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        release_slot(slot)
        release_slot(claim_slot(tmp_path, 1))
    finally:
        child.communicate()


@pytest.mark.parametrize(
    ("visible", "slot", "per_engine", "devices"),
    [("", 0, 1, "0"), ("", 2, 2, "4,5"), ("3,5,7,8", 1, 2, "7,8"), ("GPU-a,GPU-b", 1, 1, "GPU-b")],
)
def test_each_slot_has_devices_of_its_own(monkeypatch, visible, slot, per_engine, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices_of(slot, per_engine) == devices


def test_too_few_devices_are_an_error_and_other_devices_are_other_slots(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    with pytest.raises(EnvironmentProblem, match="engine 2 has no devices left"):
        devices_of(1, 2)
    here = slots_folder()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert slots_folder() != here
