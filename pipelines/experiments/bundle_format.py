"""What a bundle's folder holds, and how one sees that it is as it was packed; without anything but Python.

    run.py                  the runner: `python run.py --check`, `python run.py`
    bundle.json             study, runs, versions, the SHA-256 of every file; `fingerprint` is the SHA-256 of all that
    runs/RUN.json           a run: its plan and model as they were checked, its order, what it reads; or an ensemble
    data/                   tokens, pieces, orders, held-out documents
    code/                   our modules, as they were; code/stand_ins: parts of four packages
    results/RUN/            made by the runner: result.json, nats.npy (losses of documents), metrics.jsonl
    work/RUN/               made by the runner, until nothing needs it: the trainer's folder with its checkpoints

How it is used: `bundle = Bundle.open(folder)` checks the fingerprint; `bundle.changed()` reads every file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import ArtifactError

FORMAT = 1
MANIFEST, RUNNER, RESULTS, WORK = "bundle.json", "run.py", "results", "work"
RESULT, NATS = "result.json", "nats.npy"
TOKENS, PIECE_STARTS, PIECE_LENGTHS = "data/tokens.xz", "data/starts.xz", "data/lengths.xz"
HELDOUT = "data/heldout.json"
SEAL = "seal"


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, and the facts of its manifest."""

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Read the manifest. Raises ArtifactError where there is none, it was changed, or is of another format."""
        path = folder / MANIFEST
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise ArtifactError(
                "this is not a bundle", expected=f"a folder with {MANIFEST}", where=str(folder)
            ) from None
        except ValueError as error:
            raise ArtifactError("the bundle's manifest is damaged", found=str(error), where=str(path)) from None
        if facts.get("format") != FORMAT:
            raise ArtifactError(
                "this bundle is of another format", expected=f"format {FORMAT}", found=str(facts.get("format")),
                where=str(path), fix="use the version of gradatim that packed it",
            )  # fmt: skip
        own = {name: value for name, value in facts.items() if name != "fingerprint"}
        if facts.get("fingerprint") != digest(canonical(own)):
            raise changed_bundle(folder, [MANIFEST])
        return cls(folder, facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest, and through it of every file."""
        return str(self.facts["fingerprint"])

    @property
    def code(self) -> str:
        """SHA-256 over the files of the code."""
        return code_digest(self.facts["files"])

    def result(self, run: str) -> Path:
        """The folder of a run's result."""
        return self.folder / RESULTS / run

    def work(self, run: str) -> Path:
        """The trainer's folder of a run."""
        return self.folder / WORK / run

    def is_done(self, run: str) -> bool:
        """Whether a run's result is there; it is written last."""
        return (self.result(run) / RESULT).is_file()

    def outcome(self, run: str) -> dict[str, Any]:
        """A run's result.json."""
        return dict(self.json(f"{RESULTS}/{run}/{RESULT}"))

    def run(self, name: str) -> dict[str, Any]:
        """All that is known of a run beforehand."""
        return dict(self.json(run_file(name)))

    def changed(self) -> list[str]:
        """Files that are missing, not as they were packed, or code that was not there."""
        files: Mapping[str, str] = self.facts["files"]
        found = [name for name, sha in files.items() if _file_digest(self.folder / name) != sha]
        code = (path.relative_to(self.folder).as_posix() for path in (self.folder / "code").rglob("*.py"))
        return sorted([*found, *(name for name in code if name not in files)])

    def check(self) -> None:
        """Raise ArtifactError that names the files which are not as they were packed."""
        if names := self.changed():
            raise changed_bundle(self.folder, names)

    def json(self, name: str) -> Any:
        """A JSON file of the bundle."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


def run_file(run: str) -> str:
    """Where a run is described."""
    return f"runs/{run}.json"


def order_file(fingerprint: str) -> str:
    """Where an order is."""
    return f"data/order-{fingerprint}.xz"


def changed_bundle(folder: Path, names: list[str]) -> ArtifactError:
    """The error for a bundle that is not as it was packed."""
    return ArtifactError(
        "this bundle was changed after it was packed", expected="every file as it was", where=str(folder),
        found=", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
        fix="copy it again, or pack it anew: results of a changed bundle could not be told from others",
    )  # fmt: skip


def code_digest(files: Mapping[str, str]) -> str:
    """SHA-256 over names and digests of the files below code/, which is what decides how a run is trained."""
    return digest(canonical({name: sha for name, sha in files.items() if name.startswith("code/")}))


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with their own digest, which tells whether they were edited or cut off."""
    return {**facts, SEAL: digest(canonical(facts))}


def is_sealed(facts: Mapping[str, Any]) -> bool:
    """Whether facts are as they were sealed."""
    return facts.get(SEAL) == digest(canonical({name: value for name, value in facts.items() if name != SEAL}))


def canonical(value: Any) -> bytes:
    """Plain data as one sequence of bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(data: bytes) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def _file_digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
