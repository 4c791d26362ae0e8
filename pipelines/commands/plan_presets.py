"""`gradatim plan presets`: the published recipes that a plan can begin with, and what is known of each."""

import yaml
from rich.markup import escape
from rich.table import Table

from pipelines.commands.workshop import table_console
from trainer_hooks.plan_presets import PRESETS, PlanPreset, plan_preset


def presets_command(name: str | None) -> None:
    """List the presets, or print one: its settings, its evidence, and what was chosen here."""
    if name is None:
        _print_all()
    else:
        _print_one(name, plan_preset(name))


def _print_all() -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("preset", "sets", "figures", "source"):
        table.add_column(heading)
    for name, one in PRESETS.items():
        table.add_row(name, ", ".join(one.settings), one.mark, escape(one.source))
    table_console().print(table)


def _print_one(name: str, one: PlanPreset) -> None:
    console = table_console()
    console.print(f"[bold]{name}[/]  {escape(one.source)} (figures: {one.mark})", highlight=False)
    written = yaml.safe_dump(dict(one.settings), sort_keys=False, default_flow_style=None, width=100)
    for line in written.splitlines():
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    console.print(f"evidence: {escape(one.evidence)}", highlight=False, soft_wrap=True)
    for note in one.notes:
        console.print(f"  {escape(note)}", highlight=False, soft_wrap=True)
    tokens = "tokens: 2M" if one.epochs is None else "unique_tokens: 200M"
    console.print(f"plan: {{preset: {name}, {tokens}, ...}}", highlight=False)
