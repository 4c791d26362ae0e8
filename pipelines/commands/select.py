"""`gradatim select`: take the best documents of a workspace up to a token budget."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.errors import ConfigError
from pipelines.combining import combined_for
from pipelines.commands.inspect import open_by_name
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.selecting import Selecting, SelectionSettings
from raters.composite import CompositeSettings

EQUAL = "equal"
PROPORTIONAL = "proportional"


@dataclass(frozen=True)
class Ranked:
    """What ranks documents: a score column, or a weights file (or `equal`) that makes one."""

    by: str | None
    weights: str | None


def select_command(
    documents: str, workspace: Path, ranked: Ranked, options: dict[str, Any], runtime: RuntimeOptions, *, name: str
) -> None:
    """Select, print what was taken and how it differs from what it was taken from, and name the page.

    `options` are those of `SelectionSettings`, with quotas and caps as written: `web=60%`.
    """
    if ranked.by and ranked.weights:
        raise ConfigError("--by and --weights both say what ranks documents", fix="give one of them")
    held = open_by_name(workspace, documents)
    if held.manifest.kind != "documents":
        raise ConfigError(f"{held.name} holds no documents but {held.manifest.kind}", fix="gradatim ls lists artifacts")
    if name == held.name:
        raise ConfigError(f"the selection cannot be called {name!r}, as the documents it is from", fix="--name chosen")
    settings = selection_settings({**options, "by": ranked.by or "composite"})
    with open_workshop(workspace, runtime) as shop:
        if ranked.weights:
            composite = f"{name}.composite"
            weighing = (
                CompositeSettings() if ranked.weights == EQUAL else CompositeSettings(weights=Path(ranked.weights))
            )
            combined_for(shop, held, weighing, name=composite)
            settings = settings.model_copy(update={"by": composite})
        chosen = Selecting(shop, held, settings).run(name)
    print_selection(chosen, workspace)


def selection_settings(options: dict[str, Any]) -> SelectionSettings:
    """Settings from options. Raises ConfigError that names each one that cannot be used."""
    given = dict(options)
    quotas: Sequence[str] = given.pop("quota", ())
    caps: Sequence[str] = given.pop("cap", ())
    named = [text for text in quotas if text != PROPORTIONAL]
    given["quotas"] = {
        "shares": _shares(named, "--quota"), "caps": _shares(caps, "--cap"), "proportional": len(named) < len(quotas),
    }  # fmt: skip
    return validated(
        SelectionSettings, {key: value for key, value in given.items() if value is not None}, "gradatim select"
    )


def _shares(given: Sequence[str], option: str) -> dict[str, str]:
    shares: dict[str, str] = {}
    for text in given:
        source, equals, share = text.partition("=")
        if not equals or not source or not share:
            raise ConfigError(f"cannot read {option} {text}", expected=f"{option} web=60%")
        if source in shares:
            raise ConfigError(f"{option} names the source {source!r} twice")
        shares[source] = share
    return shares


def print_selection(chosen: Artifact, workspace: Path) -> None:
    """Print a selection from the numbers of its report."""
    folder = workspace / f"{chosen.name}.report"
    facts = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    console = table_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "documents", "selected", "tokens", "selected", "share", "selected"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for title, rows in (("source", facts["sources"]), ("language", facts["languages"])):
        for row in rows[:20]:
            table.add_row(f"{title} {escape(row['name'])}", *_cells(row, facts["tokens"]))
    whole = {"documents": facts["documents"], "tokens": facts["tokens"]}
    table.add_row("[bold]all[/]", *_cells(whole, facts["tokens"]))
    console.print(table)
    before, after = facts["length"]["before"], facts["length"]["after"]
    if after["0.5"] is not None:
        console.print(
            f"  tokens a document: median {after['0.5']:,.0f} of {before['0.5']:,.0f} before; "
            f"5 % {after['0.05']:,.0f} of {before['0.05']:,.0f}, 95 % {after['0.95']:,.0f} of {before['0.95']:,.0f}",
            highlight=False,
        )
    for group in facts["groups"]:
        _print_group(console, group, facts["score"]["name"])
    for reason, number in sorted(facts["left_out"].items(), key=lambda item: (-item[1], item[0])):
        console.print(f"  {number:>9,}  {escape(reason)}", highlight=False)
    found = f"{facts['documents']['after']:,} documents are in {chosen.folder}"
    console.print(f"{found}; how the choice shifts the corpus:", highlight=False, soft_wrap=True)
    console.print(f"  {folder / 'selection.html'}", highlight=False, soft_wrap=True)


def _print_group(console: Console, group: dict[str, Any], score: str) -> None:
    left = group["shortfall"]
    said = f"{left:,} left" if left >= 0 else f"{-left:,} over"
    cut = f"; cut at {group['cut']['key']:.6g}" if group["cut"] else "; everything was taken" if left > 0 else ""
    tokens = f"{group['tokens']:,} of {group['budget']:,} tokens"
    console.print(f"  {escape(group['name'])}: {tokens}, {said}, by {escape(score)}{cut}", highlight=False)


def _cells(row: dict[str, Any], total: dict[str, int]) -> list[str]:
    documents, tokens = row["documents"], row["tokens"]
    shares = [100 * tokens[side] / total[side] if total[side] else 0.0 for side in ("before", "after")]
    counts = [documents["before"], documents["after"], tokens["before"], tokens["after"]]
    return [*(f"{number:,}" for number in counts), *(f"{share:.1f} %" for share in shares)]
