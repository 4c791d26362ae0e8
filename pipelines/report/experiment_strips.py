"""Forest plots out of strips: a row of HTML each, whose drawing has places in per cent and marks in pixels.

So a row is as wide as there is room and its dots stay round and its text legible, at a desk and on a phone. A strip
shows each seed as a dot, the interval as a bar, the mean as a stroke, and the line of no difference.

    scale = Scale.of([-0.02, 0.01])
    strip(scale, Spread(mean=-0.01, low=-0.03, high=0.01, dots=(-0.02, 0.0)))   and   axis(scale)   below the rows
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from pipelines.report.quantities import signed

TALL = 26
"""Pixels of a strip."""


@dataclass(frozen=True)
class Spread:
    """A difference as it is drawn: its mean, its interval (none with one pair), and the difference of every seed."""

    mean: float
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()
    within: tuple[float, float] | None = None  # a second interval, drawn thin: had other documents been held out

    @property
    def values(self) -> tuple[float, ...]:
        """All that must be on the axis."""
        return tuple(x for x in (self.mean, self.low, self.high, *self.dots, *(self.within or ())) if x is not None)


@dataclass(frozen=True)
class Scale:
    """A linear axis: what its left and right ends are, and where its ticks stand."""

    left: float
    right: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float], *, zero: bool = True) -> "Scale":
        """The axis that holds all values, and 0 where differences are shown; a little wider than they are."""
        known = [*values, *([0.0] if zero else [])]
        low, high = min(known), max(known)
        room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        left, right = low - room, high + room
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(left, right)
        return cls(left, right, tuple(float(x) for x in ticks if left <= x <= right))

    def place(self, value: float) -> str:
        """Where a value stands, as CSS takes it."""
        return f"{100 * (value - self.left) / (self.right - self.left):.2f}%"


def strip(scale: Scale, spread: Spread, label: str, paint: str = "--series-1", tall: int = TALL) -> Markup:
    """One row's drawing.

    Args:
        label: what is read out in its place.
        paint: the CSS variable of the interval and the mean; the dots are paler.
        tall: pixels.
    """
    at, middle = scale.place, tall / 2
    drawn = [f'<line x1="{at(x)}" x2="{at(x)}" y1="0" y2="{tall}" stroke="var(--rule)"/>' for x in scale.ticks]
    if scale.left <= 0 <= scale.right:
        drawn.append(f'<line x1="{at(0)}" x2="{at(0)}" y1="0" y2="{tall}" stroke="var(--muted)" stroke-width="1.5"/>')
    if spread.low is not None and spread.high is not None:
        drawn.append(
            f'<line x1="{at(spread.low)}" x2="{at(spread.high)}" y1="{middle}" y2="{middle}" '
            f'stroke="var({paint})" stroke-width="5" stroke-opacity=".35"/>'
        )
    if spread.within is not None:
        low, high = spread.within
        drawn.append(f'<line x1="{at(low)}" x2="{at(high)}" y1="{tall - 4}" y2="{tall - 4}" stroke="var({paint})"/>')
    drawn += [
        f'<circle class="seed" cx="{at(x)}" cy="{middle}" r="3.5" fill="var({paint})" fill-opacity=".75"/>'
        for x in spread.dots
    ]
    drawn.append(
        f'<line class="mean" x1="{at(spread.mean)}" x2="{at(spread.mean)}" y1="4" y2="{tall - 4}" '
        f'stroke="var({paint})" stroke-width="3"/>'
    )
    return _svg(drawn, label, tall)


def axis(scale: Scale, left: str = "worse", right: str = "better") -> Markup:
    """The ticks' numbers below all strips of a scale, and what its ends mean."""
    digits = _digits(scale)
    drawn = [
        f'<text x="{scale.place(x)}" y="14" text-anchor="middle">{signed(x, digits) if abs(x) > 1e-12 else 0}</text>'
        for x in scale.ticks
    ]
    drawn.append(f'<text x="0" y="31">\u2190 {escape(left)}</text>')
    drawn.append(f'<text x="100%" y="31" text-anchor="end">{escape(right)} \u2192</text>')
    return _svg(drawn, "", 36)


def _digits(scale: Scale) -> int:
    """Decimals that tell neighbouring ticks apart."""
    step = float(np.diff(scale.ticks).min()) if len(scale.ticks) > 1 else 1.0
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _svg(drawn: Iterable[str], label: str, tall: int) -> Markup:
    said = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return Markup(f'<svg class="strip" width="100%" height="{tall}" {said}>{"".join(drawn)}</svg>')
