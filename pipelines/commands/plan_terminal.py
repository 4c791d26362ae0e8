"""What `gradatim plan show` draws in a terminal: panels over one token axis, of braille dots, blocks and letters.

Nothing needs colour: a source is a letter, an average has a panel of its own. Where there is colour it only helps.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipelines.commands.mix_tables import LETTERS, letter_style
from pipelines.plan_subjects import PlanSubject
from pipelines.report.figure import short_count
from pipelines.report.quantities import count
from trainer_hooks.curves import averaged_step_rates, learning_rate
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_order_checks import masses, scored

Floats = npt.NDArray[np.float64]

MARGIN = 12  # characters left of a panel, for its scale
WIDEST = 160
BLOCKS = " ▁▂▃▄▅▆▇█"
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_EMPTY = 0x2800


def print_plan(subject: PlanSubject, console: Console) -> None:
    """Draw a plan: learning rate, averages, quality and sources along the run, then phases and deciles as tables."""
    plan = subject.resolved
    steps = f"{plan.steps:,} steps of {plan.step_tokens:,}"
    console.print(f"[bold]{escape(subject.name)}[/]  {count(plan.tokens, 'tokens')}, {steps}", highlight=False)
    for line in panels(subject, max(20, min(console.width, WIDEST) - MARGIN - 2)):
        console.print(line, no_wrap=True, overflow="crop", highlight=False)
    console.print(_phases_table(plan))
    if table := deciles_table(subject):
        console.print(table)


def panels(subject: PlanSubject, width: int) -> Iterator[Text]:
    """The lines of all panels, each `width` characters beside its scale."""
    plan = subject.resolved
    peak = float(max(plan.plan.peak_lr, 1e-300))
    fine = (np.arange(2 * width) + 0.5) * plan.tokens / (2 * width)
    yield Text("  learning rate")
    yield from curve(learning_rate(fine, plan), 6, (0.0, peak))
    for name in plan.averages:
        steps = np.minimum((fine / plan.step_tokens).astype(np.int64), plan.steps - 1)
        yield Text(f"  learning rate as it counts in average {name}, and the weights of its checkpoints")
        yield from curve(averaged_step_rates(plan, name)[steps], 4, (0.0, peak))
        marks, coefficients = plan.averages[name].final()
        yield _row("weights", marks_row(marks, coefficients, plan.tokens, width))
    if subject.data is not None:
        quality, shares = subject.data.along(np.linspace(0, plan.tokens, width + 1))
        if np.isfinite(quality).any():
            yield Text("  mean score of the documents read")
            low, high = float(np.nanmin(quality)), float(np.nanmax(quality))
            yield from curve(np.repeat(quality, 2), 4, (low, high if high > low else low + 1))
        yield Text.assemble("  share of each source: ", *_letters(subject.data.sources))
        yield from bands(shares, 6)
    yield _row("", "─" * width)
    yield from _ruler(plan, width)


def curve(values: Floats, height: int, bounds: tuple[float, float]) -> Iterator[Text]:
    """A line of braille dots, two values a character, with the bounds beside its first and last row."""
    low, high = bounds
    levels = np.round((values - low) / (high - low) * (4 * height - 1))
    cells = np.zeros((height, len(values) // 2), dtype=np.int64)
    before = np.nan
    for i, level in enumerate(levels[: 2 * cells.shape[1]]):
        if not np.isnan(level):
            start = level if np.isnan(before) else before + np.sign(level - before)
            span = np.arange(min(start, level), max(start, level) + 1) if level != before else np.array([level])
            rows = 4 * height - 1 - np.clip(span, 0, 4 * height - 1).astype(np.int64)
            np.bitwise_or.at(cells[:, i // 2], rows // 4, _DOTS[rows % 4, i % 2])
        before = level
    for number, row in enumerate(cells):
        label = f"{high:.3g}" if number == 0 else f"{low:.3g}" if number == height - 1 else ""
        yield _row(label, "".join(chr(_EMPTY + dots) if dots else " " for dots in row), "bold")


def marks_row(marks: npt.NDArray[np.int64], coefficients: Floats, tokens: int, width: int) -> str:
    """Blocks as high as the weights that the checkpoints of each column have in an average."""
    columns = np.minimum(np.asarray(marks) * width // (tokens + 1), width - 1)
    weights = np.bincount(columns, np.maximum(coefficients, 0), width)
    levels = np.ceil(weights / max(float(weights.max()), 1e-300) * 8).astype(np.int64)
    return "".join(BLOCKS[level] for level in levels)


def bands(shares: Floats, height: int) -> Iterator[Text]:
    """Shares of the sources stacked in each column, as letters; the first source at the bottom."""
    borders = np.round(np.cumsum(np.nan_to_num(shares), axis=1) * height)
    for number in range(height):
        line = Text(f"{'100%' if number == 0 else '0%' if number == height - 1 else '':>{MARGIN - 2}} │")
        for column in borders:
            source = int(np.searchsorted(column, height - 1 - number, side="right"))
            if source < len(column):
                line.append(LETTERS[source % len(LETTERS)], style=letter_style(source))
            else:
                line.append(" ")
        yield line


def _letters(sources: Sequence[str]) -> Iterator[Text | str]:
    for i, name in enumerate(sources):
        yield Text(LETTERS[i % len(LETTERS)], style=letter_style(i))
        yield f" {name}  "


def _ruler(plan: ResolvedPlan, width: int) -> Iterator[Text]:
    """Names of the phases below the axis, and the tokens at its ends and where phases begin."""
    names, tokens = [" "] * width, [" "] * width
    free = 0
    for phase in plan.phases:
        at = min(width - 1, phase.start * width // plan.tokens)
        room = max(1, phase.end * width // plan.tokens - at)
        label = f"╵{phase.kind}"[:room]
        names[at : at + len(label)] = label
        shown = short_count(phase.start)
        if at >= free and at + len(shown) < width - len(short_count(plan.tokens)) - 1:
            tokens[at : at + len(shown)] = shown
            free = at + len(shown) + 1
    end = short_count(plan.tokens)
    tokens[width - len(end) :] = end
    yield _row("", "".join(names), axis=" ")
    yield _row("tokens", "".join(tokens), axis=" ")


def _row(label: str, body: str, style: str = "", axis: str = "│") -> Text:
    return Text(f"{label:>{MARGIN - 2}} {axis}").append(body, style=style)


def _phases_table(plan: ResolvedPlan) -> Table:
    table = _table(("phase", "from", "tokens", "share", "learning rate"))
    for phase in plan.phases:
        length = phase.end - phase.start
        rates = " to ".join(dict.fromkeys((f"{phase.lr_start:.3g}", f"{phase.lr_end:.3g}")))
        kind = f"{phase.kind} {phase.shape}" if phase.kind == "decay" else phase.kind
        table.add_row(kind, f"{phase.start:,}", f"{length:,}", f"{100 * length / plan.tokens:.3g} %", rates)
    return table


def deciles_table(subject: PlanSubject) -> Table | None:
    """The learning rate's mass by quality decile: as trained, shuffled, and in each average; None without scores."""
    if subject.data is None or not scored(subject.data, subject.resolved):
        return None
    found = masses(subject.resolved, subject.data)
    table = _table(("learning-rate mass", "as trained", "shuffled", *(name for name in found if name != "raw")))
    for i in range(10):
        label = {0: "lowest tenth by quality", 9: "best tenth"}.get(i, f"{i + 1}")
        raw, *averaged = (f"{100 * shares[i]:.3g} %" for shares in found.values())
        table.add_row(label, raw, "10 %", *averaged, style="bold" if i == 9 else "")
    return table


def print_comparison(subjects: Sequence[PlanSubject], console: Console) -> None:
    """One line a plan: where its rate ends, what it averages, and what the best tenth of its data gets."""
    table = _table(("plan", "tokens", "peak", "ends at", "averages", "best tenth gets", "averaged"))
    for subject in subjects:
        plan = subject.resolved
        top = ["", ""]
        if subject.data is not None and scored(subject.data, plan):
            shares = [f"{100 * each[-1]:.3g} %" for each in masses(plan, subject.data).values()]
            top = [shares[0], ", ".join(shares[1:])]
        ends = f"{plan.phases[-1].lr_end:.3g}"
        names = ", ".join(plan.averages) or "none"
        table.add_row(escape(subject.name), f"{plan.tokens:,}", f"{plan.plan.peak_lr:g}", ends, escape(names), *top)
    console.print(table)


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(escape(heading), justify="right" if i else "left", no_wrap=True)
    return table
