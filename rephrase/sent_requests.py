"""Which requests were in flight when a process died, so that one that kills the engine is found and left out.

Before a group of requests is sent, its keys are written to a file of this process; when the group has ended, however it
ended, the file is emptied. A process that is killed, or crashes in native code, leaves its file full and unlocked: that
is the trace. It costs one small write a group, and nothing is read while nobody died.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from rephrase.owned_files import OwnedFile, abandoned, checked_line, payload_of

PREFIX, SENT = "sent-", ".keys"


class Deaths(NamedTuple):
    """Processes that died while a request was in flight: their number, and its smallest and largest group."""

    times: int
    least: int
    most: int


class SentRequests:
    """The requests that are in flight in one folder's processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: OwnedFile | None = None

    def mark(self, keys: Collection[str]) -> None:
        """These requests are about to be sent, and no others; none: nothing is in flight any more.

        Raises EnvironmentProblem when the disk is full.
        """
        if self._file is not None and not self._file.usable:
            self._file = None
        if self._file is not None:
            self._file.empty()
        if not keys:
            return
        if self._file is None:
            self._file = OwnedFile(self._folder, PREFIX, SENT)
        self._file.write(checked_line("".join(keys).encode("ascii")))

    def dead_groups(self) -> dict[Path, list[str]]:
        """The keys that each dead process had in flight, by its file. A process that died before it sent has none."""
        groups = {}
        for path in sorted(self._folder.glob(f"{PREFIX}*{SENT}")):
            # A file of another machine counts at once: suspicion costs little, and a task's next try may be here.
            with abandoned(path, quiet_s=0) as dead:
                payload = payload_of(path.read_bytes().removesuffix(b"\n")) if dead else b""
                if payload:
                    keys = payload.decode("ascii")
                    groups[path] = [keys[i : i + 32] for i in range(0, len(keys), 32)]
                elif dead:
                    path.unlink(missing_ok=True)
        return groups

    def close(self) -> None:
        """Nothing is in flight, and the file goes."""
        if self._file is not None:
            if self._file.usable:
                self._file.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
