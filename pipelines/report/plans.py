"""Plans: learning rate, averaging window, mixture and quality of each arm on one axis, tokens seen.

Beside them the share of the learning rate's mass that each tenth of the data by quality receives
(arXiv 2511.18903): how large the steps are that are taken on the best data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from corpus.config import load_yaml, validated
from pipelines.report.figure import (
    INK,
    MUTED,
    colour,
    dashes,
    drawing,
    line_key,
    marker,
    panel_title,
    percent_axis,
    svg,
    token_axis,
)
from pipelines.report.orders import OrderFacts, draw_quality, draw_shares, quality_bounds
from pipelines.report.quantities import count, listed, percent
from pipelines.report.workspace import Arm, Section, Workspace, manifest_link
from trainer_hooks.curves import averaged_step_rates, learning_rate
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_average_checks import window_start
from trainer_hooks.plan_order_checks import PlannedData, masses, scored

PLAN = "plan.yaml"
POINTS = 400
MANY_MARKS = 40  # more checkpoints than this are a band, not dots

Masses = dict[str, np.ndarray]  # by weights: raw, then each average by name; shape (10,), lowest decile first


@dataclass(frozen=True)
class PlanFacts:
    """The resolved plan of an arm, and its order where there is one: as measured, and as the plan reads it."""

    arm: Arm
    plan: ResolvedPlan
    order: OrderFacts | None
    data: PlannedData | None


def plan_facts(workspace: Workspace, orders: list[OrderFacts]) -> list[PlanFacts]:
    """The plans saved with the runs, as they were followed."""
    found = []
    for arm in workspace.arms:
        path = arm.run.folder / PLAN if arm.run else None
        if path is None or not path.exists():
            continue
        resolved = validated(ResolvedPlan, load_yaml(path).get("resolved"), str(path))
        order = next((order for order in orders if order.arm.name == arm.name), None)
        found.append(PlanFacts(arm, resolved, order, PlannedData.of(order.table) if order else None))
    return found


def section(plans: list[PlanFacts], names: list[str]) -> Section:
    """One column an arm: stacked panels that share the token axis, and the learning rate's mass below."""
    if not plans:
        return Section("plans", "The plans", absent="No run has been planned yet.")
    orders = [plan.order for plan in plans if plan.order is not None]
    found = {plan.arm.name: _mass(plan) for plan in plans}
    facts = {
        "finding": _finding(plans),
        "mass_finding": _mass_finding(plans, found),
        "sources": list(enumerate(names)),
        "arms": [
            {
                "arm": plan.arm,
                "phases": _phases(plan.plan),
                "averages": _averages(plan.plan),
                "svg": _figure(plan, names, quality_bounds(orders)),
                "mass": _mass_figure(plan, found),
                "link": manifest_link(plan.arm.run) if plan.arm.run else None,
                "warnings": plan.plan.warnings,
            }
            for plan in plans
        ],
    }
    return Section("plans", "The plans", "plans.html", facts)


def _figure(facts: PlanFacts, names: list[str], bounds: tuple[float, float]) -> Any:
    """Panels that share the token axis: the rate, then what there is of averages, scores and sources."""
    plan, order = facts.plan, facts.order
    scores = order is not None and bool(order.measured["scored_visits"])
    rows = [1.5, *[0.5] * bool(plan.averages), *[1.0] * scores, *[1.0] * (order is not None)]
    with drawing(480, round(90 + 95 * sum(rows)), rows=rows, top=22, gap=28) as (figure, axes):
        panels = iter(axes)
        _draw_rate(next(panels), facts)
        if plan.averages:
            _draw_weights(next(panels), plan)
        if order is not None and scores:
            panel = next(panels)
            draw_quality(panel, order, bounds)
            panel_title(panel, "mean score of the documents read")
        if order is not None:
            panel = next(panels)
            draw_shares(panel, order, names)
            panel_title(panel, "share of each source")
        for followed in plan.averages.values():
            for panel in axes:
                panel.axvspan(window_start(followed), followed.final().marks[-1], color=MUTED, alpha=0.13, linewidth=0)
        token_axis(axes[-1], plan.tokens)
        label = f"The plan of {facts.arm.name} over {count(plan.tokens, 'tokens')}."
        return svg(figure, f"plan-{facts.arm.number}", label)


def _draw_rate(axes: Axes, facts: PlanFacts) -> None:
    """The learning rate, as trained and as it counts in each average, with the averaged checkpoints on it."""
    plan = facts.plan
    at = np.linspace(0, plan.tokens, POINTS + 1)
    axes.plot(at, learning_rate(at, plan), color=colour(facts.arm.number), linewidth=2)
    steps = (np.arange(plan.steps) + 0.5) * plan.step_tokens
    for i, name in enumerate(plan.averages):
        axes.plot(steps, averaged_step_rates(plan, name), color=INK, linewidth=1.2, linestyle=dashes(i))
        marks = plan.averages[name].final().marks
        if len(marks) <= MANY_MARKS:
            axes.plot(
                marks,
                learning_rate(marks, plan),
                linestyle="none",
                marker=marker(i),
                markersize=4,
                color=INK,
                clip_on=False,
            )
    axes.set_ylim(0, plan.plan.peak_lr * 1.08)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel_title(axes, "learning rate")


