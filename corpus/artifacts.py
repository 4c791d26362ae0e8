"""Artifacts: folders of finished files whose `manifest.json` is written last.

An artifact without a manifest is unfinished and is never read. While it is being built, `_building.json`
names the fingerprint its partial files belong to, so a rerun keeps them only if nothing has changed.
Manifests hold what was made and from what (configuration, input fingerprints, counts, checksums) and
nothing that differs between two good runs: times, hosts and worker counts are in the workspace's events.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field, ValidationError, field_validator

from corpus.config import Config, nearest
from corpus.errors import ArtifactError
from corpus.fingerprints import file_checksum
from corpus.shards import TEMPORARY_SUFFIX, write_text
from corpus.version import VERSION

MANIFEST = "manifest.json"
BUILDING = "_building.json"
TASKS = "_tasks"


class Part(Config):
    """One file of an artifact."""

    file: str
    rows: int | None = Field(None, description="rows of a Parquet file; null for other files")
    bytes: int
    xxh3: str

    @field_validator("file")
    @classmethod
    def _inside(cls, name: str) -> str:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"a part must lie inside its artifact, not at {name!r}")
        return name


class InputRef(Config):
    """An input an artifact was made from, by name and fingerprint."""

    name: str
    fingerprint: str


class Manifest(Config):
    """What an artifact is, what it was made from, and what it holds."""

    format: int = 1
    kind: str
    name: str
    fingerprint: str
    code: str = Field(VERSION, description="the version of gradatim that made it")
    config: dict[str, Any]
    inputs: tuple[InputRef, ...]
    parts: tuple[Part, ...]
    totals: dict[str, Any]
    warnings: tuple[str, ...] = ()


class Artifact:
    """A finished artifact: its folder and its manifest."""

    def __init__(self, folder: Path) -> None:
        """Open an artifact. Raises ArtifactError where it is missing, unfinished, or its manifest is damaged."""
        self.folder = folder
        path = folder / MANIFEST
        if not path.exists():
            unfinished = (folder / BUILDING).exists()
            raise ArtifactError(
                f"{folder.name} is {'not finished' if unfinished else 'not there'}",
                expected=f"a finished artifact with {MANIFEST}",
                where=str(folder),
                fix="run the recipe that makes it: it goes on where it stopped" if unfinished else _names(folder),
            )
        try:
            self.manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ArtifactError(
                f"the manifest of {folder.name} cannot be read", found=str(error.errors()[0]["msg"]), where=str(path)
            ) from None

    @property
    def name(self) -> str:
        """The artifact's name within its workspace, such as `scores/education`."""
        return self.manifest.name

    @property
    def ref(self) -> InputRef:
        """How another artifact's manifest names this one as an input."""
        return InputRef(name=self.name, fingerprint=self.manifest.fingerprint)

    def files(self, suffix: str = ".parquet", folder: str = ".") -> list[Path]:
        """Paths of the parts in `folder` (of the artifact) whose names end with `suffix`, in manifest order.

        Raises ArtifactError when one is missing or its size is not the manifest's.
        """
        found = []
        for part in self.manifest.parts:
            if part.file.endswith(suffix) and str(PurePosixPath(part.file).parent) == folder:
                path = self.folder / part.file
                if not path.exists() or path.stat().st_size != part.bytes:
                    raise ArtifactError(
                        f"a file of {self.name} is missing or was changed after it was finished",
                        expected=f"{part.file}, {part.bytes:,} bytes",
                        found=f"{path.stat().st_size:,} bytes" if path.exists() else "no such file",
                        where=str(self.folder),
                        fix=f"remove {self.folder} and run the recipe again",
                    )
                found.append(path)
        return found

    def differences(self) -> list[str]:
        """Compare every file with its manifest entry; an empty list means the artifact is intact."""
        problems = []
        listed = {part.file for part in self.manifest.parts}
        for part in self.manifest.parts:
            path = self.folder / part.file
            if not path.exists():
                problems.append(f"{self.name}/{part.file}: missing")
            elif path.stat().st_size != part.bytes or file_checksum(path) != part.xxh3:
                problems.append(f"{self.name}/{part.file}: content is not what the manifest says")
        extra = {path.relative_to(self.folder).as_posix() for path in own_files(self.folder)} - listed
        return problems + [f"{self.name}/{name}: not in the manifest" for name in sorted(extra)]


