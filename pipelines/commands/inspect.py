"""`gradatim ls` and `gradatim show`: what a workspace holds."""

from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact, artifacts_in
from corpus.config import nearest
from corpus.errors import ArtifactError
from corpus.shards import read_batches

CELL_CHARACTERS = 80


def list_command(workspace: Path) -> None:
    """Print one row an artifact."""
    artifacts = artifacts_in(workspace)
    if not artifacts:
        raise ArtifactError(f"{workspace} holds no finished artifact", fix="gradatim run demo --workspace demo")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("artifact", "kind", "rows", "files", "MB", "fingerprint"):
        table.add_column(heading, justify="right" if heading in ("rows", "files", "MB") else "left", no_wrap=True)
    for artifact in artifacts:
        manifest = artifact.manifest
        rows = sum(part.rows or 0 for part in manifest.parts if "/" not in part.file)
        size = sum(part.bytes for part in manifest.parts) / 1e6
        counts = (f"{rows:,}" if rows else "", str(len(manifest.parts)), f"{size:.2f}")
        table.add_row(artifact.name, manifest.kind, *counts, manifest.fingerprint)
    Console().print(table)


def open_by_name(workspace: Path, name: str) -> Artifact:
    """Open an artifact by name. Raises ArtifactError that names the nearest one there is."""
    known = {artifact.name: artifact for artifact in artifacts_in(workspace)}
    if name not in known:
        hint = nearest(name, known) if known else "; the workspace holds no finished artifact"
        raise ArtifactError(
            f"there is no finished artifact {name!r} in {workspace}{hint}", fix="gradatim ls lists them"
        )
    return known[name]


def show_command(workspace: Path, name: str, rows: int, dropped: bool) -> None:
    """Print an artifact's origin, totals and first rows."""
    artifact = open_by_name(workspace, name)
    manifest, console = artifact.manifest, Console()
    console.print(f"[bold]{manifest.name}[/] {manifest.kind} {manifest.fingerprint}", highlight=False)
    for ref in manifest.inputs:
        console.print(f"  from {escape(ref.name)} {ref.fingerprint}", highlight=False)
    for key, value in manifest.totals.items():
        _print_total(console, key, value)
    for warning in manifest.warnings:
        console.print(f"  [yellow]{escape(warning)}[/]")
    files = artifact.files(folder="dropped") if dropped else artifact.files()
    if dropped and not files:
        console.print("  nothing was dropped here")
    every = (row for path in files for batch in read_batches(path) for row in batch.to_pylist())
    for i, row in enumerate(islice(every, rows)):
        console.print(f"\n[bold]row {i}[/]")
        for column, value in row.items():
            if value is not None:
                console.print(f"  {column:<12} {escape(_short(value))}", highlight=False)


def _print_total(console: Console, key: str, value: Any) -> None:
    if isinstance(value, dict):
        for inner, count in sorted(value.items(), key=lambda item: -item[1] if isinstance(item[1], int | float) else 0):
            console.print(f"  {key:<12} {count:>9,}  {escape(inner)}", highlight=False)
    elif isinstance(value, int | float):
        console.print(f"  {key:<12} {value:>9,}", highlight=False)
    else:
        console.print(f"  {key:<12} {escape(str(value))}", highlight=False)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"
