"""Studies with two phases: what is forgotten of the old, how deep the gap is, whether it closes, what is learnt.

Forgetting is positive when worse. The curves are the rise of the loss on old text since the second phase began.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.experiments.analysis.checked import below
from pipelines.experiments.analysis.findings import ArmFinding, Continual, Difference, Findings
from pipelines.experiments.analysis.findings import Spread as Values
from pipelines.experiments.study import Study
from pipelines.report.experiment_curves import FEW, panel_size
from pipelines.report.experiment_forest import tone
from pipelines.report.experiment_lines import Line, draw_lines, end_names, limit, weights_colour
from pipelines.report.experiment_numbers import UNKNOWN, difference, outcome, weighted
from pipelines.report.figure import INK, MUTED, drawing, short_count, svg, token_axis
from pipelines.report.quantities import count, signed
from pipelines.report.workspace import Section
from trainer_hooks.evals.loss_gaps import NOT_RECOVERED

Curves = dict[str, tuple[list[int], list[float]]]  # by weights: tokens, and the mean loss over seeds and old sets


def continual_section(findings: Findings, study: Study) -> Section | None:
    """A table of all arms, and a panel an arm; none for a study of one phase."""
    if not findings.continual:
        return None
    sets = below(study.continual.get("old", ""), findings.sets)
    arms = [arm for arm in findings.arms if old_curves(arm, sets) and _of(findings, arm)]
    lines = {arm.name: _lines(findings, arm, sets) for arm in arms}
    values = [value for found in lines.values() for line in found for value in line.values]
    facts = {
        "rows": [_row(one) for one in findings.continual],
        "panels": [_panel(findings, i, arm, lines[arm.name], values, len(arms) <= FEW) for i, arm in enumerate(arms)],
    }
    return Section("continual", "What is forgotten", "experiment_continual.html", facts)


def old_curves(arm: ArmFinding, sets: Sequence[str]) -> Curves:
    """The mean loss over the old sets while an arm trained, by weights; where all of the sets were measured."""
    found: Curves = {}
    for weights in dict.fromkeys(curve.weights for curve in arm.curves):
        each = [curve for curve in arm.curves if curve.weights == weights and curve.set in sets]
        if not each:
            continue
        tokens = sorted(set.intersection(*(set(curve.tokens) for curve in each)))
        values = [dict(zip(curve.tokens, curve.mean, strict=True)) for curve in each]
        found[weights] = (tokens, [float(np.mean([one[at] for one in values])) for at in tokens])
    return found


def _of(findings: Findings, arm: ArmFinding) -> list[Continual]:
    return [one for one in findings.continual if one.arm == arm.name]


def _lines(findings: Findings, arm: ArmFinding, sets: Sequence[str]) -> list[Line]:
    """The rise of the old loss over the raw one where the second phase began; tokens count from there."""
    curves, lines = old_curves(arm, sets), []
    raw = dict(zip(*curves["raw"], strict=True)) if "raw" in curves else {}
    for one in _of(findings, arm):
        if one.weights not in curves or one.begins not in raw:
            continue
        tokens, losses = curves[one.weights]
        after = [(at - one.begins, loss - raw[one.begins]) for at, loss in zip(tokens, losses, strict=True)
                 if at > one.begins]  # fmt: skip
        points = [(0, 0.0), *after]
        paint = weights_colour(one.weights, findings.weights)
        lines.append(Line(one.weights, [x for x, _ in points], [y for _, y in points], paint))
    return lines


def _panel(
    findings: Findings, number: int, arm: ArmFinding, lines: Sequence[Line], values: Sequence[float], few: bool
) -> dict[str, Any]:
    raw = next((one for one in _of(findings, arm) if one.weights == "raw"), None)
    with drawing(**panel_size(few, [line.name for line in lines], 8)) as (figure, (axes,)):
        axes.axhline(0, color=INK, linewidth=1)
        if raw is not None and raw.depth.mean is not None:
            axes.axhline(raw.depth.mean, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
        draw_lines(axes, lines, marks=few)
        limit(axes, [*values, 0.0])
        token_axis(axes, max((line.x[-1] for line in lines), default=1), "tokens of the second phase")
        if not few:
            axes.locator_params(axis="x", nbins=3)
        end_names(axes, [(line.y[-1], line.name, line.paint) for line in lines])
        label = f"Rise of the loss on old text in {arm.name} since the second phase began."
        drawn = svg(figure, f"forgetting-{number}", label)
    about = (
        ""
        if raw is None
        else f"depth {_mean(raw.depth)} (broken line); left {_mean(raw.forgetting)}; n = {raw.depth.n}"
    )
    return {"name": arm.name, "about": about, "svg": drawn}


def _row(one: Continual) -> dict[str, Any]:
    back = [NOT_RECOVERED if at is None else count(at) for at in one.recovery]
    return {
        "name": weighted(one.arm, one.weights), "n": one.depth.n, "begins": short_count(one.begins),
        "depth": _spread(one.depth), "at": UNKNOWN if one.depth_at.mean is None else short_count(one.depth_at.mean),
        "recovery": ", ".join(back), "area": UNKNOWN if one.area.mean is None else f"{one.area.mean:.3g}",
        "forgetting": _spread(one.forgetting), "learning": _spread(one.learning),
        "removed": "" if one.removed.n == 0 or one.removed.mean is None else f"{100 * one.removed.mean:.0f} %",
        "old": _beside(one.old), "new": _beside(one.new),
    }  # fmt: skip


def _beside(found: Difference | None) -> dict[str, str] | None:
    return None if found is None else {"shown": difference(found), "verdict": outcome(found), "tone": tone(found)}


def _mean(values: Values) -> str:
    return UNKNOWN if values.mean is None else signed(values.mean, 3)


def _spread(values: Values) -> str:
    if values.lowest is None or values.highest is None:
        return UNKNOWN
    return f"{_mean(values)} ({signed(values.lowest, 3)} to {signed(values.highest, 3)})"
