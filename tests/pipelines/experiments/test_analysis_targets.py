"""Time to target and AlgoPerf's profile score."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.experiments.analysis.checked import Runs, checked_runs
from pipelines.experiments.analysis.targets import curves, profile, profile_score, time_to_target, tokens_to
from pipelines.experiments.arms import Arm
from tests.pipelines.experiments.made_results import made_arms, made_results, made_study


def test_goldens_of_the_profile_score() -> None:
    assert profile_score([1, 1.5, None]) == pytest.approx(0.6111, abs=5e-5)
    assert profile_score([1, 2, 4, 1]) == pytest.approx(0.6667, abs=5e-5)
    assert profile_score([None]) == 0
    assert profile_score([1]) == 1


@given(st.lists(st.one_of(st.floats(1, 8), st.none()), min_size=1, max_size=6))
def test_the_score_is_the_mean_of_the_profile(ratios: list[float | None]) -> None:
    taus = np.linspace(1, 4, 6_001)
    rho = np.array([[(inf if r is None else r) <= tau for r in ratios] for tau in taus]).mean(1)
    assert profile_score(ratios) == pytest.approx(np.trapezoid(rho, taus) / 3, abs=1e-3)


def test_a_target_is_reached_between_two_points() -> None:
    assert tokens_to([0, 100, 200], [4, 3, 1], 2) == 150
    assert tokens_to([100, 200], [3, 1], 3) == 100
    assert tokens_to([100, 200], [3, 2], 1.9) is None
    assert tokens_to([100, 200, 300, 400], [3, 2, 9, 1], 1.5) == 350  # what rises in between is no way back


@given(st.lists(st.floats(0, 9), min_size=1, max_size=8), st.floats(0, 9), st.floats(0, 9))
def test_a_harder_target_takes_longer(losses: list[float], one: float, other: float) -> None:
    tokens = list(range(1, len(losses) + 1))
    easy, hard = (tokens_to(tokens, losses, target) for target in (max(one, other), min(one, other)))
    assert (inf if hard is None else hard) >= (inf if easy is None else easy)
    assert tokens_to(tokens, losses, min(losses)) == 1 + losses.index(min(losses))


def lost(arm: Arm, seed: int, weights: str) -> float:
    """Curves fall by 1 over the run: ascending is .25 below, decay .25 above the rest."""
    return 2 - 0.25 * ("ascending" in arm.name) + 0.25 * arm.name.endswith("wsd_300")


def runs_with() -> Runs:
    study = made_study()
    results = made_results(study, lost)
    return checked_runs(study, "minutes", made_arms(study), results)


def test_an_arm_that_is_ahead_needs_fewer_tokens() -> None:
    found = time_to_target(runs_with(), ("ascending.constant", "raw", "shuffled.constant", "raw"))
    assert found is not None
    assert found.tokens == pytest.approx((3_072,) * 3)
    assert found.median_share == pytest.approx(0.75)
    assert found.text == "75% of the control's tokens (3 of 3 seeds reach it)"


def test_a_target_that_is_missed_is_said_so() -> None:
    found = time_to_target(runs_with(), ("shuffled.wsd_300", "raw", "shuffled.constant", "raw"))
    assert found is not None
    assert found.median_tokens is None
    assert found.reached == 0
    assert found.text.startswith("not reached")


def test_an_arm_has_its_own_loss_at_its_end() -> None:
    found = time_to_target(runs_with(), ("shuffled.constant", "raw", "shuffled.constant", "raw"))
    assert found is not None
    assert found.share == pytest.approx((1, 1, 1))


def test_the_profile_puts_the_fastest_first() -> None:
    found = profile(runs_with(), "shuffled.constant", "raw")
    scores = {(one.arm, one.weights): one.score for one in found}
    assert found[0].arm == "ascending.constant"
    assert found[0].score == 1
    assert scores["shuffled.constant", "raw"] == pytest.approx((4 - 4 / 3) / 3)
    assert scores["shuffled.wsd_300", "raw"] == 0
    assert set(found[0].ratios) == {"books", "web", "best documents"}


def test_curves_are_means_over_seeds() -> None:
    runs = runs_with()
    target = next(one for one in curves(runs, "ascending.constant", "raw") if one.set == "target")
    assert target.tokens == (1_024, 2_048, 3_072, 4_096)
    assert target.mean == pytest.approx((2.5, 2.25, 2.0, 1.75))
    assert target.lowest == pytest.approx(target.highest)
