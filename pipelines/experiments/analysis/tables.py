"""What is said of each arm, of the noise between equal runs, and of what an order gains where the rate ends."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean

import numpy as np

from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import spread
from pipelines.experiments.analysis.documents import DocumentLosses, tenth_losses
from pipelines.experiments.analysis.findings import (
    TARGET,
    ArmFinding,
    Comparison,
    GapPoint,
    NoiseFloor,
    RateMass,
    SetLosses,
    Spread,
)
from pipelines.experiments.analysis.targets import curves
from pipelines.experiments.arms import Arm
from pipelines.experiments.columns import RANDOM
from pipelines.experiments.results import RunResult
from pipelines.paired import CONFIDENCE
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.resolution import resolve


def arm_finding(runs: Runs, arm: Arm, documents: DocumentLosses | None) -> ArmFinding:
    """All that is said of one arm."""
    finished = [run for _, run in sorted(runs.finished[arm.name].items())]
    readings = [run.reading for run in finished]
    rates = step_learning_rates(resolve(arm.settings.plan))
    placed = [reading.spearman for reading in readings if reading.spearman is not None]
    kinds = runs.weights_of(arm.name)
    return ArmFinding(
        name=arm.name, levels=dict(arm.levels), control=arm.control, unmatched=arm.settings.unmatched,
        planned=arm.seeds, finished=tuple(run.seed for run in finished), tokens=arm.tokens, flops=arm.flops,
        parameters=finished[0].parameters if finished else None, end_ratio=end_ratio(arm),
        mean_rate=float(rates.mean() / arm.settings.plan.peak_lr),
        tokens_by_source=_mean_by_source(finished),
        mean_visits=fmean(reading.mean_visits for reading in readings) if readings else None,
        spearman=fmean(placed) if placed else None,
        branched=sum(run.branched_at is not None for run in finished),
        shared=sum(run.branched_at or 0 for run in finished),
        losses=tuple(row for kind in kinds for row in _losses(runs, arm.name, kind, documents)),
        curves=tuple(curve for kind in kinds for curve in curves(runs, arm.name, kind)),
    )  # fmt: skip


def end_ratio(arm: Arm) -> float:
    """Where an arm's learning rate ends, as a ratio of the peak: 1/300 as 0.00333."""
    return float(resolve(arm.settings.plan).phases[-1].lr_end / arm.settings.plan.peak_lr)


def noise_floor(runs: Runs, control: str, weights: str, table: Sequence[Comparison]) -> NoiseFloor | None:
    """How far apart runs of the control lie, and arms in a random order from shuffled ones; None without a run."""
    found = spread(runs.loss(control, weights))
    if found.lowest is None or found.highest is None:
        return None
    return NoiseFloor(
        arm=control, weights=weights, spread=found, range=found.highest - found.lowest if found.n > 1 else None,
        detectable=detectable(found),
        random=tuple(row for row in table if row.kind == "same weights" and runs.arms[row.arm].sorted_by == {RANDOM}),
    )  # fmt: skip


def detectable(found: Spread) -> float | None:
    """Half-width of the 95 % interval of a difference of two means with this spread, n each, not paired.

    t(2n - 2) x s x sqrt(2 / n): 4.30 s for n = 2, 2.27 s for 3, 1.46 s for 5.
    """
    if found.sd is None:
        return None
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, 2 * found.n - 2)) * found.sd * sqrt(2 / found.n)


def gap_points(runs: Runs, table: Sequence[Comparison]) -> list[GapPoint]:
    """What each level of the controlled factors gains over its control, at each place of the other factors.

    By level and weights, with rising end of the learning rate: how a gain depends on where the rate ends.
    """
    controlled = [factor for factor in runs.study.factors if factor in runs.study.control]
    found = []
    for row in table:
        levels = runs.arms[row.arm].levels
        if row.kind == "same weights" and levels:
            found.append(
                GapPoint(
                    factor=".".join(controlled), level=".".join(levels[factor] for factor in controlled),
                    at={factor: level for factor, level in levels.items() if factor not in controlled},
                    end_ratio=end_ratio(runs.arms[row.arm]), weights=row.weights, difference=row.target,
                )
            )  # fmt: skip
    known = list(dict.fromkeys(point.level for point in found))
    return sorted(found, key=lambda point: (known.index(point.level), runs.weights.index(point.weights),
                                            point.end_ratio, tuple(point.at.values())))  # fmt: skip


def rate_masses(runs: Runs) -> list[RateMass]:
    """The learning rate's mass on each tenth of the score, mean over seeds, by arm and weights."""
    found = []
    for arm, of_arm in runs.finished.items():
        kinds = dict.fromkeys(kind for run in of_arm.values() for kind in run.reading.rate_mass)
        for kind in sorted(kinds, key=lambda kind: (kind not in runs.weights, [*runs.weights, kind].index(kind), kind)):
            rows = [run.reading.rate_mass[kind] for _, run in sorted(of_arm.items()) if kind in run.reading.rate_mass]
            found.append(RateMass(arm=arm, weights=kind, tenths=tuple(np.mean(rows, axis=0).tolist())))
    return found


def _losses(runs: Runs, arm: str, weights: str, documents: DocumentLosses | None) -> list[SetLosses]:
    rows = [SetLosses(weights=weights, set=TARGET, kind="target", bits_per_byte=spread(runs.loss(arm, weights)))]
    rows += [SetLosses(weights=weights, set=held, kind="set", bits_per_byte=spread(runs.loss(arm, weights, held)))
             for held in runs.sets]  # fmt: skip
    return rows + (tenth_losses(runs, documents, arm, weights) if documents is not None else [])


def _mean_by_source(finished: Sequence[RunResult]) -> dict[str, int]:
    sources = sorted({source for run in finished for source in run.reading.tokens_by_source})
    return {source: round(fmean(run.reading.tokens_by_source.get(source, 0) for run in finished)) for source in sources}
