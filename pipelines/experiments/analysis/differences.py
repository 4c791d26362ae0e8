"""Differences between arms, paired by seed, said with both ranges and no more certainty than their interval allows.

    found = difference(BITS, Side("ascending", {0: 1.21, 1: 1.22}), Side("shuffled", {0: 1.25, 1: 1.27}))
    found.mean, found.verdict, found.text                                       # positive = the first is better

Where many differences are tested, some lie off 0 by chance; `with_holm` says what remains after Holm's correction.
Source: the project's rules for seeds and ranges; Holm, Scandinavian Journal of Statistics 6 (1979).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.findings import (
    ACCURACY,
    BITS,
    TARGET,
    ByDocument,
    Comparison,
    Difference,
    Kind,
    Spread,
    Unit,
    Verdict,
)
from pipelines.experiments.columns import RANDOM
from pipelines.experiments.study import RAW
from pipelines.paired import CONFIDENCE, gain
from trainer_hooks.evals.flips import NOT_DISTINGUISHABLE

Pair = tuple[str, str, str, str]
"""An arm, its weights, the arm it is compared with, and that one's weights."""
Bootstrap = Callable[[Pair, Sequence[int]], ByDocument | None]
"""The by-document interval of a pair's difference on the target, over the given seeds."""


@dataclass(frozen=True)
class Side:
    """One side of a difference: what it is called, and its values by seed."""

    name: str
    values: Mapping[int, float]
    absent: Mapping[int, str] = field(default_factory=dict)
    """Seeds without a value, each with what became of it."""


def spread(values: Mapping[int, float]) -> Spread:
    """Mean, standard deviation and range over seeds; null where there is nothing to take them of."""
    seeds = tuple(sorted(values))
    known = tuple(values[seed] for seed in seeds)
    return Spread(
        n=len(known), mean=fmean(known) if known else None, sd=stdev(known) if len(known) > 1 else None,
        lowest=min(known, default=None), highest=max(known, default=None), seeds=seeds, values=known,
    )  # fmt: skip


def difference(unit: Unit, arm: Side, against: Side, documents: ByDocument | None = None) -> Difference:
    """How much better the first side is, over the seeds both have, with its 95 % interval (Student's t, pairs - 1).

    Losses are better when lower, accuracies when higher: the sign is turned so that positive is better.
    """
    seeds = sorted(set(arm.values) & set(against.values))
    found = gain(arm.values, against.values) if unit == ACCURACY else gain(against.values, arm.values)
    verdict: Verdict = "unknown"
    if found.low is not None and found.mean is not None:
        verdict = ("better" if found.mean > 0 else "worse") if found.real else NOT_DISTINGUISHABLE  # type: ignore[assignment]
    return Difference(
        unit=unit, pairs=found.pairs, seeds=tuple(seeds), mean=found.mean, low=found.low, high=found.high,
        p=_p_of([arm.values[seed] - against.values[seed] for seed in seeds]), documents=documents, verdict=verdict,
        text=ranges_text(unit, arm, against, seeds), left_out=tuple(_left_out(arm, against)),
    )  # fmt: skip


def ranges_text(unit: Unit, arm: Side, against: Side, seeds: Sequence[int]) -> str:
    """A difference with both ranges, `+0.38 (uniform 50.1-50.9, ascend 50.6-51.2; n = 3 + 3)`; positive = better.

    Accuracies are in points, losses in their unit.
    """
    if not seeds:
        return f"no seed has both {against.name} and {arm.name}"
    before, after = ([side.values[seed] for seed in seeds] for side in (against, arm))
    scale, digits, own = (100, 2, 1) if unit == ACCURACY else (-1, 4, 4)
    mean = scale * (fmean(after) - fmean(before))
    said = (
        f"{side.name} {abs(scale) * min(values):.{own}f}-{abs(scale) * max(values):.{own}f}"
        for side, values in ((against, before), (arm, after))
    )
    return f"{mean:+.{digits}f} ({', '.join(said)}; n = {len(before)} + {len(after)})"