def is_finished(folder: Path, fingerprint: str) -> bool:
    """Is there a finished artifact with this fingerprint here?"""
    path = folder / MANIFEST
    if not path.exists():
        return False
    return Artifact(folder).manifest.fingerprint == fingerprint


def begin(folder: Path, fingerprint: str) -> None:
    """Prepare a folder for building: keep partial files of the same fingerprint, remove everything else.

    The old manifest goes first, so that a kill in between leaves an unfinished artifact, not a wrong one.
    """
    building = folder / BUILDING
    if building.exists() and not (folder / MANIFEST).exists() and _building_fingerprint(building) == fingerprint:
        for leftover in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
            leftover.unlink()
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    building.unlink(missing_ok=True)
    for path in list(own_files(folder)):
        path.unlink()
    shutil.rmtree(folder / TASKS, ignore_errors=True)
    write_text(building, json.dumps({"fingerprint": fingerprint}))


def reopen(folder: Path, fingerprint: str) -> None:
    """Prepare a folder for going on: unfinished again, under a fingerprint that may be another, with all its files.

    For what is continued rather than made anew, such as a training run under an edited plan, and checks for itself
    that the files it finds are its own.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / BUILDING, json.dumps({"fingerprint": fingerprint}))


def finish(
    folder: Path,
    *,
    kind: str,
    name: str,
    fingerprint: str,
    config: dict[str, Any],
    inputs: Iterable[InputRef],
    parts: Iterable[Part],
    totals: dict[str, Any],
    warnings: Iterable[str] = (),
) -> Artifact:
    """Write the manifest, which makes the artifact exist, then remove what was only needed to build it."""
    manifest = Manifest(
        kind=kind, name=name, fingerprint=fingerprint, config=config, inputs=tuple(inputs),
        parts=tuple(sorted(parts, key=lambda part: part.file)), totals=totals, warnings=tuple(warnings),
    )  # fmt: skip
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    (folder / BUILDING).unlink(missing_ok=True)
    shutil.rmtree(folder / TASKS, ignore_errors=True)
    return Artifact(folder)


def describe_part(folder: Path, path: Path) -> Part:
    """Measure a finished file: rows (Parquet only), bytes, checksum."""
    rows = pq.ParquetFile(path).metadata.num_rows if path.suffix == ".parquet" else None
    name = path.relative_to(folder).as_posix()
    return Part(file=name, rows=rows, bytes=path.stat().st_size, xxh3=file_checksum(path))


def artifacts_in(root: Path) -> list[Artifact]:
    """Every finished artifact under a workspace, by name."""
    return sorted((Artifact(path.parent) for path in root.rglob(MANIFEST)), key=lambda artifact: artifact.name)


def own_files(folder: Path) -> Iterator[Path]:
    """The data files of an artifact: no manifest, no bookkeeping, and nothing of an artifact nested below it."""
    if not folder.exists():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name != TASKS and not (path / MANIFEST).exists() and not (path / BUILDING).exists():
                yield from own_files(path)
        elif path.name not in (MANIFEST, BUILDING):
            yield path


def _building_fingerprint(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text())["fingerprint"])
    except (json.JSONDecodeError, KeyError):
        return None


def _names(folder: Path) -> str:
    known = {str(path.parent.relative_to(folder.parent)) for path in folder.parent.glob(f"*/{MANIFEST}")}
    return (
        f"`gradatim ls` lists what there is{nearest(folder.name, known)}"
        if known
        else "`gradatim ls` lists what there is"
    )
