"""Scores on files of questions: accuracy above chance, and which answers change from a control to an arm.

Two arms of one accuracy may answer different questions. The share of answers that change between two seeds of the
control says how many would change anyway.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from math import sqrt
from statistics import fmean

import numpy as np

from corpus.errors import ArtifactError
from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import Side, difference, labels, spread
from pipelines.experiments.analysis.findings import ACCURACY, ItemAccuracy, ItemFlips
from pipelines.experiments.results import ItemScore
from trainer_hooks.evals.flips import Flips, bootstrap, compare_choices

Scores = dict[tuple[str, str], dict[int, ItemScore]]
"""By file and metric, and by seed."""


def centred(accuracy: float, chance: float | None) -> float | None:
    """(accuracy - chance) / (1 - chance): 0 is guessing, 1 is all; below 0 is worse than guessing. Null without chance.

    Source: DCLM's centred accuracy.
    """
    return None if chance is None or chance >= 1 else (accuracy - chance) / (1 - chance)


def accuracies(runs: Runs) -> list[ItemAccuracy]:
    """Every arm's score on every file, under each kind of weights.

    Raises ArtifactError where runs answered different numbers of questions of one file.
    """
    found, sizes = [], dict[str, int]()
    for arm, weights in _with_items(runs):
        for (file, metric), by_seed in _scores(runs, arm, weights).items():
            one = next(iter(by_seed.values()))
            counts = {score.n for score in by_seed.values()} | {sizes.setdefault(file, one.n)}
            if len(counts) > 1:
                raise ArtifactError(
                    f"runs answered different questions of {file}", expected="one file of questions for all runs",
                    found=" and ".join(f"{n:,}" for n in sorted(counts)), where=f"arm {arm}",
                    fix="score all runs of the study on the same file",
                )  # fmt: skip
            accuracy = spread({seed: score.accuracy for seed, score in by_seed.items()})
            mean = accuracy.mean or 0.0
            found.append(
                ItemAccuracy(
                    arm=arm, weights=weights, file=file, metric=metric, questions=one.n, chance=one.chance,
                    accuracy=accuracy, centred=centred(mean, one.chance), item_error=sqrt(mean * (1 - mean) / one.n),
                )
            )  # fmt: skip
    return found


def item_flips(runs: Runs) -> list[ItemFlips]:
    """Answers that change from each arm's control to the arm, under the same weights."""
    found = []
    for arm, weights in _with_items(runs):
        control = runs.arms[arm].control
        if control is None:
            continue
        theirs = _scores(runs, control, weights)
        for (file, metric), own in _scores(runs, arm, weights).items():
            other = theirs.get((file, metric), {})
            seeds = sorted(set(own) & set(other))
            if seeds:
                found.append(_flips((arm, weights, control, weights), file, metric, own, other, seeds))
    return found


def _flips(
    pair: tuple[str, str, str, str], file: str, metric: str, own: Mapping[int, ItemScore],
    other: Mapping[int, ItemScore], seeds: list[int],
) -> ItemFlips:  # fmt: skip
    name, against = labels(pair)
    each = [_changed(other[seed], own[seed]) for seed in seeds]
    won = np.mean([np.subtract(own[seed].correct, other[seed].correct, dtype=float) for seed in seeds], axis=0)
    interval = bootstrap(won, range(len(won)))
    noise = [_changed(other[one], other[two]) for one, two in combinations(sorted(other), 2)]
    return ItemFlips(
        arm=pair[0], weights=pair[1], against=pair[2], file=file, metric=metric,
        accuracy=difference(
            ACCURACY, Side(name, {seed: score.accuracy for seed, score in own.items()}),
            Side(against, {seed: score.accuracy for seed, score in other.items()}),
        ),
        negative=fmean(one.negative for one in each), positive=fmean(one.positive for one in each),
        low=interval.low, high=interval.high,
        noise=fmean(one.negative + one.positive for one in noise) if noise else None,
    )  # fmt: skip


def _changed(old: ItemScore, new: ItemScore) -> Flips:
    return compare_choices([True] * old.n, old.correct, new.correct)


def _with_items(runs: Runs) -> Iterator[tuple[str, str]]:
    for arm, of_arm in runs.finished.items():
        kinds = {kind for run in of_arm.values() for kind in run.items}
        yield from ((arm, kind) for kind in sorted(kinds, key=lambda kind: (kind not in runs.weights, kind)))


def _scores(runs: Runs, arm: str, weights: str) -> Scores:
    found: Scores = {}
    for seed, run in sorted(runs.finished[arm].items()):
        for score in run.items.get(weights, ()):
            found.setdefault((score.file, score.metric), {})[seed] = score
    return found