def interval_text(found: Difference) -> str:
    """The interval over seeds, in the units of `ranges_text`; says so where there is none."""
    if found.low is None or found.high is None:
        return "one pair of runs, so no interval" if found.pairs else "no interval"
    scale, digits = (100, 2) if found.unit == ACCURACY else (1, 4)
    return f"95 % interval {scale * found.low:+.{digits}f} to {scale * found.high:+.{digits}f}"


def compare(runs: Runs, pair: Pair, kind: Kind, bootstrap: Bootstrap) -> Comparison:
    """An arm beside another on the target and on each held-out set."""
    arm, weights, against, against_weights = pair
    one, other = labels(pair)

    def on(held: str) -> Difference:
        sides = _side(runs, one, arm, weights, held), _side(runs, other, against, against_weights, held)
        both = sorted(set(sides[0].values) & set(sides[1].values))
        return difference(BITS, *sides, bootstrap(pair, both) if held == TARGET else None)

    return Comparison(
        arm=arm, weights=weights, against=against, against_weights=against_weights, kind=kind,
        target=on(TARGET), sets={held: on(held) for held in runs.sets},
        roles={group: on(group) for group in runs.groups if group != TARGET},
    )  # fmt: skip


def pairs_of(runs: Runs) -> list[tuple[Pair, Kind]]:
    """What every arm is compared with, under each kind of weights.

    Its control under the same, and its control's raw weights; a control's average with its own raw weights; an order
    by a score with the arms that filter by that score instead.
    """
    found: list[tuple[Pair, Kind]] = []
    for name, kind in runs.with_weights():
        arm = runs.arms[name]
        for other in runs.arms.values():
            if other.shuffled and (arm.sorted_by & other.kept_by) - {RANDOM} and runs.loss(other.name, kind):
                found.append(((name, kind, other.name, kind), "filter"))
        if arm.control is None:
            found += [((name, kind, name, RAW), "averaging")] if kind != RAW else []
            continue
        if runs.loss(arm.control, kind) or kind == RAW:
            found.append(((name, kind, arm.control, kind), "same weights"))
        if kind != RAW:
            found.append(((name, kind, arm.control, RAW), "raw control"))
    return found


def with_holm(table: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons with what Holm's correction over all of them that have a p allows to say."""
    tested = [i for i, row in enumerate(table) if row.target.p is not None]
    adjusted = dict(zip(tested, holm([table[i].target.p or 0.0 for i in tested]), strict=True))

    def corrected(i: int, row: Comparison) -> Comparison:
        if i not in adjusted:
            return row
        said = row.target.verdict if adjusted[i] <= 1 - CONFIDENCE else NOT_DISTINGUISHABLE
        return row.model_copy(update={"holm_p": adjusted[i], "holm_verdict": said})

    return tuple(corrected(i, row) for i, row in enumerate(table))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p, in the order given: the k-th smallest of m times m - k + 1, at most 1, and never falling."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def labels(pair: Pair) -> tuple[str, str]:
    """What both sides are called: by the arm, and by the weights unless both are raw."""
    arm, weights, against, against_weights = pair
    if weights == against_weights == RAW:
        return arm, against
    return f"{arm} {weights}", f"{against} {against_weights}"


def _side(runs: Runs, label: str, arm: str, weights: str, held: str) -> Side:
    values = runs.loss(arm, weights, held)
    return Side(label, values, {s: runs.why_lost(arm, s) for s in runs.arms[arm].seeds if s not in values})


def _left_out(arm: Side, against: Side) -> list[str]:
    found = []
    for side, other in ((arm, against), (against, arm)):
        for seed in sorted(set(other.values) - set(side.values)):
            found.append(f"seed {seed}: {side.name} {side.absent.get(seed, 'not planned')}")
    return found


def _p_of(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's t for a mean of 0; 1 where all differences are 0, null below two."""
    if len(differences) < 2:
        return None
    if min(differences) == max(differences):
        return 1.0 if differences[0] == 0 else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)
