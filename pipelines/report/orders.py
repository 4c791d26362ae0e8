"""Orders: how quality and sources run along the tokens of each arm, how sorted it is, and what it reads again.

All arms of one experiment must read the same visits; the section checks that and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from curriculum.describe import describe
from curriculum.order import Order
from curriculum.visits import same_visits
from pipelines.report.figure import MUTED, colour, drawing, panel_title, percent_axis, source_colour, svg, token_axis
from pipelines.report.quantities import count, listed, percent
from pipelines.report.workspace import Arm, Section, Workspace, manifest_link

BANDS = 50
CLEAR_TREND = 0.3


@dataclass(frozen=True)
class OrderFacts:
    """An order with what `curriculum.describe` measures of it, over 50 bands of the token axis."""

    arm: Arm
    table: pa.Table
    measured: dict[str, Any]

    @property
    def edges(self) -> np.ndarray:
        """Token positions of the band borders, shape (51,)."""
        return np.array([edge * self.measured["tokens"] for edge in self.measured["edges"]])

    @property
    def quality(self) -> np.ndarray:
        """Mean score of each band, shape (50,), NaN where nothing is scored."""
        return np.array([np.nan if value is None else value for value in self.measured["score_by_position"]])


def order_facts(workspace: Workspace) -> list[OrderFacts]:
    """Measure the order of every arm that has one."""
    found = []
    for arm in workspace.arms:
        if arm.order is not None:
            table = Order(arm.order).table()
            found.append(OrderFacts(arm, table, describe(table, BANDS)))
    return found


def source_names(orders: list[OrderFacts], numbers: dict[str, int]) -> list[str]:
    """Every source of any arm in the mixture's order; the colour of a source is its place here."""
    found = {name for order in orders for name in order.measured["source_share_by_position"]}
    return sorted(found, key=lambda name: (numbers.get(name, len(numbers)), name))


def section(orders: list[OrderFacts], names: list[str]) -> Section:
    """One column an arm: quality, displacement and source shares by position, then repeats."""
    if not orders:
        return Section("orders", "The orders", absent="No order has been built yet.")
    bounds = quality_bounds(orders)
    facts = {
        "finding": _finding(orders),
        "same": _sameness(orders),
        "sources": list(enumerate(names)),
        "arms": [
            {
                "arm": order.arm,
                "link": manifest_link(order.arm.order) if order.arm.order else "",
                "rule": _rule(order),
                "svg": _figure(order, names, bounds),
                "repeats": _repeats_figure(order),
                "numbers": _numbers(order),
            }
            for order in orders
        ],
    }
    return Section("orders", "The orders", "orders.html", facts)


def draw_quality(axes: Axes, order: OrderFacts, bounds: tuple[float, float]) -> None:
    """Mean score along the tokens, one step a band."""
    axes.stairs(order.quality, order.edges, baseline=None, color=colour(order.arm.number), linewidth=2)
    axes.set_ylim(*bounds)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def draw_shares(axes: Axes, order: OrderFacts, names: list[str]) -> None:
    """Source shares along the tokens, stacked."""
    below = np.zeros(BANDS)
    for i, name in enumerate(names):
        share = np.asarray(order.measured["source_share_by_position"].get(name, np.zeros(BANDS)))
        above = below + share
        axes.stairs(above, order.edges, baseline=below, fill=True, color=source_colour(i), alpha=0.8, linewidth=0)
        below = above
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    percent_axis(axes)


def quality_bounds(orders: list[OrderFacts]) -> tuple[float, float]:
    """One y range for the quality of all arms, so that their panels compare."""
    values = np.concatenate([np.zeros(0), *(order.quality for order in orders)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    room = max(0.06 * float(np.ptp(values)), 0.02)
    return float(values.min()) - room, float(values.max()) + room


def draw_displacement(axes: Axes, order: OrderFacts) -> None:
    """How far visits are from their place in the nearest sort, one step a band."""
    moved = order.measured["displacement_by_position"] or [None] * BANDS
    values = np.array([np.nan if value is None else value for value in moved], np.float64)
    axes.stairs(values, order.edges, baseline=0, fill=True, color=colour(order.arm.number), alpha=0.5, linewidth=0)
    axes.set_ylim(0, max(0.02, 1.15 * float(np.nanmax(values, initial=0.0))))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    percent_axis(axes)


def draw_phases(panels: Sequence[Axes], order: OrderFacts) -> None:
    """A line where each phase after the first begins, with its name at the top."""
    start = 0
    for number, phase in enumerate(order.measured["phases"]):
        if number:
            for axes in panels:
                axes.axvline(start, color=MUTED, linewidth=1, dashes=(3, 3))
            panels[0].annotate(
                phase["name"], (start, 1), (4, -12), xycoords=("data", "axes fraction"), textcoords="offset points",
                fontsize=11, color=MUTED,
            )  # fmt: skip
        start += phase["tokens"]


def draw_repeats(axes: Axes, order: OrderFacts) -> None:
    """Of the visits that read a document again, the share that come at most so many tokens after the one before."""
    distances = np.array(order.measured["repeat_distance"])
    axes.step(distances, np.linspace(0, 1, len(distances)), where="post", color=colour(order.arm.number))
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1])
    percent_axis(axes)


