"""`gradatim mix learn`: learn the shares of sources from proxies, and say what the evidence is."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import apply_overrides, load_yaml, validated
from pipelines.commands.inspect import open_by_name
from pipelines.commands.run import settings_lines
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.mix_learning import SHARES, MixLearning, MixLearnSettings, mixture_rows, read_evidence


def learn_command(
    tokens: str,
    workspace: Path,
    file: Path | None,
    overrides: tuple[str, ...],
    options: RuntimeOptions,
    *,
    heldout: str | None = None,
    explain: bool = False,
) -> None:
    """Learn a mixture over an artifact of tokens, and print it beside the natural one; `heldout` names other tokens."""
    held: dict[str, Any] = load_yaml(file) if file else {}
    settings = validated(MixLearnSettings, apply_overrides(held, overrides), str(file or "--set"))
    if explain:
        for line in settings_lines(settings):
            Console().print(line, highlight=False)
        return
    validation = open_by_name(workspace, heldout) if heldout else None
    with open_workshop(workspace, options) as shop:
        learning = MixLearning(shop, open_by_name(workspace, tokens), settings, validation)
        shop.progress.say(learning.cost())
        shares = learning.run()
    print_shares(shares)


def print_shares(shares: Artifact) -> None:
    """Learned shares beside the natural ones, what they rest on, and where they are."""
    console, evidence = table_console(), read_evidence(shares)
    rows = mixture_rows(evidence)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading in ("source", "") else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row.values()))
    console.print(table)
    for line in (evidence.learned.verdict, *evidence.learned.warnings, evidence.verdict):
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    console.print(
        f"Paste {shares.folder / SHARES} into a mixture; its evidence lies beside it", highlight=False, soft_wrap=True
    )
