"""`gradatim cache`: the stores of a workspace, their merging, and single records."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.errors import ArtifactError
from pipelines.commands.workshop import table_console
from rephrase.cache import IDENTITY
from rephrase.record_store import RecordStore, StoreStatistics, stores_in

_HEADINGS = ("store", "of", "records", "MB", "segments", "logs", "torn", "duplicates")


def list_command(root: Path) -> None:
    """Print one row a store."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in ("store", "of") else "right", no_wrap=heading != "of")
    for folder in _stores(root):
        found = RecordStore(folder).statistics()
        counts = (found.segments, found.logs, found.torn, found.duplicates)
        table.add_row(
            escape(_name(folder, root)), escape(_whose(folder)), f"{found.records:,}", f"{found.bytes / 1e6:.2f}",
            *map(str, counts),
        )  # fmt: skip
    table_console().print(table)


def compact_command(root: Path) -> None:
    """Merge the files of every store, and print what it changed."""
    console = Console()
    for folder in _stores(root):
        store = RecordStore(folder)
        before = store.statistics()
        told = _change(before, store.statistics()) if store.compact() else "another process is merging it"
        console.print(f"{escape(_name(folder, root))}: {told}", highlight=False, soft_wrap=True)


def show_command(root: Path, keys: Sequence[str], rows: int) -> None:
    """Print the records of some keys, or the latest of each store. Raises ArtifactError when no key is stored."""
    console, found = Console(), 0
    for folder in _stores(root):
        store = RecordStore(folder)
        table = store.find(keys or store.latest(rows))
        found += table.num_rows
        if table.num_rows:
            console.print(f"[bold]{escape(_name(folder, root))}[/] {escape(_whose(folder))}", highlight=False)
        for record, when in zip(table.to_pylist(), store.stored_at(table.column("key").to_pylist()), strict=True):
            console.print(f"\n[bold]{record.pop('key')}[/] {datetime.fromtimestamp(when / 1e6, UTC):%F %T} UTC")
            for column, value in record.items():
                if value is not None:
                    console.print(f"  {column:<14} {escape(str(value))}", highlight=False, soft_wrap=True)
    if keys and not found:
        raise ArtifactError(f"none of these keys is stored below {root}", found=", ".join(keys)[:200])


def _stores(root: Path) -> list[Path]:
    found = stores_in(root)
    if not found:
        raise ArtifactError(f"{root} holds no stored answers", fix="gradatim run demo --workspace demo")
    return found


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _whose(folder: Path) -> str:
    """The generator whose answers a store holds, where it says so."""
    if not (folder / IDENTITY).exists():
        return ""
    identity = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    return " ".join(str(value) for value in identity.values())


def _change(before: StoreStatistics, after: StoreStatistics) -> str:
    files = f"segments {before.segments} -> {after.segments}, logs {before.logs} -> {after.logs}"
    return f"{after.records:,} records; {files}, MB {before.bytes / 1e6:.2f} -> {after.bytes / 1e6:.2f}"