def _figure(order: OrderFacts, names: list[str], bounds: tuple[float, float]) -> Any:
    key = f"order-{order.arm.number}"
    if not order.measured["scored_visits"]:
        with drawing(480, 170, top=22) as (figure, panels):
            _lowest_panel(panels, order, names)
            return svg(figure, key, f"Source shares along the order {order.arm.name}.")
    with drawing(480, 400, rows=(1.15, 0.6, 1.0), top=22, gap=28) as (figure, panels):
        draw_quality(panels[0], order, bounds)
        draw_displacement(panels[1], order)
        panel_title(panels[0], "mean score of the documents")
        panel_title(panels[1], "mean distance from the nearest sort, of all visits")
        _lowest_panel(panels, order, names)
        return svg(figure, key, f"Quality, displacement and source shares along the order {order.arm.name}.")


def _lowest_panel(panels: Sequence[Axes], order: OrderFacts, names: list[str]) -> None:
    draw_shares(panels[-1], order, names)
    draw_phases(panels, order)
    panel_title(panels[-1], "share of each source")
    token_axis(panels[-1], order.measured["tokens"], "tokens of the order")


def _repeats_figure(order: OrderFacts) -> Any:
    if not order.measured["repeated_visits"]:
        return None
    with drawing(480, 150, top=22) as (figure, (axes,)):
        draw_repeats(axes, order)
        panel_title(axes, "documents read again: share within a distance")
        token_axis(axes, order.measured["tokens"], "tokens since the visit before")
        shown = f"Distance between visits of one document in the order {order.arm.name}."
        return svg(figure, f"repeats-{order.arm.number}", shown)


def _rule(order: OrderFacts) -> str:
    policy = order.arm.order.manifest.config.get("policy", {}) if order.arm.order else {}
    if "kind" not in policy:
        return "an order without a recorded policy" if not policy else f"{', '.join(policy)}: a policy for each phase"
    said = [policy["kind"]]
    if by := policy.get("by"):
        said.append(f"by {by if isinstance(by, str) else ', '.join(by)}")
    if "ascending" in policy:
        said.append("lowest score first" if policy["ascending"] else "highest score first")
    if policy.get("within"):
        said.append(f"within each {policy['within']}, at one pace")
    if policy.get("jitter"):
        said.append(f"shuffled in windows of {count(policy['jitter'])}")
    note = ": no order at all, the control" if policy["kind"] == "shuffled" else ""
    return ", ".join(said) + note


def _numbers(order: OrderFacts) -> list[tuple[str, str]]:
    measured = order.measured

    def shown(key: str, form: str) -> str:
        return "none" if measured[key] is None else format(measured[key], form).replace("-", "\u2212")

    moved = measured["displacement_p95"]
    return [
        ("document visits", count(measured["visits"])),
        ("tokens", count(measured["tokens"])),
        ("rank correlation of position and score", shown("spearman", "+.3f")),
        ("mean score", shown("score_mean", ".3f")),
        ("mean score of the last 1 %", shown("score_last_1_percent", ".3f")),
        ("95 % of visits are at most this far from the nearest sort", "none" if moved is None else percent(moved)),
        ("visits that read a document again", count(measured["repeated_visits"])),
        ("median tokens until a document is read again", _median_repeat(measured)),
    ]


def _median_repeat(measured: dict[str, Any]) -> str:
    quantiles = measured["repeat_distance"]
    return "none" if quantiles is None else count(round(quantiles[len(quantiles) // 2]))


def _finding(orders: list[OrderFacts]) -> str:
    said = []
    for order in orders:
        quality = order.quality[np.isfinite(order.quality)]
        if len(quality):
            tenth = max(1, len(quality) // 10)
            first, last = float(quality[:tenth].mean()), float(quality[-tenth:].mean())
            rho = order.measured["spearman"] or 0.0
            trend = "rises" if rho > CLEAR_TREND else "falls" if rho < -CLEAR_TREND else "shows no clear trend"
            said.append(f"in {order.arm.name} quality {trend} ({first:.2f} in the first tenth, {last:.2f} in the last)")
    text = listed(said)
    return text[:1].upper() + text[1:] + "." if text else "No visit is scored."


def _sameness(orders: list[OrderFacts]) -> dict[str, Any] | None:
    """Whether orders of one mixture hold the same visits; those of different mixtures are not meant to."""
    groups: dict[str, list[OrderFacts]] = {}
    for order in orders:
        groups.setdefault(_mixture_of(order), []).append(order)
    compared = [group for group in groups.values() if len(group) > 1]
    if not compared:
        return None
    for group in compared:
        if not all(same_visits(group[0].table, other.table) for other in group[1:]):
            names = listed([order.arm.name for order in group])
            text = f"{names} do not hold the same document visits, so they differ in more than order."
            return {"ok": False, "text": text}
    said = "; ".join(listed([order.arm.name for order in group]) for group in compared)
    return {"ok": True, "text": f"Checked: {said} hold the same document visits, token for token, in another order."}


def _mixture_of(order: OrderFacts) -> str:
    refs = order.arm.order.manifest.inputs if order.arm.order else ()
    return next((ref.name for ref in refs if ref.name.partition("/")[0] == "mixture"), "")
