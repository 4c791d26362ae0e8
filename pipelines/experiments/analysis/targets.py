"""Time to target: after how many tokens an arm has what its control has at the end, and AlgoPerf's profile over sets.

Read off the curves measured while training, nats a token, made monotone (the least loss so far) and interpolated
linearly. A target that is never reached is a legal value, counts as infinite, and stays in medians.

Source: AlgoPerf (mlcommons/algorithmic-efficiency): r is an arm's time over the fastest one's on a workload, a profile
the share of workloads with r up to tau; its mean over tau from 1 to 4 is B = mean max(0, (4 - r) / 3). Here held-out
sets are the workloads and tokens the time.
"""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from statistics import median

import numpy as np

from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import Pair
from pipelines.experiments.analysis.findings import TARGET, Curve, ProfileScore, TimeToTarget
from pipelines.experiments.results import RunResult

FURTHEST = 4.0
NOT_REACHED = "not reached"
Points = tuple[list[int], list[float]]
"""Rising counts of tokens, and the loss after each."""


def curve_of(run: RunResult, weights: str, sets: Sequence[str]) -> Points:
    """A run's losses while it trained, the mean over some sets, where all of them were measured."""
    points = {
        point.tokens: float(np.mean([point.losses[held] for held in sets]))
        for point in run.curve
        if point.weights == weights and sets and all(held in point.losses for held in sets)
    }
    tokens = sorted(at for at, loss in points.items() if isfinite(loss))
    return tokens, [points[at] for at in tokens]


def curves(runs: Runs, arm: str, weights: str) -> list[Curve]:
    """An arm's mean curve over seeds, with its range, of the target and of each held-out set."""
    found = []
    for held in (TARGET, *runs.sets):
        sets = runs.target if held == TARGET else (held,)
        every = [dict(zip(*curve_of(run, weights, sets), strict=True)) for run in runs.finished[arm].values()]
        shared = sorted(set.intersection(*map(set, every))) if every else []
        if shared:
            losses = np.array([[one[at] for at in shared] for one in every])
            mean, lowest, highest = (tuple(row.tolist()) for row in (losses.mean(0), losses.min(0), losses.max(0)))
            found.append(
                Curve(weights=weights, set=held, tokens=tuple(shared), mean=mean, lowest=lowest, highest=highest)
            )
    return found


def tokens_to(tokens: Sequence[float], losses: Sequence[float], target: float) -> float | None:
    """Where a curve made monotone first is at or below a target, interpolated; None: nowhere.

    A target already met at the first point counts as met there.
    """
    least = np.minimum.accumulate(losses)
    reached = np.flatnonzero(least <= target)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(tokens[0])
    done = (least[i - 1] - target) / (least[i - 1] - least[i])
    return float(tokens[i - 1] + done * (tokens[i] - tokens[i - 1]))


def time_to_target(runs: Runs, pair: Pair) -> TimeToTarget | None:
    """When an arm has its control's final loss on the target, seed by seed; None where no seed has both curves."""
    arm, weights, control, control_weights = pair
    times = _times(runs, pair, runs.target)
    if not times:
        return None
    budget = runs.arms[control].tokens
    middle = median(inf if at is None else at for at in times.values())
    reached = sum(at is not None for at in times.values())
    known = isfinite(middle)
    return TimeToTarget(
        arm=arm, weights=weights, control=control, control_weights=control_weights, seeds=tuple(times),
        tokens=tuple(times.values()), share=tuple(None if at is None else at / budget for at in times.values()),
        median_tokens=middle if known else None, median_share=middle / budget if known else None, reached=reached,
        text=(f"{middle / budget:.0%} of the control's tokens" if known else NOT_REACHED)
        + f" ({reached} of {len(times)} seeds reach it)",
    )  # fmt: skip


def profile(runs: Runs, control: str, control_weights: str) -> list[ProfileScore]:
    """Every arm under each kind of weights by AlgoPerf's score, best first.

    The workloads are the held-out sets; a set's target is the control's final loss on it, in the same seed.
    """
    times: dict[tuple[str, str], dict[str, float]] = {}
    against = control, control_weights
    workloads = [held for held in runs.sets if _times(runs, (*against, *against), (held,))]
    for arm, weights in runs.with_weights():
        own = {held: _times(runs, (arm, weights, *against), (held,)) for held in workloads}
        if own and all(own.values()):
            times[arm, weights] = {
                held: median(inf if at is None else at for at in one.values()) for held, one in own.items()
            }
    fastest = {held: min(one[held] for one in times.values()) for held in workloads} if times else {}
    found = []
    for (arm, weights), one in times.items():
        ratios = {held: _ratio(one[held], fastest[held]) for held in workloads}
        found.append(ProfileScore(arm=arm, weights=weights, score=profile_score(list(ratios.values())), ratios=ratios))
    return sorted(found, key=lambda row: -row.score)


def profile_score(ratios: Sequence[float | None]) -> float:
    """B = mean max(0, (4 - r) / 3) over workloads; r = 1 for the fastest, None where the target was not reached."""
    shares = [0.0 if r is None else max(0.0, (FURTHEST - r) / (FURTHEST - 1)) for r in ratios]
    return float(np.mean(shares))


def _times(runs: Runs, pair: Pair, sets: Sequence[str]) -> dict[int, float | None]:
    arm, weights, control, control_weights = pair
    found: Mapping[int, RunResult] = runs.finished[control]
    times: dict[int, float | None] = {}
    for seed, run in sorted(runs.finished[arm].items()):
        if seed not in found:
            continue
        tokens, losses = curve_of(run, weights, sets)
        target = curve_of(found[seed], control_weights, sets)[1][-1:]
        if tokens and target:
            times[seed] = tokens_to(tokens, losses, target[0])
    return times


def _ratio(time: float, fastest: float) -> float | None:
    if not isfinite(time):
        return None
    return time / fastest if fastest else 1.0
