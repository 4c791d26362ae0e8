"""Plans: learning rate, averaging window, mixture and quality of each arm on one axis, tokens seen.

Beside them the share of the learning rate's mass that each tenth of the data by quality receives
(arXiv 2511.18903): how large the steps are that are taken on the best data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from corpus.config import load_yaml, validated
from pipelines.report.figure import INK, MUTED, colour, drawing, panel_title, percent_axis, svg, token_axis
from pipelines.report.orders import OrderFacts, draw_quality, draw_shares, quality_bounds
from pipelines.report.quantities import count, percent
from pipelines.report.workspace import Arm, Section, Workspace, manifest_link
from trainer_hooks.curves import averaged_step_rates, learning_rate, lr_mass
from trainer_hooks.plan import ResolvedPlan

PLAN = "plan.yaml"
POINTS = 400


@dataclass(frozen=True)
class PlanFacts:
    """The resolved plan of an arm, and its order where there is one."""

    arm: Arm
    plan: ResolvedPlan
    order: OrderFacts | None


def plan_facts(workspace: Workspace, orders: list[OrderFacts]) -> list[PlanFacts]:
    """The plans saved with the runs, as they were followed."""
    found = []
    for arm in workspace.arms:
        path = arm.run.folder / PLAN if arm.run else None
        if path is None or not path.exists():
            continue
        resolved = validated(ResolvedPlan, load_yaml(path).get("resolved"), str(path))
        order = next((order for order in orders if order.arm.name == arm.name), None)
        found.append(PlanFacts(arm, resolved, order))
    return found


def section(plans: list[PlanFacts], names: list[str]) -> Section:
    """One column an arm: stacked panels that share the token axis, and the learning rate's mass below."""
    if not plans:
        return Section("plans", "The plans", absent="No run has been planned yet.")
    orders = [plan.order for plan in plans if plan.order is not None]
    masses = {plan.arm.name: _mass(plan) for plan in plans}
    facts = {
        "finding": _finding(plans),
        "mass_finding": _mass_finding(plans, masses),
        "sources": list(enumerate(names)),
        "arms": [
            {
                "arm": plan.arm,
                "phases": _phases(plan.plan),
                "average": _average(plan.plan),
                "svg": _figure(plan, names, quality_bounds(orders)),
                "mass": _mass_figure(plan, masses),
                "averaged": bool(plan.plan.marks),
                "link": manifest_link(plan.arm.run) if plan.arm.run else "",
                "warnings": plan.plan.warnings,
            }
            for plan in plans
        ],
    }
    return Section("plans", "The plans", "plans.html", facts)


