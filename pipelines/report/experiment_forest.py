"""A forest plot as facts of a template: rows of a name, a strip and words, over one axis."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from pipelines.experiments.analysis.findings import Difference
from pipelines.report.experiment_numbers import difference, outcome, paint, spread_of
from pipelines.report.experiment_strips import TALL, Scale, axis, strip

TONES = {"better": "good", "worse": "stop", "not distinguishable": "same"}


@dataclass(frozen=True)
class Row:
    """One difference of a forest plot: what it is of, what is said below it, and every seed's own."""

    name: str
    difference: Difference
    about: str = ""
    dots: Sequence[float] = field(default=())


def scale_of(rows: Sequence[Row]) -> Scale | None:
    """The axis that all rows share; None where none of them has a number."""
    spreads = [spread for row in rows if (spread := spread_of(row.difference, row.dots)) is not None]
    return Scale.of([value for spread in spreads for value in spread.values]) if spreads else None


def forest(rows: Sequence[Row]) -> dict[str, Any]:
    """What the macro `forest` shows."""
    scale = scale_of(rows)
    return {
        "rows": [
            {
                "name": row.name, "about": row.about, "drawn": drawn(scale, row), "said": difference(row.difference),
                "verdict": outcome(row.difference), "tone": tone(row.difference),
            }
            for row in rows
        ],
        "axis": "" if scale is None else axis(scale),
    }  # fmt: skip


def drawn(scale: Scale | None, row: Row, tall: int = TALL) -> Markup:
    """One row's strip, so many pixels tall; nothing where no seed has both sides."""
    spread = spread_of(row.difference, row.dots)
    if scale is None or spread is None:
        return Markup("")
    said = f"{row.name}: {difference(row.difference)}, {outcome(row.difference)}"
    return strip(scale, spread, said, paint(row.difference), tall)


def tone(found: Difference) -> str:
    """The class of a verdict in style.css."""
    return TONES.get(found.verdict, "few")
