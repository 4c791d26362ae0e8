"""Template collapse: how much the outputs of each style resemble each other, beside their sources, over the run."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipelines.report.excerpts import excerpt
from pipelines.report.figure import colour, drawing, percent_axis, svg
from pipelines.report.quantities import count, listed, percent
from pipelines.report.rephrasing_attempts import Attempts, Marks, Rows, by_style
from pipelines.report.workspace import Section
from rephrase.diversity import FEW, SAMPLE, SLICES, Diversity, Drift, Level, Similarity, diversity, drift, worst

SLICE_SAMPLE = 400
_SHARES = ("share", "near-duplicates")
_SAID = {"stop": "stop", "note": "note", "fine": "fine", "few": "too few to say"}


@dataclass(frozen=True)
class StyleDiversity:
    """What was measured on the kept outputs of one style."""

    style: str
    measured: Diversity
    drift: Drift

    @property
    def level(self) -> Level:
        """The worst alarm of the sample and of the run."""
        return worst([self.measured.level, self.drift.level])

    def without_examples(self) -> "StyleDiversity":
        """The same without the texts that shares count."""
        measures = tuple(replace(one, example="") for one in self.measured.measures)
        return replace(self, measured=replace(self.measured, measures=measures))


def measure(attempts: Attempts, similarity: Similarity | None = None) -> list[StyleDiversity]:
    """The diversity of every style: a keyed sample of its kept outputs, and of slices in the order of the attempts."""
    styles = [(style, rows & attempts.kept) for style, rows in by_style(attempts)]
    samples = {style: attempts.drawn(rows, SAMPLE) for style, rows in styles}
    slices = {style: _slices(attempts, rows) for style, rows in styles}
    wanted = {int(row) for rows in samples.values() for row in rows}
    texts = attempts.texts(wanted | {int(row) for each in slices.values() for rows in each for row in rows})
    found = []
    for style, _ in styles:
        sources, outputs = ([texts[int(row)][side] for row in samples[style]] for side in (0, 1))
        run = drift([[texts[int(row)][1] for row in rows] for rows in slices[style]])
        found.append(StyleDiversity(style, diversity(outputs, sources, similarity), run))
    return found


def section(measured: list[StyleDiversity]) -> Section:
    """The table of each style; those with an alarm are open."""
    facts = {
        "finding": finding(measured),
        "level": worst([item.level for item in measured]),
        "styles": [_facts(i, item) for i, item in enumerate(measured)],
        "few": FEW,
        "sample": SAMPLE,
    }
    return Section("collapse", "Template collapse", "rephrasing_diversity.html", facts)


def finding(measured: list[StyleDiversity]) -> str:
    """One sentence: which styles raise an alarm, and the most common opening."""
    judged = [item for item in measured if item.level != "few"]
    if not judged:
        n = max((item.measured.n for item in measured), default=0)
        return f"Too few outputs to say: {count(n, 'outputs')} in the largest style, and fewer than {FEW} show nothing."
    alarms = [f"{item.style} ({item.level})" for item in judged if item.level != "fine"]
    opening = max((item.measured.measures[0] for item in judged), key=lambda measure: measure.value or 0.0)
    text = (
        f"{count(len(alarms))} of {count(len(judged), 'styles')} {'raises' if len(alarms) == 1 else 'raise'} an alarm"
    )
    text += f": {listed(alarms)}." if alarms else "."
    begins, theirs = percent(opening.value or 0.0), percent(opening.real or 0.0)
    quoted = f"“{excerpt(opening.example, 80)}”, " if opening.example else ""
    return (
        f"{text} The most common opening of a style, {quoted}begins {begins} of its outputs; "
        f"the most common one of their sources begins {theirs} of them."
    )


def shown(name: str, value: float | None) -> str:
    """A measure's value as it is written: shares in per cent, the rest with two or three digits."""
    if value is None:
        return "–"
    return (
        percent(value)
        if any(name.startswith(word) for word in _SHARES)
        else f"{value:.3f}"
        if value < 2
        else f"{value:.2f}"
    )


def _facts(number: int, item: StyleDiversity) -> dict[str, Any]:
    rows = [
        {
            "name": one.name, "value": shown(one.name, one.value), "real": shown(one.name, one.real),
            "level": one.level, "said": _SAID[one.level], "alarm": one.alarm, "example": excerpt(one.example, 80),
        }
        for one in item.measured.measures
    ]  # fmt: skip
    return {
        "style": item.style, "level": item.level, "n": item.measured.n, "n_words": item.measured.n_words, "rows": rows,
        "drift": item.drift.level, "drift_said": _SAID[item.drift.level], "figure": _figure(number, item),
    }  # fmt: skip


def _slices(attempts: Attempts, rows: Marks) -> list[Rows]:
    """Kept rows in the order of the run, cut into slices of one size, at most SLICE_SAMPLE drawn of each."""
    slices = []
    for part in np.array_split(np.flatnonzero(rows), SLICES):
        mine = np.zeros(len(attempts), dtype=bool)
        mine[part] = True
        slices.append(attempts.drawn(mine, SLICE_SAMPLE))
    return slices


def _figure(number: int, item: StyleDiversity) -> Any:
    """Opening share and distinct bigrams over the slices; none where there are too few outputs to slice."""
    if item.drift.level == "few":
        return None
    at = np.arange(1, len(item.drift.opening_shares) + 1)
    with drawing(420, 130, left=44, right=10, top=8, bottom=34) as (figure, (axes,)):
        axes.plot(at, item.drift.opening_shares, color=colour(1), marker="o", markersize=4)
        axes.plot(at, item.drift.distinct_2, color=colour(5), marker="o", markersize=4)
        axes.set_ylim(0, 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("fifth of the run")
        percent_axis(axes)
        return svg(figure, f"drift-{number}", f"Opening share and distinct bigrams of {item.style} over the run.")
