"""A plan beside the order it reads: where the learning rate's mass falls on quality, what is read how often, what an
average covers.

    order = PlannedData.of(Order.open(folder).table(), caps={"web": 4.0})
    order_findings(resolved, order)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.errors import ConfigError
from curriculum.order import codes_and_names
from trainer_hooks.average_kinds import AnyAverage, LastCheckpoints
from trainer_hooks.average_resolution import resolve_average
from trainer_hooks.curves import lr_mass
from trainer_hooks.phases import ResolvedPhase
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_findings import Finding, curve_setting
from trainer_hooks.shapes import Floats

EVEN = 0.1  # what a tenth of the data gets of a shuffled order's learning-rate mass
MODERATE_END = 1 / 3  # of the peak; arXiv 2511.18903: the end of a decay that ascending orders bear best
MANY_READINGS = 4  # arXiv 2305.16264: up to four readings are worth nearly as much as fresh text
SMALL_DECAY = 0.1
UNREAD = 0.01
BETTER = 0.5  # standard deviations of the score


@dataclass(frozen=True)
class PlannedData:
    """The visits of an order in reading order, all arrays of shape (visits,).

    Args:
        lengths: tokens; scores: float64, higher is better, NaN where there is none.
        source, phase: numbers into sources and phases; visit: how often the document was read before.
        caps: the most visits that the mixture allows each document, by source.
        turned: whether the scores are those of the order with their sign turned, because low ones are good.
    """

    lengths: npt.NDArray[np.int64]
    scores: Floats
    source: npt.NDArray[np.int64]
    sources: tuple[str, ...]
    phase: npt.NDArray[np.int64]
    phases: tuple[str, ...]
    visit: npt.NDArray[np.int64]
    caps: Mapping[str, float] = field(default_factory=dict)
    turned: bool = False

    @classmethod
    def of(
        cls, table: pa.Table, *, caps: Mapping[str, float] | None = None, lower_is_better: bool = False
    ) -> "PlannedData":
        """The visits of an order's table (`curriculum.order.ORDER_SCHEMA`), scores turned so that higher is better."""
        (source, sources), (phase, phases) = (codes_and_names(table[name]) for name in ("source", "phase"))
        scores = table["score"].cast(pa.float64()).to_numpy()
        return cls(
            table["length"].to_numpy().astype(np.int64), -scores if lower_is_better else scores,
            source.astype(np.int64), tuple(sources), phase.astype(np.int64), tuple(phases),
            table["visit"].to_numpy().astype(np.int64), dict(caps or {}), lower_is_better,
        )  # fmt: skip

    @property
    def tokens(self) -> int:
        """Tokens of the whole order."""
        return int(self.lengths.sum())

    def part(self, start: float, end: float) -> Floats:
        """How many tokens of each visit lie in [start, end) of the order, shape (visits,)."""
        ends = np.clip(np.cumsum(self.lengths, dtype=np.float64), start, end)
        return np.diff(np.concatenate([[start], ends]))

    def mean_score(self, weights: Floats) -> float:
        """The mean score, each visit weighed by so many tokens; NaN where none of them is scored."""
        known = ~np.isnan(self.scores) & (weights > 0)
        return float(np.average(self.scores[known], weights=weights[known])) if known.any() else float("nan")

    def along(self, edges: Floats) -> tuple[Floats, Floats]:
        """Mean score (as the order has it) and source shares between rising token positions, shapes (n,), (n, sources).

        Visits are divided at the borders; NaN where nothing is scored, or nothing lies.
        """
        ends = np.concatenate([[0.0], np.cumsum(self.lengths, dtype=np.float64)])

        def between(tokens: npt.NDArray[Any]) -> Floats:
            return np.diff(np.interp(edges, ends, np.concatenate([[0.0], np.cumsum(tokens, dtype=np.float64)])))

        known = ~np.isnan(self.scores)
        weights = np.where(known, self.lengths, 0)
        parts = [between(np.where(self.source == i, self.lengths, 0)) for i in range(len(self.sources))]
        with np.errstate(invalid="ignore"):
            quality = between(weights * np.where(known, self.scores, 0.0)) / between(weights)
            shares = np.stack(parts, axis=1) / between(self.lengths)[:, None]
        return (-quality if self.turned else quality), shares

    @property
    def spread(self) -> float:
        """The standard deviation of the scores; NaN where there are none."""
        known = self.scores[~np.isnan(self.scores)]
        return float(known.std()) if len(known) else float("nan")


