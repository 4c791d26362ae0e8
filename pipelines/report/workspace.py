"""A workspace as the report reads it: finished artifacts by name, their tables, and links to them.

An artifact that is absent or unfinished is None, never an error: its section says so instead. A damaged one
raises ArtifactError, because a report over half the data would mislead.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import MANIFEST, Artifact, artifacts_in
from corpus.scores import Score, scores_of
from corpus.shards import read_batches, read_schema, read_table

COMPOSITE = "scores/composite"
SCORED_DOCUMENTS = "filtered"


@dataclass(frozen=True)
class Section:
    """One section of the page: a template with the facts it shows, or the reason why there is nothing to show."""

    key: str
    title: str
    template: str = ""
    facts: dict[str, Any] | None = None
    absent: str = ""


@dataclass(frozen=True)
class Arm:
    """One training arm: its number (which gives it its colour), and what exists of it."""

    number: int
    name: str
    order: Artifact | None
    run: Artifact | None


class Workspace:
    """The finished artifacts under a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = {artifact.name: artifact for artifact in artifacts_in(root)}

    def get(self, name: str) -> Artifact | None:
        """A finished artifact by name, or None."""
        return self.artifacts.get(name)

    def below(self, prefix: str) -> list[Artifact]:
        """The artifacts named `prefix/...`, by name."""
        return [artifact for name, artifact in sorted(self.artifacts.items()) if name.startswith(f"{prefix}/")]

    @property
    def arms(self) -> list[Arm]:
        """Every arm that has an order or a run. Shuffled ones come first: they are the control."""
        found = {artifact.name.split("/", 1)[1] for prefix in ("orders", "runs") for artifact in self.below(prefix)}
        names = sorted(found, key=lambda name: (not self._is_shuffled(name), name))
        return [Arm(i, name, self.get(f"orders/{name}"), self.get(f"runs/{name}")) for i, name in enumerate(names)]

    def _is_shuffled(self, arm: str) -> bool:
        order = self.get(f"orders/{arm}")
        return order is not None and order.manifest.config.get("policy", {}).get("kind") == "shuffled"


def manifest_link(artifact: Artifact) -> str:
    """The relative address of an artifact's manifest, from the report beside it."""
    return f"{artifact.name}/{MANIFEST}"


def table_of(artifact: Artifact, columns: list[str] | None = None, folder: str = ".") -> pa.Table | None:
    """All Parquet parts of one folder of an artifact as one table; None where there are none."""
    tables = [read_table(path, columns) for path in artifact.files(folder=folder)]
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def definitions(artifact: Artifact) -> tuple[Score, ...]:
    """What the score columns of a sidecar artifact mean."""
    files = artifact.files()
    return scores_of(read_schema(files[0])) if files else ()


def score_values(artifact: Artifact, name: str) -> np.ndarray:
    """One score column over all sidecars, float64, NaN where a document was not scored."""
    parts = [read_table(path, [name]).column(name).to_numpy() for path in artifact.files()]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def rows_by_id(artifact: Artifact, ids: set[str], columns: list[str]) -> dict[str, dict[str, Any]]:
    """The rows of a document artifact with these ids; texts are read in batches and only theirs are kept."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, dict[str, Any]] = {}
    for path in artifact.files():
        for batch in read_batches(path, ["id", *columns]):
            for row in batch.filter(pc.is_in(batch.column("id"), value_set=wanted)).to_pylist():
                found[row["id"]] = row
    return found


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSONL file; a line that a kill left unfinished ends the reading."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                return
            yield json.loads(line)
