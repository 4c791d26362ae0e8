"""Figures as inline SVG that take their colours from the page, so one drawing is legible in light and in dark.

matplotlib draws with placeholder colours, and each is then replaced by a CSS variable of style.css. Text stays
text (in the page's own font), ids are salted and prefixed, and nothing is dated: the same data give the same
bytes. Sizes are in CSS pixels.

How it is used:  with drawing(520, 220) as (figure, axes): axes.plot(...)   then   svg(figure, "loss", "what it shows")
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, MUTED, RULE, PAPER = "#010203", "#010204", "#010205", "#010206"
SERIES = tuple(f"#0102{number:02x}" for number in range(0x10, 0x18))
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"}
_VARIABLES |= {colour: f"--series-{i + 1}" for i, colour in enumerate(SERIES)}
_DASHES = ((4, 2), (1, 2), (7, 2, 1, 2), (7, 3), (4, 2, 1, 2, 1, 2))
_MARKERS = ("D", "s", "^", "v", "P")
_DPI = 72
_ROOTS = re.compile(r"(?m)^:root \{.*?^\}\n|^@media \(prefers-color-scheme: dark\) \{\n.*?^\}\n", re.S)
_SHORT = re.compile(r"(\d\.\d)\d+")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gradatim",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelsize": 12,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_joinstyle": "round",
    "path.simplify": True,
}


def colour(index: int) -> str:
    """The placeholder of the n-th series colour; they repeat after eight."""
    return SERIES[index % len(SERIES)]


def source_colour(index: int) -> str:
    """The placeholder of the n-th source's colour: sources begin at the third, arms at the first."""
    return colour(index + 2)


def colour_variable(index: int) -> str:
    """The CSS variable of the n-th series colour, for legends and bars drawn in HTML."""
    return _VARIABLES[colour(index)]


def source_variable(index: int) -> str:
    """The CSS variable of the n-th source's colour."""
    return _VARIABLES[source_colour(index)]


def dashes(index: int) -> tuple[int, tuple[int, ...]]:
    """The dash pattern of the n-th average of a run, as matplotlib takes it; solid lines are weights as trained."""
    return 0, _DASHES[index % len(_DASHES)]


def marker(index: int) -> str:
    """The marker of the n-th average of a run; circles are weights as trained."""
    return _MARKERS[index % len(_MARKERS)]


def line_key(index: int) -> Markup:
    """A short piece of the n-th average's line, for legends in HTML."""
    pattern = " ".join(map(str, _DASHES[index % len(_DASHES)]))
    line = f'<path d="M0 4h26" stroke="var(--ink)" stroke-width="1.5" stroke-dasharray="{pattern}"/>'
    return Markup(f'<svg width="26" height="8" aria-hidden="true">{line}</svg>')


@contextmanager
def drawing(
    width: int,
    height: int,
    *,
    rows: Sequence[float] = (1.0,),
    left: int = 48,
    right: int = 20,
    top: int = 10,
    bottom: int = 40,
    gap: int = 16,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of width x height pixels with stacked axes that share their x axis.

    `rows` are the axes' relative heights, from the top; margins and the gap between axes are in pixels.
    Draw inside the context, where the style holds, and call `svg` there too.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        figure.patch.set_alpha(0.0)
        free = height - top - bottom - gap * (len(rows) - 1)
        axes: list[Axes] = []
        y = float(height - top)
        for share in rows:
            tall = free * share / sum(rows)
            y -= tall
            box = (left / width, y / height, (width - left - right) / width, tall / height)
            axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
            y -= gap
        for upper in axes[:-1]:
            upper.tick_params(labelbottom=False, bottom=False)
        yield figure, axes


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an inline `<svg>` element; `name` prefixes its ids, `label` is read out in its place."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    body = re.sub(r'<g id="[^"]*"', "<g", text[text.index(">") + 1 :])
    body = re.sub(r' transform="rotate\(-0 [^"]*"|xlink:(?=href)', "", body)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = body.replace("font-family: 'DejaVu Sans'", "font-family: var(--sans)")
    body = re.sub(r'(?<= d=")[^"]*', lambda path: " ".join(_SHORT.sub(r"\1", path[0]).split()), body)
    for placeholder, variable in _VARIABLES.items():
        body = body.replace(placeholder, f"var({variable})")
    width = float(box[1].split()[2])
    shown = f'viewBox="{box[1]}" style="max-width:{width:.0f}px" aria-label="{escape(label)}"'
    return Markup(f'<svg class="figure" role="img" {shown}>' + re.sub(r"\n\s*", "\n", body).strip())


def standalone(inline: str) -> str:
    """An inline figure as a file of its own: the page's colours of style.css come with it, for light and for dark."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    roots = [found.replace(":root", "svg") for found in _ROOTS.findall(style)]
    head = f"<style>\n{''.join(roots)}svg {{ background: var(--paper); }}\n</style>"
    return (
        str(inline).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{head}", 1) + "\n"
    )


def token_axis(axes: Axes, last: float, label: str = "tokens seen") -> None:
    """Format an x axis that counts tokens, from 0 to `last`."""
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.set_xlabel(label)


def percent_axis(axes: Axes, *, which: str = "y") -> None:
    """Show an axis of shares in per cent."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def panel_title(axes: Axes, text: str) -> None:
    """A small heading above the left end of one panel."""
    axes.set_title(text, loc="left", fontsize=12, color=MUTED, pad=5)


def short_count(value: float) -> str:
    """A count in axis form: 800, 40K, 1.5M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:g}"


def smoothed(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """A centred moving mean over `width` values, shape kept; the ends average what there is."""
    kernel = np.ones(max(1, min(width, len(values))))
    total = np.convolve(values, kernel, mode="same")
    weights = np.convolve(np.ones(len(values)), kernel, mode="same")
    return np.asarray(total / weights, dtype=np.float64)
