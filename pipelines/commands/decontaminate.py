"""`gradatim decontaminate`: search documents of a workspace for evaluation items, and write those that stay."""

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.errors import ConfigError
from pipelines.commands.inspect import open_by_name
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.decontaminating import Contamination, contamination, without_contamination
from pipelines.inputs import InputChecksums
from pipelines.stages.decontaminate import Decontamination


def decontaminate_command(
    documents: str, workspace: Path, options: dict[str, Any], runtime: RuntimeOptions, *, name: str | None
) -> None:
    """Search, print the table of sources and evaluations, and write the kept documents unless it is a mere report.

    `options` are those of `Decontamination`; paths start from the working folder.
    """
    settings = validated(Decontamination, options, "gradatim decontaminate")
    held = open_by_name(workspace, documents)
    if held.manifest.kind != "documents":
        raise ConfigError(f"{held.name} holds no documents but {held.manifest.kind}", fix="gradatim ls lists artifacts")
    kept_name = name or f"{held.name}.decontaminated"
    if kept_name == held.name:
        raise ConfigError(f"the kept documents cannot be called {kept_name!r}, as those they are from")
    with open_workshop(workspace, runtime) as shop:
        checksums = InputChecksums(shop.root)
        found = contamination(shop, held, settings, Path.cwd(), checksums, name=f"{held.name}.contamination")
        kept = None if settings.policy == "report" else without_contamination(shop, held, found, kept_name)
        checksums.save()
    _print(found, kept, workspace)


def _print(found: Contamination, kept: Artifact | None, workspace: Path) -> None:
    console, totals = table_console(), found.artifact.manifest.totals
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("source", "evaluation", "items", "held", "share", "documents", ""):
        table.add_column(heading, justify="left" if heading in ("source", "evaluation", "") else "right", no_wrap=True)
    for row in found.table:
        table.add_row(
            escape(row["source"]), escape(row["evaluation"]), f"{row['items']:,}", f"{row['hit']:,}",
            f"{100 * row['share']:.2f} %", f"{row['documents']:,}", "contaminated" if row["contaminated"] else "",
        )  # fmt: skip
    if found.table:
        console.print(table)
    searched = found.hits.manifest.totals
    evaluations = ", ".join(f"{escape(name)} ({count:,})" for name, count in totals["evaluations"].items())
    console.print(
        f"{searched['with_hits']:,} of {searched['records_in']:,} documents hold items of {evaluations}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if kept is not None:
        console.print(
            f"{kept.manifest.totals['kept']:,} documents are in {kept.folder}", highlight=False, soft_wrap=True
        )
    console.print(f"  gradatim sql 'SELECT * FROM \"{found.hits.name}\" LIMIT 9' -w {workspace}", highlight=False)
