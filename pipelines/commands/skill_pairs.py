"""`gradatim skill-pairs`: documents for the style `skill_synthesis`, from the questions that a model failed."""

from pathlib import Path
from typing import Any

from rich.console import Console

from corpus.config import validated
from pipelines.commands.workshop import RuntimeOptions, open_workshop
from pipelines.skill_items import PairOptions, skill_pairs


def skill_pairs_command(failed: Path, pool: Path, workspace: Path, options: dict[str, Any], *, name: str) -> None:
    """Write the artifact `name`, and print how many pairs it has and how many of them have nothing to be shown."""
    settings = validated(PairOptions, options, "options of gradatim skill-pairs")
    with open_workshop(workspace, RuntimeOptions()) as shop:
        totals = skill_pairs(shop, failed, pool, settings, name=name).manifest.totals
    console = Console()
    console.print(f"{totals['pairs']:,} pairs, with seeds from {totals['pool']:,} questions", highlight=False)
    if alone := totals["pairs_without_seeds"]:
        console.print(
            f"{alone:,} of them have a skill that no other question has; they will be dropped", highlight=False
        )
    console.print(f"next: gradatim rephrase {name} --style skill_synthesis -w {workspace}", highlight=False)
