"""What `gradatim evaluate` prints: losses by source and scores by task, for each set of weights side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from pipelines.commands.workshop import table_console
from trainer_hooks.evals.choices import TaskScore
from trainer_hooks.evals.item_files import ItemFile
from trainer_hooks.evaluation import Loss

SHOWN = 5
HIGHER, LOWER = "higher is\nbetter", "lower is\nbetter"


@dataclass(frozen=True)
class Result:
    """What one set of weights gets."""

    losses: Mapping[str, Loss]
    tasks: Sequence[TaskScore]
    too_long: Sequence[str]


def print_results(results: Mapping[str, Result], items: ItemFile, output: Path | None) -> None:
    """Both tables, and what was left out of them."""
    console = table_console()
    print_problems(console, items)
    for name, result in results.items():
        print_too_long(console, result.too_long, name)
    if any(result.losses for result in results.values()):
        console.print(_loss_table(results))
    if items.items:
        console.print(_task_table(results))
        console.print("± is one standard error; a tie counts as wrong.", highlight=False)
    if output:
        console.print(f"written to {output}", highlight=False)


def print_problems(console: Console, items: ItemFile) -> None:
    """How many lines were no questions, and the first of them."""
    if items.problems:
        console.print(f"[yellow]lines left out[/] that are no questions: {len(items.problems)}", highlight=False)
        _print_some(console, items.problems)


def print_too_long(console: Console, names: Sequence[str], whose: str) -> None:
    """How many questions do not fit the context, and the first of them."""
    if names:
        said = f"[yellow]questions left out[/] that do not fit the context of {escape(whose)}: {len(names)}"
        console.print(said, highlight=False, soft_wrap=True)
        _print_some(console, names)


def _print_some(console: Console, lines: Sequence[str]) -> None:
    more = [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
    for line in [*lines[:SHOWN], *more]:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def plain_table(headings: Sequence[str], left: int = 1) -> Table:
    """A table without lines, its first `left` columns of text, which may break, the others of numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, heading in enumerate(headings):
        justify: JustifyMethod = "left" if i < left else "right"
        table.add_column(heading, justify=justify, no_wrap=i >= left, overflow="fold", vertical="top")
    return table


def points(value: float, error: float | None = None) -> str:
    """A share in per cent, with its standard error."""
    return f"{100 * value:.2f}" + (f" ± {100 * error:.2f}" if error is not None else "")


def _loss_table(results: Mapping[str, Result]) -> Table:
    table = plain_table(("held out", "weights", f"nats a token\n{LOWER}", f"bits a byte\n{LOWER}"), left=2)
    for source in next(iter(results.values())).losses:
        for name, result in results.items():
            loss = result.losses[source]
            error = f" ± {loss.standard_error:.4f}" if loss.standard_error is not None else ""
            table.add_row(
                escape(source), escape(name), f"{loss.nats_per_token:.4f}{error}", f"{loss.bits_per_byte:.4f}"
            )
    return table


def _task_table(results: Mapping[str, Result]) -> Table:
    rules = list(dict.fromkeys(rule for result in results.values() for task in result.tasks for rule in task.accuracy))
    headings = ["task", "weights", "n", *(f"% right\n{rule}\n{HIGHER}" for rule in rules)]
    version = next((task.chance_version for result in results.values() for task in result.tasks), "")
    headings += [f"% by\nchance\n{version}", f"centred\n{rules[0]}\n{HIGHER}"] if rules else []
    table = plain_table([*headings, f"bits a byte\nright answer\n{LOWER}"], left=2)
    rows = [(task, name) for name, result in results.items() for task in result.tasks]
    order = list(dict.fromkeys(task.task for task, _ in rows))
    for task, name in sorted(rows, key=lambda row: order.index(row[0].task)):
        cells = [points(task.accuracy[rule], task.standard_error[rule]) if task.accuracy else "" for rule in rules]
        if rules and task.chance is not None:
            cells += [points(task.chance), f"{task.centred_accuracy[rules[0]]:.4f}"]
        elif rules:
            cells += ["", ""]
        error = f" ± {task.bits_per_byte_error:.3f}" if task.bits_per_byte_error is not None else ""
        table.add_row(
            escape(task.task), escape(name), f"{task.questions:,}", *cells, f"{task.bits_per_byte:.3f}{error}"
        )
    return table
