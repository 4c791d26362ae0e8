"""Lines over seeds, as every figure of a study draws them: the mean thick, seeds or their range thin, names at the end.

Names stand where their lines end and make room for each other, so no legend has to be matched by colour. Weights have
one colour in all figures of a page: raw ones the first, averages the next in the order in which they were given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipelines.report.figure import colour, dashes

_LINE = 13.0  # pixels a name takes


@dataclass(frozen=True)
class Line:
    """One line: its name, where it goes on average, and, where they are known, each seed's own.

    Attributes:
        x, y: of the mean.
        seeds: (x, y) of each seed.
        low, high: an interval around y.
        paint: a placeholder colour of figure.py; dashed: the n-th dash pattern, None for a solid line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    paint: str
    seeds: tuple[tuple[Sequence[float], Sequence[float]], ...] = ()
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: int | None = None

    @property
    def values(self) -> list[float]:
        """All that must be on the y axis."""
        return [*self.y, *(y for _, ys in self.seeds for y in ys), *(self.low or ()), *(self.high or ())]


def weights_colour(weights: str, known: Sequence[str]) -> str:
    """The placeholder of a kind of weights; kinds that are not among the known ones share the next colour."""
    return colour([*known, weights].index(weights))


def draw_lines(axes: Axes, lines: Sequence[Line], *, marks: bool = False) -> None:
    """Draw lines, thin seeds below thick means; `marks` puts a dot at each point of a mean."""
    for line in lines:
        style = "-" if line.dashed is None else dashes(line.dashed)
        for x, y in line.seeds:
            axes.plot(x, y, color=line.paint, linewidth=0.8, alpha=0.4, linestyle=style)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=line.paint, alpha=0.16, linewidth=0)
            for edge in (line.low, line.high):
                axes.plot(line.x, edge, color=line.paint, linewidth=0.6, alpha=0.5)
        axes.plot(
            line.x, line.y, color=line.paint, linewidth=2, linestyle=style,
            marker="o" if marks else None, markersize=4, markeredgewidth=0,
        )  # fmt: skip


def limit(axes: Axes, values: Sequence[float] | npt.NDArray[np.float64], ticks: int = 4) -> None:
    """Y limits a little outside of the values, and few ticks."""
    low, high = float(np.min(values)), float(np.max(values))
    room = max(0.08 * (high - low), 1e-3 * abs(high), 1e-9)
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(ticks))


def end_names(axes: Axes, ends: Sequence[tuple[float, str, str]], *, size: int = 11) -> None:
    """Names to the right of the axes, at (y, name, colour), moved apart where they would overlap.

    The y limits must be set before, and the figure leave room at the right.
    """
    if not ends:
        return
    bottom, top = axes.get_ylim()
    pixels = axes.get_window_extent().height
    order = sorted(range(len(ends)), key=lambda i: (ends[i][0], i))
    wanted = [(ends[i][0] - bottom) / (top - bottom) * pixels for i in order]
    for i, y in zip(order, _apart(wanted, pixels), strict=True):
        axes.annotate(
            ends[i][1], (1, y / pixels), (5, 0), xycoords="axes fraction", textcoords="offset points", va="center",
            fontsize=size, color=ends[i][2], annotation_clip=False,
        )  # fmt: skip


def _apart(wanted: Sequence[float], pixels: float) -> list[float]:
    """Heights as near as they come to the rising ones wanted, each a line from the next, the last within the axes."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + _LINE) if placed else max(y, 0.0))
    ceiling = max(pixels, _LINE * (len(wanted) - 1))
    for k in range(len(placed) - 1, -1, -1):
        placed[k] = min(placed[k], ceiling)
        ceiling = placed[k] - _LINE
    return placed
