"""Pictures of an allocation: shares along the token axis with phases and ramps, visits beside caps, quality curves.

A source has one colour everywhere; where there are more sources than colours, the next round is paler.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from mixtures.allocation import Allocation, Component
from pipelines.report.figure import (
    INK,
    MUTED,
    RULE,
    SERIES,
    drawing,
    panel_title,
    percent_axis,
    source_colour,
    svg,
    token_axis,
)

_LINE = 15  # pixels a name takes


def shares_figure(allocation: Allocation, name: str = "shares") -> Markup:
    """Stacked shares of all components along the run; ramps are slopes, phases are parted and named."""
    n = len(allocation.components)
    height = max(240, 56 + _LINE * n)
    with drawing(880, height, left=52, right=210, top=26) as (figure, (axes,)):
        below = np.zeros(len(_corners(allocation)[0]))
        for i in range(n):
            places, shares = _corners(allocation, i)
            axes.fill_between(places, below, below + shares, linewidth=0, **_paint(i))
            below = below + shares
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        percent_axis(axes)
        _phases(axes, allocation)
        _legend(axes, [one.name for one in allocation.components], height)
        token_axis(axes, allocation.tokens, "tokens of the run")
        return svg(figure, name, "Share of each source along the run.")


def visits_figure(allocation: Allocation, name: str = "visits") -> Markup:
    """How often each component is read, phase by phase, with a mark at its cap."""
    rows = allocation.components
    with drawing(880, 56 + 24 * len(rows), left=210, right=60, top=8) as (figure, (axes,)):
        y = np.arange(len(rows))[::-1]
        reach = max([1.0, *(one.epochs for one in rows)])
        for i, one in enumerate(rows):
            left = 0.0
            for p, interval in enumerate(allocation.intervals):
                visits = interval.rows[i].tokens / max(one.available_tokens, 1)
                paint = _paint(i)
                paint["alpha"] *= 1 - 0.6 * p / max(len(allocation.intervals), 2)
                axes.barh(y[i], visits, left=left, height=0.62, linewidth=0, **paint)
                left += visits
            axes.annotate(
                f"{one.epochs:.2f}", (left, y[i]), (5, 0), textcoords="offset points", va="center", fontsize=11
            )
            if one.max_visits <= 1.6 * reach:
                axes.plot([one.max_visits] * 2, [y[i] - 0.42, y[i] + 0.42], color=INK, linewidth=1.6)
        axes.set_yticks(y, [one.name[:30] for one in rows])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlim(0, 1.12 * max(reach, *(one.max_visits for one in rows if one.max_visits <= 1.6 * reach), 0))
        axes.grid(axis="x", color=RULE)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("visits of each document on average; phases are paler from left to right, the mark is the cap")
        return svg(figure, name, "How often each source is read, beside its cap.")


def curves_figure(components: Sequence[Component], name: str = "curves") -> Markup:
    """How often documents of each quality are read, for components that are read by a score."""
    with drawing(560, 90 + 120 * len(components), rows=[1.0] * len(components), left=52, top=26, gap=34) as (
        figure,
        panels,
    ):
        for axes, one in zip(panels, components, strict=True):
            edges = [float(band.low) for band in one.bands] + [1.0]
            axes.stairs([band.epochs for band in one.bands], edges, fill=True, color=SERIES[0], alpha=0.75)
            axes.set_ylim(bottom=0)
            panel_title(axes, f"{one.name}: visits by {one.by}")
        percent_axis(panels[-1], which="x")
        panels[-1].set_xlim(0, 1)
        panels[-1].set_xlabel("tokens, from the worst score to the best")
        return svg(figure, name, "Visits by quality.")


def _paint(i: int) -> dict[str, Any]:
    return {"color": source_colour(i), "alpha": 0.85 if i < len(SERIES) else 0.45}


def _corners(allocation: Allocation, component: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Where the share of a component bends, as places on the token axis, and its share there."""
    places, shares, begin = list[float](), list[float](), 0
    for interval in allocation.intervals:
        row = interval.rows[component]
        places += [begin, begin + interval.ramp_tokens, begin + interval.tokens]
        shares += [float(row.start_share), float(row.share), float(row.share)]
        begin += interval.tokens
    return np.array(places), np.array(shares)


def _phases(axes: Axes, allocation: Allocation) -> None:
    begin = 0
    for interval in allocation.intervals:
        if begin:
            axes.axvline(begin, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        if interval.name:
            wide = interval.tokens / allocation.tokens
            at = (begin + interval.tokens / 2) / allocation.tokens
            shown = interval.name if 80 * wide >= len(interval.name) else ""
            axes.text(at, 1.02, shown, transform=axes.transAxes, ha="center", va="bottom", fontsize=12, color=MUTED)
        begin += interval.tokens


def _legend(axes: Axes, names: Sequence[str], height: int) -> None:
    """Names at the right, in the order in which they are stacked, beside the plot."""
    step = _LINE / (height - 66)
    for i, name in enumerate(names):
        y = i * step + step / 2
        axes.plot(
            [1.025], [y], "s", transform=axes.transAxes, markersize=9, clip_on=False, markeredgewidth=0, **_paint(i)
        )
        axes.text(1.045, y, name[:28], transform=axes.transAxes, va="center", fontsize=12)