def _figure(facts: PlanFacts, names: list[str], bounds: tuple[float, float]) -> Any:
    plan = facts.plan
    rows = (1.5, 1.0, 1.0) if facts.order else (1.0,)
    with drawing(480, 420 if facts.order else 210, rows=rows, top=22, gap=28) as (figure, axes):
        at = np.linspace(0, plan.tokens, POINTS + 1)
        axes[0].plot(at, learning_rate(at, plan), color=colour(facts.arm.number), linewidth=2)
        panel_title(axes[0], "learning rate")
        if plan.marks:
            steps = (np.arange(plan.steps) + 0.5) * plan.step_tokens
            counted = averaged_step_rates(plan)
            axes[0].plot(steps, counted, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
            for panel in axes:
                panel.axvspan(plan.marks[0], plan.tokens, color=MUTED, alpha=0.13, linewidth=0)
            height = np.full(len(plan.marks), learning_rate(plan.marks, plan))
            axes[0].plot(plan.marks, height, linestyle="none", marker="o", markersize=4, color=INK)
        axes[0].set_ylim(0, plan.plan.peak_lr * 1.08)
        axes[0].yaxis.set_major_locator(MaxNLocator(4))
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if facts.order:
            draw_quality(axes[1], facts.order, bounds)
            panel_title(axes[1], "mean score of the documents read")
            draw_shares(axes[2], facts.order, names)
            panel_title(axes[2], "share of each source")
        token_axis(axes[-1], plan.tokens)
        label = f"The plan of {facts.arm.name} over {count(plan.tokens, 'tokens')}."
        return svg(figure, f"plan-{facts.arm.number}", label)


def _mass(facts: PlanFacts) -> tuple[np.ndarray, np.ndarray] | None:
    """Raw and averaged mass by quality decile; None without an order or without scores."""
    if facts.order is None or not facts.order.measured["scored_visits"]:
        return None
    lengths = facts.order.table["length"].to_numpy()
    scores = facts.order.table["score"].to_numpy().astype(np.float64)
    return lr_mass(facts.plan, lengths, scores), lr_mass(facts.plan, lengths, scores, averaged=True)


def _mass_figure(facts: PlanFacts, masses: dict[str, tuple[np.ndarray, np.ndarray] | None]) -> Any:
    mass = masses[facts.arm.name]
    if mass is None:
        return ""
    raw, averaged = mass
    top = max(float(np.max(pair)) for pair in masses.values() if pair is not None)
    deciles = np.arange(1, 11)
    with drawing(480, 200, top=12) as (figure, (axes,)):
        width, shift = (0.38, 0.19) if facts.plan.marks else (0.7, 0.0)
        shade = colour(facts.arm.number)
        axes.bar(deciles - shift, raw, width, color=shade, linewidth=0)
        if facts.plan.marks:
            axes.bar(deciles + shift, averaged, width, color=shade, alpha=0.45, linewidth=0)
        axes.axhline(0.1, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xticks(deciles)
        axes.set_ylim(0, top * 1.12)
        axes.set_xlabel("tenth of the data by quality, best last")
        percent_axis(axes)
        top_tenth = percent(float(raw[-1]))
        label = f"Share of the learning rate's mass by quality in {facts.arm.name}: top tenth {top_tenth}."
        return svg(figure, f"mass-{facts.arm.number}", label)


def _phases(plan: ResolvedPlan) -> list[dict[str, str]]:
    return [
        {
            "kind": phase.kind if phase.kind != "decay" else f"decay ({phase.shape})",
            "tokens": count(phase.end - phase.start),
            "share": percent((phase.end - phase.start) / plan.tokens),
            "rates": " to ".join(dict.fromkeys((f"{phase.lr_start:.3g}", f"{phase.lr_end:.3g}"))),
        }
        for phase in plan.phases
    ]


def _average(plan: ResolvedPlan) -> str:
    if not plan.marks:
        return "no averaging: the run ends with its last weights"
    share = (plan.tokens - plan.marks[0]) / plan.tokens
    weights = ", ".join(f"{value:.2f}" for value in plan.coefficients)
    kind = f"{plan.plan.average.kind} of {len(plan.marks)} checkpoints"
    return f"{kind} over the last {percent(share)}, weights {weights} (oldest first)"


def _finding(plans: list[PlanFacts]) -> str:
    said = []
    for facts in plans:
        ratio = facts.plan.phases[-1].lr_end / facts.plan.plan.peak_lr
        end = "holds its peak rate" if ratio == 1 else "ends at rate 0"
        if 0 < ratio < 1:
            end = f"ends at 1/{1 / ratio:.3g} of its peak rate"
        average = "and averages its last checkpoints" if facts.plan.marks else "without averaging"
        said.append(f"{facts.arm.name} {end} {average}")
    text = "; ".join(said)
    return f"Over {count(plans[0].plan.tokens, 'tokens')}, {text}."


def _mass_finding(plans: list[PlanFacts], masses: dict[str, tuple[np.ndarray, np.ndarray] | None]) -> str:
    said = []
    for facts in plans:
        mass = masses[facts.arm.name]
        if mass is not None:
            tail = f" ({percent(float(mass[1][-1]))} in the averaged weights)" if facts.plan.marks else ""
            said.append(f"{percent(float(mass[0][-1]))} in {facts.arm.name}{tail}")
    if not said:
        return ""
    given = "; ".join(said)
    return f"Of the learning rate’s mass the best tenth of the data receives {given}; an even hand would give it 10 %."