def order_findings(resolved: ResolvedPlan, order: PlannedData) -> Iterator[Finding]:
    """What the plan and the order come to together."""
    yield from _length(resolved, order)
    yield from _mass(resolved, order)
    yield from _readings(resolved, order)
    yield from _phases(resolved, order)


def _length(resolved: ResolvedPlan, order: PlannedData) -> Iterator[Finding]:
    if resolved.tokens >= order.tokens:  # each target is the token after its input, so one more is needed
        steps = max(order.tokens - 1, 0) // resolved.step_tokens
        yield Finding(
            "error", "order-too-short",
            f"the plan reads {resolved.tokens:,} tokens and the target after them, the order has {order.tokens:,}",
            "plan.tokens", f"plan at most {steps * resolved.step_tokens:,} tokens, or order more documents",
        )  # fmt: skip
        return
    unread = 1 - resolved.tokens / order.tokens
    if unread <= UNREAD:
        return
    read, left = order.part(0, resolved.tokens), order.part(resolved.tokens, order.tokens)
    best = order.mean_score(left) > order.mean_score(read) + BETTER * order.spread
    whole = (order.tokens - 1) // resolved.step_tokens * resolved.step_tokens
    yield Finding(
        "warning" if best else "note", "unread-end",
        f"the last {100 * unread:.3g} % of the order is not read" + (", and its scores are the best" if best else ""),
        "plan.tokens", f"plan {whole:,} tokens, or order fewer documents",
    )  # fmt: skip


def scored(order: PlannedData, resolved: ResolvedPlan) -> bool:
    """Whether there are quality deciles: any visit within the plan has a score."""
    return bool((~np.isnan(order.scores) & (order.part(0, resolved.tokens) > 0)).any())


def masses(resolved: ResolvedPlan, order: PlannedData) -> dict[str, Floats]:
    """Shares of the learning rate's mass by quality decile, lowest first: raw, then each average by its name."""
    found = {"raw": lr_mass(resolved, order.lengths, order.scores)}
    return found | {name: lr_mass(resolved, order.lengths, order.scores, average=name) for name in resolved.averages}


def _mass(resolved: ResolvedPlan, order: PlannedData) -> Iterator[Finding]:
    if not scored(order, resolved):
        yield Finding("note", "no-scores", "no visit is scored, so quality deciles cannot be told", "order")
        return
    missing = float(order.lengths[np.isnan(order.scores)].sum()) / order.tokens
    if missing > UNREAD:
        yield Finding("note", "partly-scored", f"{100 * missing:.3g} % of the tokens have no score; deciles are of the "
                      "rest", "order")  # fmt: skip
    found = {name: float(shares[-1]) for name, shares in masses(resolved, order).items()}
    top = found.pop("raw")
    what = f"the best tenth of the data gets {_percent(top)} of the learning-rate mass, shuffled it would get 10 %"
    what += "".join(f"; {_percent(share)} in average {name}" for name, share in found.items())
    starved = top < EVEN / 2
    low_end = resolved.phases[-1].lr_end < MODERATE_END * resolved.plan.peak_lr * (1 - 1e-9)
    yield Finding(
        "warning" if starved and low_end else "note", "top-decile-mass", what, curve_setting(resolved.plan),
        _ways_out(resolved, order) if starved and low_end else "",
    )  # fmt: skip


