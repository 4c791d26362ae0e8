"""Files that appear whole or not at all.

Every file of ours is written beside its place under a temporary name, flushed to the disk, and renamed. A kill leaves
the temporary file, which nothing reads and the next run removes. What only trains imports this without Parquet.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corpus.errors import EnvironmentProblem

TEMPORARY_SUFFIX = ".writing"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it becomes `path`, on any error it is removed.

    Raises EnvironmentProblem when the disk is full, naming the file and the space that is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with saying_when_full(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def saying_when_full(path: Path) -> Iterator[None]:
    """Inside the block a full disk is an EnvironmentProblem that names the file being written and the space left."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def disk_full(path: Path) -> EnvironmentProblem:
    """The error for a file that could not be written because its disk is full."""
    stat = os.statvfs(path.parent)
    return EnvironmentProblem(
        f"the disk is full: {path.name} could not be written",
        found=f"{stat.f_bavail * stat.f_frsize / 1e6:,.1f} MB left",
        where=str(path.parent),
        fix="make room and run the same command again; finished parts are kept",
    )
