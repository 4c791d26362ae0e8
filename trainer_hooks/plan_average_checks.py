"""A plan's averages beside its learning rate, its checkpoints and its data: what their windows run into."""

from collections.abc import Iterator

import numpy as np

from trainer_hooks.average_kinds import ResolvedAverage
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_findings import Finding
from trainer_hooks.plan_order_checks import PlannedData

LONGEST_WINDOW = 0.5  # of the run
LOW_RATE = 0.1  # of the rate before: from here on a decay has done what averaging would
MANY_CHECKPOINTS = 20
SHIFT = 0.25  # of the shares of sources, between the two halves of a window
FALL = 0.5  # standard deviations of the score
_RISE = 1e-9  # of the peak


def average_findings(
    resolved: ResolvedPlan, name: str, average: ResolvedAverage, order: PlannedData | None
) -> Iterator[Finding]:
    """What one average runs into: rises and decays inside its window, its length, checkpoints of its own, its data."""
    yield from _rates(resolved, name, average)
    yield from _length(resolved, name, average)
    yield from _own_checkpoints(resolved, name, average)
    if order is not None:
        yield from _data(resolved, order, name, average)


def _rates(resolved: ResolvedPlan, name: str, average: ResolvedAverage) -> Iterator[Finding]:
    where, begin = f"plan.average.{name}", window_start(average)
    rates, first = step_learning_rates(resolved), begin // resolved.step_tokens
    rises = np.flatnonzero(np.diff(rates[first:]) > _RISE * resolved.plan.peak_lr)
    if len(rises):
        at = (first + int(rises[-1]) + 1) * resolved.step_tokens
        yield Finding(
            "warning", "window-over-rise",
            f"the rate rises inside the window of average {name}, until {at:,} tokens; weights from before a jump or a "
            "warm-up do not belong into one average with those after it",
            where, f"begin the window after {at:,} tokens",
        )  # fmt: skip
    elif rates[-1] <= LOW_RATE * rates[min(first, resolved.steps - 1)]:
        yield Finding(
            "note", "average-on-decay",
            f"inside the window of average {name} the rate falls to {rates[-1]:.3g}; merging and a decay to near 0 do "
            "not add up (arXiv 2507.17634, secondary)",
            where, "average at a constant rate, or end the decay near 1/3 of the peak",
        )  # fmt: skip


def _length(resolved: ResolvedPlan, name: str, average: ResolvedAverage) -> Iterator[Finding]:
    where, begin = f"plan.average.{name}", window_start(average)
    if resolved.plan.optimizer.kind == "schedule_free":
        yield Finding(
            "warning", "average-on-schedule-free", f"average {name} is stacked on the average that schedule-free makes",
            where, "leave it out: the run is measured and exported with the optimizer's own average",
        )  # fmt: skip
    if resolved.tokens - begin > LONGEST_WINDOW * resolved.tokens:
        yield Finding(
            "note", "long-window", f"average {name} reaches back over {100 * (1 - begin / resolved.tokens):.3g} % of "
            "the run, to weights that had seen little", where, "a window of 10 to 20 % is usual",
        )  # fmt: skip


def _own_checkpoints(resolved: ResolvedPlan, name: str, average: ResolvedAverage) -> Iterator[Finding]:
    every = resolved.checkpoint_every_steps * resolved.step_tokens
    extra = [mark for mark in average.marks if mark % every and mark < resolved.tokens and average.saves(mark)]
    if extra:
        yield Finding(
            "warning" if len(extra) > MANY_CHECKPOINTS else "note", "marks-off-checkpoints",
            f"average {name} keeps {len(extra):,} checkpoints beside those of checkpoint_every, which come every "
            f"{every:,} tokens",
            f"plan.average.{name}", "saved: false keeps none; a checkpoint_every that divides the window shares them",
        )  # fmt: skip


def window_start(average: ResolvedAverage, negligible: float = 0.01) -> int:
    """Tokens seen at the oldest weights that count in an average at the end of the run; older ones sum to 1 %."""
    marks, coefficients = average.final()
    counted = np.cumsum(np.abs(coefficients)) / np.abs(coefficients).sum()
    return int(marks[np.searchsorted(counted, negligible, side="right")])


def _data(resolved: ResolvedPlan, order: PlannedData, name: str, average: ResolvedAverage) -> Iterator[Finding]:
    """Whether the data change inside an average's window, so that it mixes models of different data."""
    begin, end = window_start(average), resolved.tokens
    middle = (begin + end) / 2
    early, late = order.part(begin, middle), order.part(middle, end)
    if not early.sum() or not late.sum():
        return
    shares = [np.bincount(order.source, half, len(order.sources)) / half.sum() for half in (early, late)]
    shift = float(np.abs(shares[1] - shares[0]).sum()) / 2
    if shift > SHIFT:
        moved = int(np.abs(shares[1] - shares[0]).argmax())
        yield Finding(
            "note", "window-over-sources",
            f"inside the window of average {name} the share of {order.sources[moved]} goes from "
            f"{100 * shares[0][moved]:.3g} % to {100 * shares[1][moved]:.3g} %: it averages models of different data",
            f"plan.average.{name}", "shorten the window, or interleave the sources",
        )  # fmt: skip
    early_mean, late_mean = order.mean_score(early), order.mean_score(late)
    if late_mean < early_mean - FALL * order.spread:
        yield Finding(
            "warning", "window-over-falling-quality", f"inside the window of average {name} the mean score falls "
            f"from {early_mean:.3g} to {late_mean:.3g}",
            f"plan.average.{name}", "shorten the window, or read the best data last",
        )  # fmt: skip
