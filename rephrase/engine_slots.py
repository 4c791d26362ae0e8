"""Slots for several engines on one machine: each engine holds one, and with it its own devices.

A slot is a locked file. The lock belongs to the process and ends with it, however it ends, so a worker that was
killed leaves its slot free for the next one and nothing has to be cleaned up.

How it is used:  slot = claim_slot(slots_folder(), 4); release_slot(slot)
"""

import fcntl
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import EnvironmentProblem
from corpus.fingerprints import fingerprint


@dataclass(frozen=True, slots=True)
class Slot:
    """A claimed slot: its number from 0, and the open file whose lock holds it."""

    number: int
    descriptor: int


def claim_slot(folder: Path, n: int) -> Slot:
    """Take the lowest free one of n >= 1 slots; it is this process's until `release_slot` or the process's end.

    Raises EnvironmentProblem when all are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        descriptor = os.open(folder / f"slot-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return Slot(number, descriptor)
    raise EnvironmentProblem(
        f"all {n} engine slots of this machine are taken",
        expected=f"at most data_parallel: {n} engines at once",
        where=str(folder),
        fix="wait for the other run, or raise data_parallel if there are devices for it",
    )


def release_slot(slot: Slot) -> None:
    """Give a slot back before the process ends."""
    os.close(slot.descriptor)


def slots_folder() -> Path:
    """The slots of this user on this machine, apart for each set of visible devices."""
    devices = fingerprint(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return Path(tempfile.gettempdir()) / f"gradatim-{os.getuid()}" / f"engines-{devices}"


def devices_of(slot: int, per_engine: int) -> str:
    """What CUDA_VISIBLE_DEVICES must be for an engine of `per_engine` devices in the slot with this number.

    Slices are cut from the devices that are visible now. Raises EnvironmentProblem when there are too few of them.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    first, last = slot * per_engine, (slot + 1) * per_engine
    if not visible:
        return ",".join(map(str, range(first, last)))
    devices = visible.split(",")
    if len(devices) < last:
        raise EnvironmentProblem(
            f"engine {slot + 1} has no devices left",
            expected=f"{last} visible devices for {slot + 1} engines of tensor_parallel: {per_engine}",
            found=f"CUDA_VISIBLE_DEVICES={visible}",
            fix="lower data_parallel or tensor_parallel, or make more devices visible",
        )
    return ",".join(devices[first:last])
