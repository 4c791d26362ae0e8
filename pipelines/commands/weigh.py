"""`gradatim weigh`: learn how to weigh scores from proxies, and say what the evidence is."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact, artifacts_in
from corpus.config import apply_overrides, load_yaml, validated
from pipelines.combining import WEIGHTS
from pipelines.commands.inspect import open_by_name
from pipelines.commands.run import settings_lines
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.weigh.settings import WeighSettings
from pipelines.weigh.weighing import Weighing, read_confirmation, read_learned


def weigh_command(
    documents: str,
    workspace: Path,
    file: Path | None,
    overrides: tuple[str, ...],
    options: RuntimeOptions,
    *,
    explain: bool,
) -> None:
    """Learn weights over an artifact of rated documents, print them with their intervals, and write the page."""
    settings = weigh_settings(file, overrides)
    if explain:
        for line in settings_lines(settings):
            Console().print(line, highlight=False)
        return
    from pipelines.report.weights import write_weights_page

    held = open_by_name(workspace, documents)
    with open_workshop(workspace, options) as shop:
        scores = [artifact for artifact in artifacts_in(shop.root) if artifact.manifest.kind == "scores"]
        weighing = Weighing(shop, held, scores, settings)
        shop.progress.say(weighing.cost())
        weights = weighing.run()
    page = write_weights_page(workspace)
    print_weights(weights, workspace / "weigh" / "learned")
    console = Console()
    console.print(
        f"Weights with their evidence: {weights.folder / WEIGHTS}; every run and figure: {page}", soft_wrap=True
    )
    console.print(
        f"Use them:  gradatim select {documents} --weights {weights.folder / WEIGHTS} --budget 1M -w {workspace}",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def weigh_settings(file: Path | None, overrides: tuple[str, ...]) -> WeighSettings:
    """Settings of a file with `--set` overrides. Raises ConfigError that lists every problem."""
    held: dict[str, Any] = load_yaml(file) if file else {}
    return validated(WeighSettings, apply_overrides(held, overrides), str(file or "--set"))


def print_weights(weights: Artifact, learned_folder: Path) -> None:
    """The weights beside equal ones, each with its interval, then the verdicts."""
    console, found = table_console(), read_learned(Artifact(learned_folder))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("score", "weight", "interval", "equal", ""):
        table.add_column(heading, justify="left" if heading == "score" else "right", no_wrap=True)
    for one in sorted(found.shares, key=lambda one: -one.share):
        interval = f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(escape(one.name), f"{one.share:.3f}", interval, f"{found.equal:.3f}", one.statement)
    console.print(table)
    for line in (found.verdict, *found.warnings, read_confirmation(weights).verdict):
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
