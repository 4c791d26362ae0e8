"""A study's findings in the terminal: the answer, then the contrasts, then every arm, within a hundred columns."""

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipelines.experiments.analysis.findings import Difference, Findings
from pipelines.report.experiment_arms import AVERAGING, CONTROL, SAME, comparison
from pipelines.report.experiment_checks import check_reportable
from pipelines.report.experiment_numbers import difference, loss, outcome, ranged, sides

WIDTH = 100
STYLES = {"better": "green", "worse": "red"}


def print_findings(console: Console, findings: Findings) -> None:
    """Print findings: the sentence first, then what was asked, then the table of arms, then what to know.

    Raises ArtifactError for findings that lack a control, an n, a range or an interval.
    """
    check_reportable(findings)
    width = min(WIDTH, console.width)
    console.print(Text(findings.question, style="dim"), width=width)
    console.print(Text(findings.answer, style="bold"), width=width)
    console.print()
    console.print(_contrasts(findings), width=width)
    console.print(_arms(findings), width=width)
    console.print("[dim]Losses: held-out bits per byte, lower is better. Differences: positive = better, paired by "
                  "seed, 95 % interval.[/dim]", width=width)  # fmt: skip
    for lost in findings.lost:
        console.print(f"[red]no result[/red] {escape(lost.run_id)}: {escape(lost.why)}", width=width)
    for note in findings.notes:
        console.print(Padding(Text(f"note: {note}"), (0, 0, 0, 2)), width=width)


def _contrasts(findings: Findings) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    table.add_column("what was asked", ratio=3)
    table.add_column("bits per byte better", no_wrap=False, ratio=3)
    table.add_column("", ratio=2)
    for one in findings.contrasts:
        name = Text(one.name.replace("_", " "), style="bold")
        if one.comparison is None:
            table.add_row(name, "", "not trained at this size")
            continue
        found = one.comparison.target
        table.add_row(name + Text(f"\n{sides(one.comparison)}", style="dim"), difference(found), _verdict(found))
    return table


def _arms(findings: Findings) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("arm", "weights", "loss", "lowest-highest", "n", "better than its control"):
        table.add_column(name, justify="right" if name in ("loss", "n") else "left")
    for arm in findings.arms:
        rows = [one for one in arm.losses if one.kind == "target"]
        for i, one in enumerate(rows):
            beside = comparison(findings, arm.name, one.weights, SAME, AVERAGING, CONTROL)
            values = one.bits_per_byte
            said = Text("control" if arm.control is None else "")
            if beside is not None:
                said = Text(f"{difference(beside.target)}\n") + _verdict(beside.target)
            table.add_row(
                arm.name if i == 0 else "",
                one.weights,
                loss(values.mean),
                ranged(values).replace(" to ", "-"),
                str(values.n),
                said,
            )
        if not rows:
            table.add_row(arm.name, "", "", "", "0", Text("no run finished", style="red"))
    return table


def _verdict(found: Difference) -> Text:
    return Text(outcome(found), style=STYLES.get(found.verdict, "yellow"))
