"""`gradatim rephrase`: rephrase documents, or say what it would take."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import apply_overrides, load_yaml, parsed, validated
from corpus.errors import ConfigError
from corpus.shards import read_table
from pipelines.commands.rate import documents_of
from pipelines.commands.run import settings_lines
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.recipe import Rephrasing
from pipelines.rephrase_estimate import estimated
from pipelines.rephrasing import Rephraser, check_settings
from pipelines.stages.naming import source_of
from rephrase.estimate import Estimate
from rephrase.style import bundled_styles, load_style


@dataclass(frozen=True)
class Wanted:
    """What a command line asks for.

    Args:
        file: settings as in a recipe's `rephrase` section.
        options: settings named by options, null where they were not given; they go before the file's.
        overrides: `key=value`, which go before both.
        dry_run: estimate only; price: of a GPU-hour.
    """

    file: Path | None
    options: dict[str, Any]
    overrides: tuple[str, ...]
    dry_run: bool
    price: float | None


def rephrase_command(given: Sequence[str], workspace: Path, wanted: Wanted, runtime: RuntimeOptions) -> None:
    """Rephrase what is given and print what came of it, by style; or print the estimate."""
    if not given:
        raise ConfigError("no documents are named", fix="gradatim rephrase pages.jsonl.gz --style easy -w work")
    settings = rephrasing_settings(wanted)
    base = (wanted.file.parent if wanted.file else Path.cwd()).resolve()
    check_settings(settings, base)
    with open_workshop(workspace, runtime) as shop:
        rephraser = Rephraser(shop, base, settings, documents_of(shop, given))
        if wanted.dry_run:
            plan = rephraser.plan()
            print_estimate(estimated(rephraser, plan, price=wanted.price), plan)
            return
        begun = time.monotonic()
        going_on = rephraser.run()
        made = Artifact(shop.root / rephraser.name)
        print_result(made, [style.name for style in rephraser.styles], time.monotonic() - begun)
        if going_on.name != made.name:
            left_out = sum(going_on.manifest.totals["dropped"].values())
            table_console().print(f"{left_out:,} near-duplicates left out: {going_on.name}.", highlight=False)


def rephrasing_settings(wanted: Wanted) -> Rephrasing:
    """The settings of file, options and overrides together. Raises ConfigError for what cannot be used."""
    data: dict[str, Any] = {}
    if wanted.file is not None:
        held = load_yaml(wanted.file)
        data = dict(held.get("rephrase", held))
    for name, value in wanted.options.items():
        if value is None:
            continue
        read = parsed(value, f"--{name}") if name in ("route", "generator") else value
        data[name] = _budget(value) if name == "budget" else list(read) if name == "styles" else read
    return validated(Rephrasing, apply_overrides(data, wanted.overrides), str(wanted.file or "gradatim rephrase"))


def _budget(text: str) -> Any:
    """A mapping as it is written, or a bare count, which means tokens."""
    return parsed(text, "--budget") if text.lstrip().startswith("{") else {"tokens": text}


def print_styles() -> None:
    """Print the bundled styles with what they are for."""
    console = table_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("style", "course", "chunk", "about"):
        table.add_column(heading, no_wrap=heading != "about", justify="right" if heading == "chunk" else "left")
    for name in bundled_styles():
        style = load_style(name)
        table.add_row(name, style.course, f"{style.limits.chunk:,}", escape(style.about))
    console.print(table)


def explain_settings() -> None:
    """Print every setting with its default and its meaning."""
    for line in settings_lines(Rephrasing()):
        Console().print(line, highlight=False)


def print_estimate(estimate: Estimate, plan: Artifact) -> None:
    """A table by style, and the time and money below it."""
    console = table_console()
    table = _table(("style", "documents", "requests", "stored", "prompt tokens", "output tokens", "to make", "told by"))
    for row in estimate.styles:
        numbers = (row.documents, row.requests, row.cached, row.n_prompt, row.n_out, row.n_new)
        table.add_row(row.style, *(f"{n:,}" for n in numbers), row.told_by)
    sums = [
        sum(getattr(row, name) for row in estimate.styles)
        for name in ("documents", "requests", "cached", "n_prompt", "n_out", "n_new")
    ]
    table.add_row("all", *(f"{n:,}" for n in sums), "", style="bold")
    console.print(table)
    for line in _estimate_lines(estimate, plan):
        console.print(line, highlight=False, soft_wrap=True)


def _estimate_lines(estimate: Estimate, plan: Artifact) -> list[str]:
    lines = []
    if sampled := [row for row in estimate.styles if row.looked_at < row.documents]:
        looked_at = ", ".join(f"{row.style} {row.looked_at:,}" for row in sampled)
        lines.append(f"Told by a sample of the documents ({looked_at}); the rest is scaled by length.")
    totals = plan.manifest.totals
    if totals["lengths_counted"] < totals["documents"]:
        lines.append(
            f"Lengths are told by bytes, at the tokens a byte of {totals['lengths_counted']:,} documents "
            f"of {totals['documents']:,}."
        )
    if passed := {reason: n for reason, n in totals["passed_over"].items() if n}:
        lines.append("Passed over: " + ", ".join(f"{reason} {n:,}" for reason, n in passed.items()) + " documents.")
    if estimate.gpu_hours is None or estimate.hours is None or estimate.gpu_hours_per_billion is None:
        return [*lines, "No rate is known, so no time: give --rate TOKENS_PER_SECOND, or --measure it."]
    lines.append(
        f"{estimate.hours:,.2f} hours on {estimate.gpus} GPUs or CPUs ({estimate.gpu_hours:,.2f} GPU-hours) at "
        f"{estimate.rate:,.0f} tokens/s each ({estimate.told_by}); "
        f"{estimate.gpu_hours_per_billion:,.1f} GPU-hours a billion output tokens."
    )
    if estimate.cost is not None:
        lines.append(f"Cost: {estimate.cost:,.2f}.")
    return [*lines, "Retries, and later steps of styles that ask in several, come on top."]


def print_result(made: Artifact, styles: Sequence[str], seconds: float) -> None:
    """A table by style: what was tried, what was kept, and why the rest was not."""
    console = table_console()
    table = _table(("style", "documents", "kept", "requests", "passed", "output tokens", "top reasons"))
    for style in styles:
        attempts = _column_table(made, "attempts", style, ["attempt", "superseded", "reason", "n_out"])
        outcomes = _column_table(made, "outcomes", style, ["reason"])
        if outcomes is None or attempts is None:
            continue
        sent = attempts.filter(pc.is_valid(attempts.column("attempt")))
        passed = sent.filter(pc.is_null(sent.column("reason"))).num_rows
        reasons = Counter(outcomes.column("reason").drop_null().to_pylist()).most_common(3)
        table.add_row(
            style, f"{outcomes.num_rows:,}", f"{outcomes.column('reason').null_count:,}", f"{sent.num_rows:,}",
            f"{passed / sent.num_rows:.0%}" if sent.num_rows else "-",
            f"{pc.sum(sent.column('n_out')).as_py() or 0:,}", ", ".join(f"{why} {n:,}" for why, n in reasons),
        )  # fmt: skip
    console.print(table)
    totals = made.manifest.totals
    tokens, kept = totals.get("output_tokens", 0), totals.get("kept", 0)
    console.print(
        f"{kept:,} rephrasings kept; {tokens:,} output tokens, stored ones included, in {seconds:,.1f} s "
        f"({tokens / max(seconds, 1e-9):,.0f} tokens/s).",
        highlight=False,
    )
    if passed := ", ".join(f"{reason} {n:,}" for reason, n in totals["passed_over"].items() if n):
        console.print(f"Passed over: {passed} documents.", highlight=False)
    if over := totals["dropped"].get("over_budget"):
        console.print(f"The budget was met: {over:,} planned rephrasings are missing.", highlight=False)


def _column_table(made: Artifact, folder: str, style: str, columns: list[str]) -> pa.Table | None:
    paths = [path for path in made.files(folder=folder) if source_of(path) == f"wrap-{style}"]
    return pa.concat_tables([read_table(path, columns) for path in paths]) if paths else None


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        left = heading in ("style", "told by", "top reasons")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "top reasons")
    return table