def _ways_out(resolved: ResolvedPlan, order: PlannedData) -> str:
    """What the best tenth would get if the last decay ended at 1/3, and with a constant rate and an average."""
    last, peak = resolved.phases[-1], resolved.plan.peak_lr
    if last.kind != "decay" or last.lr_start <= MODERATE_END * peak:
        return "end at a third of the peak, or hold the rate and average the last checkpoints"

    def changed(phase: ResolvedPhase, **averages: AnyAverage) -> dict[str, str]:
        phases = (*resolved.phases[:-1], phase)
        followed = {
            name: resolve_average(name, average, phases, resolved.tokens, resolved.step_tokens, resolved.steps)
            for name, average in averages.items()
        }
        found = masses(resolved.model_copy(update={"phases": phases, "averages": followed}), order)
        return {name: _percent(float(shares[-1])) for name, shares in found.items()}

    moderate = changed(last.model_copy(update={"lr_end": MODERATE_END * peak}))
    said = f"ending the last decay at 1/3 of the peak gives it {moderate['raw']}"
    try:
        held = changed(ResolvedPhase(kind="stable", start=last.start, end=last.end, lr_start=last.lr_start,
                                     lr_end=last.lr_start), sma=LastCheckpoints())  # fmt: skip
    except ConfigError:  # too few steps for a window
        return said
    return f"{said}; a constant rate gives it {held['raw']}, and {held['sma']} in a mean of the last checkpoints"


def _readings(resolved: ResolvedPlan, order: PlannedData) -> Iterator[Finding]:
    read = order.part(0, resolved.tokens) > 0
    for number, name in enumerate(order.sources):
        mine = order.visit[read & (order.source == number)]
        cap = order.caps.get(name)
        most = int(mine.max()) + 1 if len(mine) else 0
        if cap is not None and most > np.ceil(cap):
            yield Finding(
                "warning", "visits-over-cap",
                f"documents of {name} are read up to {most} times, the mixture's cap is {cap:g}",
                f"mixture.sources.{name}.max_visits", "lower its share, raise its cap, or plan fewer tokens",
            )  # fmt: skip
        elif cap is None and most > MANY_READINGS:
            yield Finding(
                "note", "many-visits", f"documents of {name} are read up to {most} times; beyond {MANY_READINGS} a "
                "reading is worth less and less (arXiv 2305.16264)", "order",
            )  # fmt: skip
    most = int(order.visit[read].max(initial=0)) + 1
    decay = resolved.plan.optimizer.weight_decay
    if most >= 2 * MANY_READINGS and decay <= SMALL_DECAY:
        yield Finding(
            "note", "many-epochs-small-decay",
            f"documents are read up to {most} times with a weight decay of {decay:g}; over many epochs the best "
            "was up to 30 times as large (arXiv 2509.14786, secondary)",
            "plan.optimizer.weight_decay", "try 0.8 to 3.2 on a small model",
        )  # fmt: skip


def _phases(resolved: ResolvedPlan, order: PlannedData) -> Iterator[Finding]:
    """Phases of the mixture that begin where the learning rate's do not."""
    starts = np.concatenate([[0], np.cumsum(order.lengths)[:-1]])
    changes = np.flatnonzero(np.diff(order.phase)) + 1
    turns = np.array([phase.start for phase in resolved.phases[1:]] or [0])
    for visit in changes:
        at = int(starts[visit])
        nearest = int(turns[np.abs(turns - at).argmin()])
        if at < resolved.tokens and abs(nearest - at) > max(resolved.step_tokens, 0.01 * resolved.tokens):
            near = f"the learning rate's nearest turn is at {nearest:,}" if nearest else "the learning rate has no turn"
            yield Finding(
                "note", "phases-apart",
                f"the order's phase {order.phases[order.phase[visit]]} begins at {at:,} tokens; {near}",
                curve_setting(resolved.plan), "begin the decay where the phase of the best data begins",
            )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
