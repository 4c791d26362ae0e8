"""What an arm forgets of old text and learns of new, for studies with two phases of data.

Measured on the curves: the loss before is that of the model's own weights where the second phase of the mixture
begins; from there the rise on old text, when it is largest, when it is back within noise, and what is left of it.
Noise is twice the standard deviation of the old loss over the last points before. Tokens count from where the second
phase begins. Forgetting is positive when worse.

The gap itself is `trainer_hooks.evals.loss_gaps`; a gap of a few hundred steps is invisible on a coarse grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from mixtures.shares import exactly
from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import Side, difference, labels, spread
from pipelines.experiments.analysis.findings import NATS, Continual, Difference
from pipelines.experiments.analysis.targets import curve_of
from pipelines.experiments.arms import Arm
from pipelines.experiments.results import RunResult
from pipelines.experiments.study import RAW
from trainer_hooks.evals.loss_gaps import LossGap, loss_gap, recovery_tolerance, share_of_forgetting_removed
from trainer_hooks.lengths import half_up
from trainer_hooks.resolution import resolve

LAST = 3
"""Points before the second phase that say what noise is: few, since the loss still falls."""


@dataclass(frozen=True)
class RunGap:
    """What one run forgot and learnt. base, old, new: losses before, and at the end, nats a token."""

    begins: int
    base: float
    gap: LossGap
    old: float
    new: float
    learning: float


def continual(runs: Runs) -> list[Continual]:
    """Each arm under each kind of weights; none for a study that has not said what is old and new."""
    roles = runs.study.continual
    if set(roles) != {"old", "new"}:
        return []
    old, new = runs.groups["old"], runs.groups["new"]
    gaps = {
        (arm, weights): {
            seed: found
            for seed, run in runs.finished[arm].items()
            if (found := run_gap(runs.arms[arm], run, weights, old, new)) is not None
        }
        for arm, weights in runs.with_weights()
    }
    return [_row(runs, arm, weights, own, gaps) for (arm, weights), own in gaps.items() if own]


def run_gap(arm: Arm, run: RunResult, weights: str, old: Iterable[str], new: Iterable[str]) -> RunGap | None:
    """The gap of one run; None where its mixture has one phase, or its curve no point on both sides of the change."""
    begins = second_phase(arm)
    raw, own = (
        {at: loss for at, loss in zip(*curve_of(run, kind, tuple(old)), strict=True)} for kind in (RAW, weights)
    )
    raw_new, own_new = (dict(zip(*curve_of(run, kind, tuple(new)), strict=True)) for kind in (RAW, weights))
    if begins is None:
        return None
    before = [at for at in raw if at <= begins and at in raw_new]
    after = [at for at in own if at > begins and at in own_new]
    if not before or not after:
        return None
    at, base, last = before[-1], raw[before[-1]], after[-1]
    tail = [raw[one] for one in before[-LAST:]]
    tolerance = recovery_tolerance(tail) if len(tail) > 1 else 0.0
    gap = loss_gap([one - at for one in after], [own[one] for one in after], base, tolerance)
    return RunGap(at, base, gap, own[last], own_new[last], own_new[last] - raw_new[at])


def second_phase(arm: Arm) -> int | None:
    """Tokens after which an arm's mixture enters its second phase, to the nearest whole step; None: it has one."""
    phases = arm.settings.mixture.phases
    if len(phases) < 2:
        return None
    length, resolved = phases[0].tokens, resolve(arm.settings.plan)
    share = exactly(length.share or 0) or 0
    exact = length.tokens if length.tokens is not None else share * resolved.plan.tokens
    return half_up(Fraction(exact) / resolved.step_tokens) * resolved.step_tokens


def _row(
    runs: Runs, arm: str, weights: str, own: dict[int, RunGap], gaps: dict[tuple[str, str], dict[int, RunGap]]
) -> Continual:
    control = runs.arms[arm].control
    theirs = gaps.get((control, RAW), {}) if control is not None else {}
    removed = {
        seed: share_of_forgetting_removed(theirs[seed].old, one.old, theirs[seed].base)
        for seed, one in own.items()
        if seed in theirs and theirs[seed].old > theirs[seed].base
    }

    def beside(what: str) -> Difference | None:
        if control is None or not theirs:
            return None
        name, other = labels((arm, weights, control, RAW))
        sides = ({seed: float(getattr(one, what)) for seed, one in side.items()} for side in (own, theirs))
        return difference(NATS, Side(name, next(sides)), Side(other, next(sides)))

    return Continual(
        arm=arm, weights=weights, seeds=tuple(sorted(own)), begins=next(iter(own.values())).begins,
        depth=spread({seed: one.gap.depth for seed, one in own.items()}),
        depth_at=spread({seed: one.gap.at for seed, one in own.items()}),
        recovery=tuple(own[seed].gap.recovery for seed in sorted(own)),
        area=spread({seed: one.gap.area for seed, one in own.items()}),
        forgetting=spread({seed: one.gap.residual for seed, one in own.items()}),
        learning=spread({seed: one.learning for seed, one in own.items()}),
        removed=spread(removed), old=beside("old"), new=beside("new"),
    )  # fmt: skip
