"""Files with one writer each, in a folder that many processes share, and how to tell whether a writer still lives.

A writer holds a lock (flock) on its file from the moment it is made; the system lets go of it when the process ends,
however it ends. So a file that can be locked has no writer any more. Lines carry a checksum, so that what a killed
process left half written is seen.

Where locks do not work, nobody's file is ever taken for abandoned. A file of another machine must also have been quiet
for a day: some shared file systems keep locks to the machine that took them.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from weakref import WeakSet

import xxhash

from corpus.shards import saying_when_full

QUIET_S = 24 * 3600.0


class OwnedFile:
    """A new file that only this object writes. `path`: named by time, machine and process, so names never meet."""

    def __init__(self, folder: Path, prefix: str, suffix: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fd, self.n_bytes = -1, 0
        while self._fd < 0:
            self.path = folder / f"{prefix}{unique_name()}{suffix}"
            with suppress(FileExistsError), saying_when_full(self.path):
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
                if not _lock_own(self._fd):  # somebody took it for abandoned between its birth and the lock
                    self.path.unlink(missing_ok=True)
                    self.close()
        _owned.add(self)

    @property
    def usable(self) -> bool:
        """Whether it is still this process's, and still there."""
        return self._fd >= 0 and os.fstat(self._fd).st_nlink > 0

    def write(self, data: bytes) -> None:
        """Append all of the data or nothing. Raises EnvironmentProblem when the disk is full."""
        rest = memoryview(data)
        try:
            with saying_when_full(self.path):
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            if rest:
                with suppress(OSError):
                    os.ftruncate(self._fd, self.n_bytes)
            raise
        self.n_bytes += len(data)

    def empty(self) -> None:
        """Drop what was written."""
        os.ftruncate(self._fd, 0)
        self.n_bytes = 0

    def close(self) -> None:
        """Let go of the file, and of its lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_owned: WeakSet[OwnedFile] = WeakSet()


def _disown() -> None:
    """In a forked process: a lock lasts as long as any process has the file, and this one is not its writer."""
    for one in list(_owned):
        one.close()


os.register_at_fork(after_in_child=_disown)


def _lock_own(fd: int) -> bool:
    """Whether a new file is still its writer's alone. Where locks do not work nobody takes it for abandoned either."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return os.fstat(fd).st_nlink > 0


@contextmanager
def abandoned(path: Path, *, quiet_s: float = QUIET_S) -> Iterator[bool]:
    """Yield whether the file's writer is gone. Any number of processes may ask at once.

    `quiet_s`: seconds without a write that a file of another machine must have behind it.
    """
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:  # gone, or a folder that cannot be written to
        yield False
        return
    try:
        yield _unlocked(fd) and (machine() in path.name or time.time() - os.fstat(fd).st_mtime > quiet_s)
    finally:
        os.close(fd)


def _unlocked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(fd).st_nlink > 0


def unique_name() -> str:
    """A name that no other process makes; names sort by the time they were made."""
    return f"{time.time_ns():020d}-{machine()}-{os.getpid()}"


@cache
def machine() -> str:
    """Eight hex digits for the kernel that runs this process: what sees the same locks."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        kernel = socket.gethostname()
    return xxhash.xxh3_64_hexdigest(kernel.encode())[:8]


def checked_line(payload: bytes) -> bytes:
    """The payload (without line ends) as a line that begins with its checksum."""
    return b"%s %s\n" % (xxhash.xxh3_64_hexdigest(payload).encode(), payload)


def payload_of(line: bytes) -> bytes | None:
    """What a line (without its end) carries, or None when it is not what was written."""
    checksum, _, payload = line.partition(b" ")
    return payload if checksum == xxhash.xxh3_64_hexdigest(payload).encode() else None
