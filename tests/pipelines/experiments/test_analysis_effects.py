"""The permutation tests keep their level, are exact where they say so, and see planted effects."""

from itertools import permutations, product

import numpy as np
import pytest

from pipelines.experiments.analysis.checked import checked_runs
from pipelines.experiments.analysis.effects import DRAWN, interactions, main_effects, permutation_test
from pipelines.experiments.arms import Arm
from tests.pipelines.experiments.made_results import made_arms, made_results, made_study, noise


def test_a_main_effect_is_tested_over_every_exchange_within_seeds() -> None:
    losses = np.random.default_rng(3).normal(size=(3, 3))
    orders = list(permutations(range(3)))
    every = [sum(row[list(order)] for row, order in zip(losses, chosen, strict=True))
             for chosen in product(orders, repeat=3)]  # fmt: skip
    sizes = np.array([((total - total.mean()) ** 2).sum() for total in every])
    seen = losses.sum(0)
    p = (sizes >= ((seen - seen.mean()) ** 2).sum() * (1 - 1e-9)).mean()
    found = permutation_test(losses, "x")
    assert found.exact
    assert found.permutations == 36
    assert found.p == pytest.approx(p)


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (4, 2, 2), (3, 3, 2)])
def test_the_smallest_p_is_that_of_a_perfect_effect(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    pattern = rng.normal(size=shape[1:])
    losses = pattern[None] * np.ones(shape) + rng.normal(0, 1e-3, shape)
    found = permutation_test(losses, "x")
    assert found.p == pytest.approx(found.smallest)


@pytest.mark.parametrize("shape", [(5, 2), (3, 4), (5, 2, 2), (3, 3, 2)])
def test_the_level_is_kept_under_equal_arms(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(400):
        seed = rng.normal(0, 5, (shape[0], *(1 for _ in shape[1:])))
        shared = rng.normal(0, 2, shape[:2])  # what runs of one seed and level share, such as a trunk
        own = rng.normal(size=shape) + (shared[..., None] if len(shape) == 3 else shared) + seed
        p.append(permutation_test(own, "x").p)
    for level in (0.05, 0.1, 0.25, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * (level * (1 - level) / 400) ** 0.5


def test_an_interaction_is_blind_to_main_effects() -> None:
    own = np.random.default_rng(2).normal(size=(4, 2, 3))
    shifted = own + np.array([0.0, 9.0])[None, :, None] + np.array([3.0, -5.0, 7.0])[None, None, :]
    assert permutation_test(own, "x").p == pytest.approx(permutation_test(shifted, "x").p)


def test_drawn_exchanges_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.random.default_rng(4).normal(size=(4, 3))
    exact = permutation_test(losses, "x")
    monkeypatch.setattr("pipelines.experiments.analysis.effects.EXACT", 1)
    drawn = permutation_test(losses, "x")
    assert exact.exact
    assert not drawn.exact
    assert drawn.permutations == DRAWN
    assert drawn == permutation_test(losses, "x")
    assert drawn.p == pytest.approx(exact.p, abs=0.02)
    assert permutation_test(np.random.default_rng(4).normal(size=(4, 3, 2)), "x").p > 0


def test_power_for_a_planned_number_of_seeds() -> None:
    rng = np.random.default_rng(5)
    found = [permutation_test(rng.normal(size=(5, 3)) + np.array([0, 0, 3.0]), "x").p <= 0.05 for _ in range(100)]
    assert np.mean(found) > 0.9


def planted(arm: Arm, seed: int, weights: str) -> float:
    """Ascending order gains .2 at a constant rate and nothing under decay; decay alone gains .1."""
    gain = 0.2 if arm.name == "ascending.constant" else 0.0
    return 2 + seed - gain - 0.1 * arm.name.endswith("wsd_300") + noise(arm, seed, weights, 0.001)


def test_effects_of_a_study_are_found_with_their_signs() -> None:
    study = made_study(seeds=4)
    runs = checked_runs(study, "minutes", made_arms(study), made_results(study, planted))
    order, schedule = (one for one in main_effects(runs) if one.weights == "raw")
    assert (order.factor, schedule.factor) == ("order", "schedule")
    assert [one.level for one in order.levels] == ["ascending", "random_score"]
    assert order.levels[0].against == "shuffled"
    assert order.levels[0].difference.mean == pytest.approx(0.1, abs=0.002)
    assert order.levels[0].difference.verdict == "better"
    assert order.test.p < 0.05
    assert order.over == ("constant", "wsd_300")
    assert order.seeds == (0, 1, 2, 3)
    assert schedule.levels[0].difference.mean == pytest.approx(0.1 - 0.2 / 3, abs=0.002)
    beyond = {cell.levels: cell.beyond for cell in interactions(runs)[0].cells}
    assert beyond["ascending", "constant"] == pytest.approx(0.2 / 3, abs=0.002)
    assert sum(beyond.values()) == pytest.approx(0, abs=1e-12)
    assert interactions(runs)[0].test.p < 0.05


def test_effects_are_over_what_is_crossed_and_nothing_else() -> None:
    size = made_study().sizes["minutes"].model_dump(mode="json")
    study = made_study(sizes={"minutes": {**size, "arms": ["*.constant", "filter_repeat"]}})
    runs = checked_runs(study, "minutes", made_arms(study), made_results(study, planted))
    assert "shuffled.wsd_300" in runs.arms
    assert {one.factor: one.over for one in main_effects(runs)} == {"order": ("constant",), "schedule": ("shuffled",)}
    assert interactions(runs) == []


def test_only_seeds_that_all_arms_finished_count() -> None:
    study = made_study(seeds=4)
    results = made_results(study, planted)
    del results["ascending.constant.s2"]
    runs = checked_runs(study, "minutes", made_arms(study), results)
    assert {one.seeds for one in main_effects(runs)} == {(0, 1, 3)}
    few = {name: run for name, run in results.items() if run.seed == 0 or run.arm != "ascending.constant"}
    runs = checked_runs(study, "minutes", made_arms(study), few)
    assert main_effects(runs) == []