def _draw_weights(axes: Axes, plan: ResolvedPlan) -> None:
    """The weight of each checkpoint in an average beside the largest; negative ones are below the line."""
    for i, followed in enumerate(plan.averages.values()):
        marks, coefficients = followed.final()
        heights = coefficients / np.abs(coefficients).max()
        if len(marks) <= MANY_MARKS:
            axes.vlines(marks, 0, heights, color=INK, linewidth=1.2, linestyle=dashes(i))
            axes.plot(marks, heights, linestyle="none", marker=marker(i), markersize=4, color=INK, clip_on=False)
        else:
            axes.plot(marks, heights, color=INK, linewidth=1.2, linestyle=dashes(i))
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.15)
    axes.set_yticks([0, 1], ["0", "largest"])
    panel_title(axes, "weights of the checkpoints in each average")


def _mass(facts: PlanFacts) -> Masses | None:
    """Mass by quality decile, as trained and in each average; None without an order or without scores."""
    if facts.data is None or not scored(facts.data, facts.plan):
        return None
    return masses(facts.plan, facts.data)


def _mass_figure(facts: PlanFacts, found: dict[str, Masses | None]) -> Any:
    mass = found[facts.arm.name]
    if mass is None:
        return ""
    top = max(float(np.max(list(each.values()))) for each in found.values() if each is not None)
    deciles = np.arange(1, 11)
    with drawing(480, 200, top=12) as (figure, (axes,)):
        width = 0.8 / len(mass)
        for i, shares in enumerate(mass.values()):
            at = deciles + (i - (len(mass) - 1) / 2) * width
            axes.bar(at, shares, width * 0.94, color=colour(facts.arm.number), alpha=_shade(i, len(mass)), linewidth=0)
        axes.axhline(0.1, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xticks(deciles)
        axes.set_ylim(0, top * 1.12)
        axes.set_xlabel("tenth of the data by quality, best last")
        percent_axis(axes)
        top_tenth = percent(float(mass["raw"][-1]))
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


def _shade(number: int, of: int) -> float:
    """Bars of raw weights are solid, those of the averages paler one by one."""
    return 1.0 - 0.75 * number / of


def _averages(plan: ResolvedPlan) -> list[dict[str, Any]]:
    return [
        {"name": name, "key": line_key(i), "text": _average(plan, name), "shade": _shade(i + 1, len(plan.averages) + 1)}
        for i, name in enumerate(plan.averages)
    ]


def _average(plan: ResolvedPlan, name: str) -> str:
    """What an average is made of, in words."""
    average, (marks, coefficients) = plan.averages[name].average, plan.averages[name].final()
    if len(marks) > MANY_MARKS:
        recent = percent((plan.tokens - window_start(plan.averages[name], 0.05)) / plan.tokens)
        return f"{average.kind}, updated {len(marks):,} times; the last {recent} of the run make up 95 % of it"
    begin, end = (percent(int(mark) / plan.tokens) for mark in (marks[0], marks[-1]))
    over = f"from {begin} of the run to {'its end' if marks[-1] == plan.tokens else end}"
    text = f"{average.kind} of {count(len(marks), 'checkpoints')} {over}"
    weights = ", ".join(f"{value:.2f}" for value in coefficients)
    return f"{text}, weights {weights} (oldest first)"


def _finding(plans: list[PlanFacts]) -> str:
    said = []
    for facts in plans:
        ratio = facts.plan.phases[-1].lr_end / facts.plan.plan.peak_lr
        end = "holds its peak rate" if ratio == 1 else "ends at rate 0"
        if 0 < ratio < 1:
            end = f"ends at 1/{1 / ratio:.3g} of its peak rate"
        names = listed(list(facts.plan.averages))
        said.append(f"{facts.arm.name} {end} {f'and is averaged as {names}' if names else 'without averaging'}")
    text = "; ".join(said)
    return f"Over {count(plans[0].plan.tokens, 'tokens')}, {text}."


def _mass_finding(plans: list[PlanFacts], found: dict[str, Masses | None]) -> str:
    said = []
    for facts in plans:
        mass = found[facts.arm.name]
        if mass is not None:
            tenth = {name: percent(float(shares[-1])) for name, shares in mass.items()}
            raw = tenth.pop("raw")
            tail = f" ({listed([f'{share} in {name}' for name, share in tenth.items()])})" if tenth else ""
            said.append(f"{raw} in {facts.arm.name}{tail}")
    if not said:
        return ""
    given = "; ".join(said)
    return f"Of the learning rate’s mass the best tenth of the data receives {given}; an even hand would give it 10 %."
