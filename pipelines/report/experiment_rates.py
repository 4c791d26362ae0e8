"""What learning rates have to do with it: the gain as a function of where the rate ends, and its mass by quality.

The first is the central figure of arXiv 2511.18903: an order pays while the rate stays high, and the less the lower it
ends. The second is why: how much of all learning rate each tenth of the data by quality receives.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from pipelines.experiments.analysis.findings import Findings, GapPoint, RateMass
from pipelines.report.experiment_arms import rate
from pipelines.report.experiment_curves import FEW, panel_size
from pipelines.report.experiment_lines import end_names, limit, weights_colour
from pipelines.report.experiment_numbers import difference, outcome
from pipelines.report.figure import INK, MUTED, RULE, drawing, svg
from pipelines.report.quantities import signed
from pipelines.report.workspace import Section

APART = 0.05  # decades between the kinds of weights at one end of the rate, so that intervals do not hide each other


def gap_section(findings: Findings) -> Section | None:
    """A panel a level, a line for each kind of weights; none where all rates end alike."""
    points = [one for one in findings.gaps if one.difference.mean is not None]
    levels = list(dict.fromkeys((one.factor, one.level) for one in points))
    levels = [level for level in levels if len({one.end_ratio for one in _of(points, level)}) > 1]
    if not levels:
        return None
    shown = [one for level in levels for one in _of(points, level)]
    values = [x for one in shown for x in (one.difference.mean, one.difference.low, one.difference.high, 0.0)
              if x is not None]  # fmt: skip
    facts = {
        "panels": [
            _gap_panel(findings, i, level, _of(points, level), values, len(levels)) for i, level in enumerate(levels)
        ],
        "rows": [
            {
                "level": one.level, "at": ", ".join(one.at.values()), "end": rate(one.end_ratio),
                "weights": one.weights, "shown": difference(one.difference), "verdict": outcome(one.difference),
            }
            for one in shown
        ],
        "factor": levels[0][0],
    }  # fmt: skip
    return Section("gap", "The gain and the end of the learning rate", "experiment_gap.html", facts)


def mass_section(findings: Findings) -> Section | None:
    """A panel an arm: bars for the raw weights, a line for each average."""
    arms = list(dict.fromkeys(one.arm for one in findings.rate_mass))
    if not arms:
        return None
    top = max(share for one in findings.rate_mass for share in one.tenths)
    panels = [
        _mass_panel(findings, i, arm, [one for one in findings.rate_mass if one.arm == arm], top, len(arms) <= FEW)
        for i, arm in enumerate(arms)
    ]
    return Section("mass", "Where the learning rate goes", "experiment_mass.html", {"panels": panels})


def _of(points: Sequence[GapPoint], level: tuple[str, str]) -> list[GapPoint]:
    return [one for one in points if (one.factor, one.level) == level]


def _gap_panel(
    findings: Findings, number: int, level: tuple[str, str], points: Sequence[GapPoint], values: Sequence[float], n: int
) -> dict[str, Any]:
    known = [weights for weights in findings.weights if any(one.weights == weights for one in points)]
    size = (480, 300) if n == 1 else (480, 280)
    with drawing(*size, left=64, right=12 + 8 * max(map(len, known))) as (figure, (axes,)):
        axes.axhline(0, color=INK, linewidth=1)
        limit(axes, values, ticks=6)
        ends = []
        for i, weights in enumerate(known):
            paint = weights_colour(weights, findings.weights)
            mine = sorted((one for one in points if one.weights == weights), key=lambda one: one.end_ratio)
            shift = APART * (i - (len(known) - 1) / 2)
            at = [place(one.end_ratio, points) + shift for one in mine]
            means = [float(one.difference.mean or 0) for one in mine]
            _whiskers(axes, at, mine, paint)
            axes.plot(at, means, "o-", color=paint, linewidth=2, markersize=6, markeredgewidth=0)
            ends.append((means[-1], weights, paint))
        _rate_axis(axes, points)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3) if abs(value) > 1e-9 else "0"))
        axes.set_ylabel("bits per byte better")
        end_names(axes, ends, size=12)
        label = f"Gain of {level[1]} over its control by the end of the learning rate, for each kind of weights."
        return {"name": level[1], "about": "", "svg": svg(figure, f"gap-{number}", label)}


def _whiskers(axes: Axes, at: Sequence[float], points: Sequence[GapPoint], paint: str) -> None:
    for x, one in zip(at, points, strict=True):
        if one.difference.low is not None and one.difference.high is not None:
            axes.vlines(x, one.difference.low, one.difference.high, color=paint, linewidth=1.6, alpha=0.6)


def place(ratio: float, points: Sequence[GapPoint]) -> float:
    """A ratio on the axis: its logarithm; a rate that ends at 0 stands half a decade left of the lowest other one."""
    if ratio > 0:
        return float(np.log10(ratio))
    return min((float(np.log10(one.end_ratio)) for one in points if one.end_ratio > 0), default=0.0) - 0.5


def _rate_axis(axes: Axes, points: Sequence[GapPoint]) -> None:
    ratios = sorted({one.end_ratio for one in points})
    places = [place(ratio, points) for ratio in ratios]
    axes.set_xlim(places[0] - 0.2, places[-1] + 0.2)
    axes.set_xticks(places, [rate(ratio) for ratio in ratios])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=RULE)
    axes.set_xlabel("end of the learning rate over its peak (log)")


def _mass_panel(
    findings: Findings, number: int, arm: str, found: Sequence[RateMass], top: float, few: bool
) -> dict[str, Any]:
    tenths, ends = np.arange(1, 11), []
    with drawing(**panel_size(few, [one.weights for one in found])) as (figure, (axes,)):
        axes.set_ylim(0, 1.1 * top)
        for one in found:
            paint = weights_colour(one.weights, findings.weights)
            if one.weights == "raw":
                axes.bar(tenths, one.tenths, 0.8, color=paint, alpha=0.55, linewidth=0)
            else:
                axes.stairs(one.tenths, np.arange(0.5, 11), baseline=None, color=paint, linewidth=2)
            ends.append((one.tenths[-1], one.weights, paint))
        axes.axhline(10, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xlim(0.4, 10.6)
        axes.set_xticks([1, 5, 10], ["worst", "", "best"])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
        axes.locator_params(axis="y", nbins=4)
        end_names(axes, ends)
        best = ", ".join(f"{one.weights} {one.tenths[-1]:.1f} %" for one in found)
        label = f"Learning-rate mass of {arm} by tenth of the score; the best tenth gets {best}."
        drawn = svg(figure, f"mass-{number}", label)
    return {"name": arm, "about": f"best tenth: {best}", "svg": drawn}
