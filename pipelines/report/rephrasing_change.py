"""What the model did to the text, by style: lengths, copying, and facts that were lost or were never in the source.

New facts are the numbers and names of an output that its source does not hold: the rephraser's own knowledge, or its
inventions. They are counted over all answers (what the model does) and over those that passed (what the data say).
"""

from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipelines.report.figure import INK, colour, drawing, short_count, svg
from pipelines.report.quantities import count, percent
from pipelines.report.rephrasing_attempts import Attempts, Floats, Marks, by_style, quantile
from pipelines.report.workspace import Section

BINS = 30
STYLES_DRAWN = 24
_COLUMNS = ("length", "copy_8", "drift", "meaning")
_SERIES = 5


def section(attempts: Attempts) -> Section:
    """Length ratios as histograms, and the measures of each style in one table."""
    styles = [(style, rows & ~attempts.unanswered) for style, rows in by_style(attempts)]
    rows = [_row(attempts, style, mine) for style, mine in styles]
    facts = {
        "finding": _finding(rows),
        "rows": rows,
        "lengths": [_histogram(attempts, i, *item) for i, item in enumerate(styles[:STYLES_DRAWN])],
        "more": max(0, len(styles) - STYLES_DRAWN),
    }
    return Section("change", "What the model did to the text", "rephrasing_change.html", facts)


def new_facts(attempts: Attempts, rows: Marks) -> tuple[float, float]:
    """Mean share of an output's facts that its source lacks, and the share of outputs with any; NaN if none."""
    known = attempts.gates.get("facts", np.full(len(attempts), np.nan))[rows]
    known = known[np.isfinite(known)]
    return (float(1 - known.mean()), float((known < 1).mean())) if len(known) else (float("nan"), float("nan"))


def _row(attempts: Attempts, style: str, rows: Marks) -> dict[str, Any]:
    kept = rows & attempts.kept
    rate, some = new_facts(attempts, rows)
    kept_rate, kept_some = new_facts(attempts, kept)
    lost = 1 - _mean(attempts, "recall", kept)
    medians = [
        f"{middle:.2f}" if np.isfinite(middle := quantile(_values(attempts, gate, kept), 0.5)) else "–"
        for gate in _COLUMNS
    ]
    return {
        "style": style, "kept": int(kept.sum()), "medians": medians, "rate": rate, "new": _shown(rate),
        "new_any": _shown(some), "kept_new": _shown(kept_rate), "kept_any": _shown(kept_some), "lost": _shown(lost),
        "kept_rate": kept_rate,
    }  # fmt: skip


def _finding(rows: list[dict[str, Any]]) -> str:
    known = [row for row in rows if np.isfinite(row["rate"])]
    if not known:
        return "No output held a number or a name, so nothing can be said of new facts."
    most = max(known, key=lambda row: (row["rate"], row["style"]))
    text = (
        f"The style with the most new facts is {most['style']}: {most['new']} of the numbers and names that it wrote "
    )
    text += "are not in their source"
    if np.isfinite(most["kept_rate"]):
        text += f", {most['kept_new']} of those that passed the gates"
    return text + "."


def _values(attempts: Attempts, gate: str, rows: Marks) -> Floats:
    return attempts.gates[gate][rows] if gate in attempts.gates else np.full(int(rows.sum()), np.nan)


def _mean(attempts: Attempts, gate: str, rows: Marks) -> float:
    values = _values(attempts, gate, rows)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _shown(share: float) -> str:
    return percent(share) if np.isfinite(share) else "–"


def _histogram(attempts: Attempts, number: int, style: str, rows: Marks) -> dict[str, Any]:
    """Output tokens over source tokens: all answers as an outline, those that passed filled."""
    values, kept = (_values(attempts, "length", mine) for mine in (rows, rows & attempts.kept))
    values, kept = values[np.isfinite(values)], kept[np.isfinite(kept)]
    facts = {"style": style, "svg": None, "median": "", "beyond": 0, "n": count(len(values), "answers")}
    if not len(values):
        return facts
    high = max(2.0, min(4.0, float(np.quantile(values, 0.99))))
    with drawing(250, 120, left=36, right=10, top=6, bottom=22) as (figure, (axes,)):
        for shown, fill in ((values, False), (kept, True)):
            heights, edges = np.histogram(shown, bins=BINS, range=(0, high))
            axes.stairs(heights, edges, fill=fill, color=colour(_SERIES), linewidth=0 if fill else 1.2)
        axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xlim(0, high)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        median = f"{np.median(values):.2f}"
        drawn = svg(figure, f"length-{number}", f"Histogram of length ratios of {style}: median {median}.")
    return {**facts, "svg": drawn, "median": median, "beyond": int((values > high).sum())}
