"""Main effects and interactions of a study's factors on the target loss, with permutation tests within seed.

A factor's levels are exchanged as wholes within each seed: under equal levels every exchange is as likely as what was
seen, so the test keeps its level whatever noise runs of a seed share (a trunk, an order, initial parameters). The price
is that few seeds cannot give a small p, and each test says how small it can be. For an interaction, what the main
effects add up to is subtracted within each seed first; exchanges of what is left are as likely as each other, too.
Where there are more than EXACT exchanges, DRAWN of them are drawn, keyed by what is tested.

    found = permutation_test(losses, key="order")                        # losses: shape (seeds, levels[, levels])

Source: the project's rule for its factorial; randomised blocks, Fisher (1935).
"""

from collections.abc import Sequence
from itertools import combinations, permutations, product
from math import factorial, prod

import numpy as np
import numpy.typing as npt

from corpus.keyed_random import keyed_hashes
from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import Side, difference
from pipelines.experiments.analysis.findings import BITS, Cell, Effect, Interaction, LevelEffect, PermutationTest

Floats = npt.NDArray[np.float64]
EXACT, DRAWN = 20_000, 9_999


def permutation_test(losses: Floats, key: str) -> PermutationTest:
    """How often exchanging levels within seeds gives effects as large as those seen.

    Args:
        losses: shape (seeds, levels) for a main effect, (seeds, levels, levels) for an interaction; at least two of
            each.
        key: what is tested; it seeds the draws, where exchanges are drawn.

    The statistic is the sum of squares of mean effects. The first seed stays as it is: relabelling all seeds alike
    changes nothing.
    """
    effects = _centred(losses)
    group = prod(factorial(levels) for levels in losses.shape[1:])
    exchanges: int = group ** (len(losses) - 1)
    exact = exchanges <= EXACT
    sums = _all_sums(effects) if exact else _drawn_sums(effects, int(keyed_hashes(0, [key])[0]))
    seen = float((effects.sum(0) ** 2).sum())
    as_large = int(((sums**2).reshape(len(sums), -1).sum(1) >= seen * (1 - 1e-9)).sum())
    if exact:
        same = 2 if losses.shape[1:] == (2, 2) else 1  # exchanging both rows and columns of a 2 x 2 changes nothing
        return PermutationTest(p=as_large / exchanges, permutations=exchanges, exact=True,
                               smallest=float((same / group) ** (len(losses) - 1)))  # fmt: skip
    return PermutationTest(p=(as_large + 1) / (DRAWN + 1), permutations=DRAWN, exact=False, smallest=1 / (DRAWN + 1))


def main_effects(runs: Runs) -> list[Effect]:
    """Each factor's effect under each kind of weights, averaged over the other factors' levels, seed by seed.

    A factor with one level at this size, or not crossed with the others, has none; nor has one with fewer than two
    seeds that all its arms finished.
    """
    found = []
    for factor, weights in product(runs.study.factors, runs.weights):
        table = _table(runs, (factor,), weights)
        if table is None:
            continue
        (levels,), over, seeds, losses = table
        plain = runs.study.control.get(factor, levels[0])
        plain = plain if plain in levels else levels[0]
        sides = {level: Side(level, dict(zip(seeds, losses[:, i], strict=True))) for i, level in enumerate(levels)}
        found.append(
            Effect(
                factor=factor, weights=weights, seeds=seeds, over=over,
                levels=tuple(
                    LevelEffect(level=level, against=plain, difference=difference(BITS, sides[level], sides[plain]))
                    for level in levels if level != plain
                ),
                test=permutation_test(losses, f"{factor} {weights}"),
            )
        )  # fmt: skip
    return found


def interactions(runs: Runs) -> list[Interaction]:
    """Of each two factors, under each kind of weights, whether the one's effect depends on the other's level."""
    found = []
    for pair, weights in product(combinations(runs.study.factors, 2), runs.weights):
        table = _table(runs, pair, weights)
        if table is None:
            continue
        levels, _, seeds, losses = table
        beyond = -_centred(losses).mean(0)
        found.append(
            Interaction(
                factors=pair, weights=weights, seeds=seeds,
                cells=tuple(
                    Cell(levels=(one, other), beyond=float(beyond[i, j]))
                    for i, one in enumerate(levels[0]) for j, other in enumerate(levels[1])
                ),
                test=permutation_test(losses, f"{pair[0]} {pair[1]} {weights}"),
            )
        )  # fmt: skip
    return found


def _table(
    runs: Runs, factors: Sequence[str], weights: str
) -> tuple[list[list[str]], tuple[str, ...], tuple[int, ...], Floats] | None:
    """Levels of the factors, what they are averaged over, the seeds, and losses, shape (seeds, levels of each)."""
    arms = {tuple(arm.levels.items()): arm.name for arm in runs.arms.values() if arm.levels}
    present = [[level for level in runs.study.factors[factor] if any((factor, level) in arm for arm in arms)]
               for factor in factors]  # fmt: skip
    rest = [factor for factor in runs.study.factors if factor not in factors]
    others = list(product(*([(factor, level) for level in runs.study.factors[factor]] for factor in rest)))

    def named(chosen: Sequence[str], other: Sequence[tuple[str, str]]) -> str | None:
        levels = {**dict(zip(factors, chosen, strict=True)), **dict(other)}
        return arms.get(tuple((factor, levels[factor]) for factor in runs.study.factors))

    over = [other for other in others if all(named(chosen, other) for chosen in product(*present))]
    if min(map(len, present)) < 2 or not over:
        return None
    by_arm = {name: runs.loss(name, weights) for name in arms.values()}
    names = np.array([[named(chosen, other) for other in over] for chosen in product(*present)])
    seeds = tuple(sorted(set.intersection(*(set(by_arm[name]) for name in names.ravel()))))
    if len(seeds) < 2:
        return None
    losses = np.array([[np.mean([by_arm[name][seed] for name in row]) for row in names] for seed in seeds])
    joined = tuple(".".join(level for _, level in other) for other in over if other)
    return present, joined, seeds, losses.reshape(len(seeds), *map(len, present))


def _centred(losses: Floats) -> Floats:
    """What is left within each seed of the mean and, for two factors, of both main effects."""
    left = losses
    for axis in range(1, losses.ndim):
        left = left - left.mean(axis, keepdims=True)
    return left


def _all_sums(effects: Floats) -> Floats:
    """Sums over seeds of every exchange of levels within seeds but the first, shape (exchanges, levels...)."""
    orders = [[list(order) for order in permutations(range(n))] for n in effects.shape[1:]]
    sums = effects[:1]
    for one in effects[1:]:
        images = np.array([one[np.ix_(*chosen)] for chosen in product(*orders)])
        sums = (sums[:, None] + images[None]).reshape(-1, *one.shape)
    return sums


def _drawn_sums(effects: Floats, seed: int) -> Floats:
    """The same sums of DRAWN random exchanges."""
    rng = np.random.default_rng(seed)
    sums = np.repeat(effects[:1], DRAWN, 0)
    for one in effects[1:]:
        image = np.broadcast_to(one, (DRAWN, *one.shape))
        for axis, levels in enumerate(one.shape, 1):
            order = rng.random((DRAWN, levels)).argsort(1)
            shape = [DRAWN, *(levels if other == axis else 1 for other in range(1, one.ndim + 1))]
            image = np.take_along_axis(image, order.reshape(shape), axis)
        sums = sums + image
    return sums
