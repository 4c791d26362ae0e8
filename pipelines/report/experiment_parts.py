"""Where a difference comes from: losses by held-out set (a source each, and the best documents) and by tenth of score.

An ascending order looks good on the best documents by construction, so a gain there alone is no gain.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from pipelines.experiments.analysis.findings import ArmFinding, Comparison, Findings
from pipelines.report.experiment_arms import CONTROL, SAME, comparison
from pipelines.report.experiment_curves import FEW, panel_size
from pipelines.report.experiment_forest import tone
from pipelines.report.experiment_lines import Line, draw_lines, end_names, limit, weights_colour
from pipelines.report.experiment_numbers import difference, loss, losses_of, outcome, ranged, seed_gains
from pipelines.report.figure import INK, drawing, svg
from pipelines.report.quantities import signed
from pipelines.report.workspace import Section


def sources_section(findings: Findings) -> Section | None:
    """A table for each kind of weights; the first one is open."""
    names = [name for name in findings.sets if any(losses_of(a, w, name, "set") for a in findings.arms
                                                   for w in _weights(a))]  # fmt: skip
    if not names:
        return None
    kinds = list(dict.fromkeys(weights for arm in findings.arms for weights in _weights(arm)))
    tables = [
        {"weights": weights, "rows": [_row(findings, arm, weights, names) for arm in findings.arms
                                      if weights in _weights(arm)]}
        for weights in kinds
    ]  # fmt: skip
    facts = {"names": names, "tables": tables, "target": findings.target}
    return Section("sources", "By source", "experiment_sources.html", facts)


def tenths_section(findings: Findings) -> Section | None:
    """A panel an arm that has a control: what each tenth of the held-out documents gains, seeds thin."""
    arms = [arm for arm in findings.arms if _tenths(arm)]
    if not arms:
        return None
    drawn = [(arm, lines) for arm in arms if (lines := _gain_lines(findings, arm))]
    values = [value for _, lines in drawn for line in lines for value in line.values]
    facts = {
        "panels": [_panel(i, arm, lines, values, len(drawn) <= FEW) for i, (arm, lines) in enumerate(drawn)],
        "rows": [
            {
                "arm": arm.name,
                "weights": weights,
                "n": len(arm.finished),
                "cells": [_cell(arm, weights, name) for name in _tenths(arm)],
            }
            for arm in arms
            for weights in _weights(arm)
        ],
        "tenths": _tenths(arms[0]),
    }
    return Section("tenths", "By tenth of the score", "experiment_tenths.html", facts)


def _weights(arm: ArmFinding) -> list[str]:
    return list(dict.fromkeys(one.weights for one in arm.losses))


def _row(findings: Findings, arm: ArmFinding, weights: str, names: Sequence[str]) -> dict[str, Any]:
    beside = comparison(findings, arm.name, weights, SAME, CONTROL)
    cells = []
    for name in names:
        found = losses_of(arm, weights, name, "set")
        gain = beside.sets.get(name) if beside else None
        cells.append({
            "loss": loss(found.bits_per_byte.mean) if found else "", "ranged": ranged(found.bits_per_byte)
            if found else "", "n": found.bits_per_byte.n if found else 0,
            "gain": difference(gain) if gain else "", "verdict": outcome(gain) if gain else "",
            "tone": tone(gain) if gain else "",
        })  # fmt: skip
    return {"arm": arm.name, "n": len(arm.finished), "control": beside.against if beside else "", "cells": cells}


def _tenths(arm: ArmFinding) -> list[str]:
    """The tenths that an arm has losses on, the worst first."""
    return sorted({one.set for one in arm.losses if one.kind == "tenth"}, key=int)


def _cell(arm: ArmFinding, weights: str, name: str) -> dict[str, Any]:
    found = losses_of(arm, weights, name, "tenth")
    if found is None:
        return {"loss": "", "ranged": "", "n": 0}
    return {"loss": loss(found.bits_per_byte.mean), "ranged": ranged(found.bits_per_byte), "n": found.bits_per_byte.n}


def _gain_lines(findings: Findings, arm: ArmFinding) -> list[Line]:
    """The gain over the control by tenth, under the same weights; means over the seeds that both have."""
    lines = []
    for weights in _weights(arm):
        one = comparison(findings, arm.name, weights, SAME)
        if one is None or weights not in findings.weights:
            continue
        lines += tenth_line(findings, one)
    return lines


def tenth_line(findings: Findings, one: Comparison) -> list[Line]:
    """A comparison's gains by tenth, as a line with its seeds; none where a tenth is not known."""
    arm = findings.arm(one.arm)
    gains = {name: seed_gains(findings, one, name, "tenth") for name in _tenths(arm)}
    gains = {name: found for name, found in gains.items() if found}
    if len(gains) < 2:
        return []
    x = [int(name) + 1 for name in gains]
    mean = [float(np.mean(list(found.values()))) for found in gains.values()]
    seeds = sorted(set.intersection(*(set(found) for found in gains.values())))
    each = tuple((x, [found[seed] for found in gains.values()]) for seed in seeds)
    return [Line(one.weights, x, mean, weights_colour(one.weights, findings.weights), each)]


def _panel(number: int, arm: ArmFinding, lines: Sequence[Line], values: Sequence[float], few: bool) -> dict[str, Any]:
    with drawing(**panel_size(few, [line.name for line in lines], 8)) as (figure, (axes,)):
        axes.axhline(0, color=INK, linewidth=1)
        draw_lines(axes, lines)
        limit(axes, [*values, 0.0])
        axes.set_xlim(0.6, 10.4)
        axes.set_xticks([1, 5, 10], ["worst", "", "best"])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3) if abs(value) > 1e-9 else "0"))
        end_names(axes, [(line.y[-1], line.name, line.paint) for line in lines])
        label = f"Gain of {arm.name} over {arm.control} by tenth of the score of the held-out documents."
        drawn = svg(figure, f"tenths-{number}", label)
    seeds = max((len(line.seeds) for line in lines), default=0)
    return {"name": arm.name, "about": f"beside {arm.control}; n = {seeds}", "svg": drawn}
