"""Losses while arms trained, raw and averaged: a panel an arm, all on one scale, its control grey behind it.

Twenty arms are twenty small panels rather than twenty colours. Averages are evaluated on the same runs, so their lines
begin where there are checkpoints to average.
"""

from collections.abc import Sequence
from typing import Any

from pipelines.experiments.analysis.findings import TARGET, ArmFinding, Curve, Findings
from pipelines.report.experiment_lines import Line, draw_lines, end_names, limit, weights_colour
from pipelines.report.experiment_numbers import loss
from pipelines.report.figure import MUTED, drawing, svg, token_axis
from pipelines.report.workspace import Section

FEW = 4
SETTLED = 0.4  # of the tokens: losses before fall so far that they would flatten the rest


def curves_section(findings: Findings) -> Section | None:
    """A panel an arm; none where nothing was measured while training."""
    arms = [arm for arm in findings.arms if target_curves(arm)]
    if not arms:
        return None
    values = [value for arm in arms for value in _settled(target_curves(arm))]
    facts = {
        "panels": [_panel(findings, i, arm, values, len(arms) <= FEW) for i, arm in enumerate(arms)],
        "averages": any(one.weights != "raw" for arm in arms for one in target_curves(arm)),
    }
    return Section("curves", "Loss while training", "experiment_curves.html", facts)


def target_curves(arm: ArmFinding) -> list[Curve]:
    """An arm's curves on the target, one for each kind of weights."""
    return [curve for curve in arm.curves if curve.set == TARGET and curve.tokens]


def panel_size(few: bool, names: Sequence[str], left: int = 0) -> dict[str, Any]:
    """Size and margins of a panel, one of a few or one of many, with room for the names at its right end.

    left: more pixels for long numbers at the axis.
    """
    right = 12 + round(6.3 * max(map(len, names), default=0))
    if few:
        return {"width": 480, "height": 260, "left": 52 + left, "right": right, "top": 10, "bottom": 40}
    return {"width": 270, "height": 180, "left": 40 + left, "right": right, "top": 8, "bottom": 38}


def _panel(findings: Findings, number: int, arm: ArmFinding, values: Sequence[float], few: bool) -> dict[str, Any]:
    lines = [_line(findings, curve) for curve in target_curves(arm)]
    control = next((one for one in findings.arms if one.name == arm.control), None)
    behind = [curve for curve in (target_curves(control) if control else []) if curve.weights == "raw"]
    lines = [Line("control", one.tokens, one.mean, MUTED) for one in behind] + lines
    said = ", ".join(f"{line.name} {loss(line.y[-1])}" for line in lines)
    with drawing(**panel_size(few, [line.name for line in lines])) as (figure, (axes,)):
        draw_lines(axes, lines)
        limit(axes, values)
        token_axis(axes, max(line.x[-1] for line in lines), "tokens")
        if not few:
            axes.locator_params(axis="x", nbins=3)
        end_names(axes, [(line.y[-1], line.name, line.paint) for line in lines])
        drawn = svg(figure, f"curve-{number}", f"Loss of {arm.name} while it trained; at the end {said} nats a token.")
    ends = ", ".join(f"{line.name} {loss(line.y[-1])}" for line in lines if line.name != "control")
    return {"name": arm.name, "about": f"ends at {ends}; n = {len(arm.finished)}", "svg": drawn}


def _line(findings: Findings, curve: Curve) -> Line:
    paint = weights_colour(curve.weights, findings.weights)
    return Line(curve.weights, curve.tokens, curve.mean, paint, low=curve.lowest, high=curve.highest)


def _settled(curves: Sequence[Curve]) -> list[float]:
    """Values that the scale must hold: after the first fall, and all of the averages."""
    found: list[float] = []
    for curve in curves:
        kept = [i for i, at in enumerate(curve.tokens) if at >= SETTLED * curve.tokens[-1]]
        found += [side[i] for side in (curve.lowest, curve.highest) for i in kept]
    return found
