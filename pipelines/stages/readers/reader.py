"""The reader contract: find an input's files, share them out to tasks, and turn each into batches of pages.

A reader meets the world's data, so it trusts nothing: what it cannot read it counts (`Tally.lose`), names with
file and place (`Tally.problem`) and skips. It never holds more than one document of the allowed size and one
batch. Keys name a page within its source: the id the page already has where there is one, because that
survives renaming and recompression, else the file's name below the input's folder and the place in it.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from corpus.config import Config, Count
from corpus.errors import InputError
from pipelines.stages.readers.pages import Page, page_batches
from pipelines.tally import Tally

_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Portion:
    """What one task reads: files of an input, and the folder their names are relative to."""

    root: Path
    files: tuple[Path, ...]

    def name(self, file: Path) -> str:
        """The file's name below the input's folder, with forward slashes."""
        return file.relative_to(self.root).as_posix()


class Reader(Config):
    """The base of every input kind."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    files_in_portion: ClassVar[int] = 1

    path: Path = Field(description="a file, a folder (with its subfolders) or a pattern such as data/*.warc.gz")
    languages: tuple[str, ...] | None = Field(default=None, description="languages to keep, such as [en, de]")
    max_document_bytes: Count = Field(
        10_000_000, gt=0, le=10**9, description="larger documents (for JSONL: lines) are dropped as too_large, unread"
    )

    def files(self, base_dir: Path) -> list[Path]:
        """The input's files, sorted by name; `path` is relative to `base_dir`.

        Raises InputError when there is no such file or folder, or nothing of this kind in it.
        """
        return self._find(base_dir)[1]

    def portions(self, base_dir: Path) -> list[Portion]:
        """The input shared out to tasks: the same portions wherever and by whomever it is read. Raises as `files`."""
        root, files = self._find(base_dir)
        step = self.files_in_portion
        return [Portion(root, tuple(files[i : i + step])) for i in range(0, len(files), step)]

    def read(self, portion: Portion, source: str, tally: Tally) -> Iterator[pa.RecordBatch]:
        """Batches of PAGE_SCHEMA, each at most 256 rows and about 32 MB, in the order of the input."""
        pages = (page for file in portion.files for page in self._read_file(file, portion, tally))
        return page_batches(pages, source)

    def _read_file(self, file: Path, portion: Portion, tally: Tally) -> Iterator[Page]:
        name = portion.name(file)
        try:
            if file.stat().st_size == 0:
                tally.problem("empty file", name, 0, "0 bytes")
                return
        except OSError as error:
            raise InputError(f"cannot read {name}", found=error.strerror or str(error), where=str(file)) from error
        yield from self.pages(file, name, tally)

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The pages of one file that is there and not empty."""
        raise TypeError(f"{type(self).__name__} does not define pages")

    def too_large(self, name: str, place: int | None, size: int | None, tally: Tally) -> None:
        """Count a document over the limit; it is not read."""
        seen = "at least" if size is None else f"{size:,} bytes, against"
        tally.problem("too large", name, place, f"{seen} max_document_bytes = {self.max_document_bytes:,}")
        tally.lose("too_large")

    def _find(self, base_dir: Path) -> tuple[Path, list[Path]]:
        target = base_dir / self.path.expanduser()
        if target.is_file():
            return target.parent, [target]
        if target.is_dir():
            return target, self._some(
                target, sorted(self._inside(target)), f"files ending in {', '.join(self.suffixes)}"
            )
        fixed = [i for i, part in enumerate(target.parts) if _GLOB & set(part)]
        if not fixed:
            raise _missing(target)
        root = Path(*target.parts[: fixed[0]])
        if not root.is_dir():
            raise _missing(root)
        pattern = str(Path(*target.parts[fixed[0] :]))
        return root, self._some(
            target, sorted(file for file in root.glob(pattern) if file.is_file()), "files of that name"
        )

    def _inside(self, folder: Path) -> Iterator[Path]:
        for file in folder.rglob("*"):
            hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
            if not hidden and file.name.lower().endswith(self.suffixes) and file.is_file():
                yield file

    def _some(self, target: Path, files: list[Path], expected: str) -> list[Path]:
        if not files:
            raise InputError("an input holds nothing to read", expected=expected, found="none", where=str(target))
        return files


def _missing(path: Path) -> InputError:
    parent = path.parent
    names = [item.name for item in parent.iterdir()] if parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    found = f"no {path.name} in {parent}" if parent.is_dir() else f"no folder {parent}"
    fix = f"did you mean {close[0]}?" if close else "check `path` in the recipe; it is relative to the recipe's folder"
    return InputError(
        "an input is missing", expected="a file, a folder or a pattern", found=found, where=str(path), fix=fix
    )
