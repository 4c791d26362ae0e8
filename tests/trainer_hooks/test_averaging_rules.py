"""Coefficient vectors against their table, their laws, and the duality with decay."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from trainer_hooks.averaging_rules import (
    anytime_steps,
    coefficients,
    coefficients_from_decay,
    coefficients_from_steps,
    curve_coefficients,
    decay_from_coefficients,
    half_life_steps,
    step_sizes,
)
from trainer_hooks.shapes import SHAPES

KINDS = ("sma", "ema", "ema_debiased", "wma")
TABLE = [
    ("sma", [0.1667] * 6, 3.5, [0.833, 0.667, 0.5, 0.333, 0.167]),
    ("ema", [0.3277, 0.0819, 0.1024, 0.1280, 0.1600, 0.2000], 3.31072, [0.672, 0.590, 0.488, 0.360, 0.2]),
    ("ema_debiased", [0.0888, 0.1110, 0.1388, 0.1735, 0.2168, 0.2711], 4.13167, [0.911, 0.800, 0.661, 0.488, 0.271]),
    ("wma", [0.0476, 0.0952, 0.1429, 0.1905, 0.2381, 0.2857], 4.33333, [0.952, 0.857, 0.714, 0.524, 0.286]),
]
CURVES = [
    ("1-sqrt", 0.0, [0.2981, 0.2470, 0.1608, 0.1300, 0.1122, 0.0518], 2.66667),
    ("1-sqrt", 1 / 3, [0.1988, 0.1647, 0.1072, 0.0867, 0.0748, 0.3679], 3.77778),
    ("linear", 0.0, [0.1, 0.2, 0.2, 0.2, 0.2, 0.1], 3.5),
]
floats = st.floats(0.01, 1)


@pytest.mark.parametrize(("kind", "golden", "merged", "decay"), TABLE)
def test_table_of_schemes(kind, golden, merged, decay):
    c = coefficients(kind, 6, 0.2)
    np.testing.assert_allclose(c, golden, atol=5e-5)
    assert c @ np.arange(1, 7) == pytest.approx(merged, abs=5e-6)
    np.testing.assert_allclose(decay_from_coefficients(c), decay, atol=5e-4)


@pytest.mark.parametrize(("shape", "ratio", "golden", "merged"), CURVES)
def test_table_of_curves(shape, ratio, golden, merged):
    c = curve_coefficients(shape, ratio, range(6))
    np.testing.assert_allclose(c, golden, atol=6e-5)
    assert c @ np.arange(1, 7) == pytest.approx(merged, abs=5e-6)


def test_segment_means_of_1_sqrt():
    w = decay_from_coefficients(curve_coefficients("1-sqrt", 0.0, range(6)))
    np.testing.assert_allclose(w, [0.70186, 0.45487, 0.29408, 0.16405, 0.05181], atol=5e-6)


def test_debiased_steps_do_not_grow():
    np.testing.assert_allclose(
        step_sizes(coefficients("ema_debiased", 6, 0.2)), [1, 0.5556, 0.4098, 0.3388, 0.2975, 0.2711], atol=5e-5
    )
    np.testing.assert_allclose(step_sizes(coefficients("ema", 6, 0.2)), [1, *[0.2] * 5])
    np.testing.assert_allclose(step_sizes(coefficients("sma", 4)), [1, 1 / 2, 1 / 3, 1 / 4])


@given(st.sampled_from(KINDS), st.integers(1, 50), floats)
def test_coefficients_are_positive_and_sum_to_1(kind, m, alpha):
    c = coefficients(kind, m, alpha)
    assert c.shape == (m,)
    assert (c >= 0).all()
    assert abs(c.sum() - 1) < 1e-12


@given(st.lists(floats, min_size=1, max_size=20).map(lambda d: np.sort(d)[::-1]), st.integers(0, 2**32 - 1))
def test_averaging_checkpoints_equals_decaying_updates(decay, seed):
    """For a fixed series of updates u: sum_j c_j theta_j = theta_0 + sum_i w_i u_i (arXiv 2507.17634)."""
    c = coefficients_from_decay(decay)
    np.testing.assert_allclose(decay_from_coefficients(c), decay, atol=1e-12)
    updates = np.random.default_rng(seed).normal(size=(len(decay), 3))
    checkpoints = np.vstack([np.zeros(3), np.cumsum(updates, axis=0)])
    np.testing.assert_allclose(c @ checkpoints, decay @ updates, atol=1e-12)


@given(
    st.sampled_from(["linear", "1-sqrt", "cosine", "square", "exponential"]),
    st.floats(0.01, 1),
    st.lists(st.integers(1, 1000), min_size=2, max_size=12, unique=True),
)
@example(shape="exponential", ratio=1 - 2**-53, positions=[1, 2, 3])
def test_curve_coefficients_sum_to_1_for_unequal_spacing(shape, ratio, positions):
    c = curve_coefficients(shape, ratio, sorted(positions))
    assert c.sum() == pytest.approx(1)
    assert (c >= -1e-12).all()


def test_unusable_settings_are_refused():
    for call in (
        lambda: coefficients("sma", 0),
        lambda: coefficients("ema", 3, 0.0),
        lambda: coefficients("emma", 3),
        lambda: step_sizes([]),
        lambda: step_sizes([0.5, 0.4]),
        lambda: step_sizes([0.0, 1.0]),
        lambda: curve_coefficients("linear", 0, [3, 2]),
        lambda: curve_coefficients("sqrt", 0, [1, 2]),
        lambda: curve_coefficients("exponential", 0, [1, 2]),
    ):
        with pytest.raises(ConfigError):
            call()


def test_the_other_coefficients_of_the_tables():
    """What is left on the oldest in a recursion, the merge of 1..6, and the off-by-one of point values."""
    left = {3: 0.64, 6: 0.328, 8: 0.210, 10: 0.134, 20: 0.014}
    for m, share in left.items():
        assert coefficients("ema", m, 0.2)[0] == pytest.approx(share, abs=5e-4)
    np.testing.assert_allclose(coefficients("ema", 6, 0.8)[[0, -2, -1]], [0.0003, 0.16, 0.8], atol=5e-5)
    points = 1 - np.sqrt(np.arange(1, 7) / 6)
    np.testing.assert_allclose(
        coefficients_from_decay(points), [0.408, 0.169, 0.130, 0.109, 0.096, 0.087, 0], atol=5e-4
    )
    assert curve_coefficients("1-sqrt", 0.0, range(7))[-1] > 0.04


def test_half_lives_in_tokens():
    """A .5M update and a half-life of 50M keep .99309; a window of 2 h / ln 2 tokens has the same mean age."""
    steps = half_life_steps(3, 0.5e6, 50e6, debiased=False)
    np.testing.assert_allclose(steps, [1, 1 - 0.99309, 1 - 0.99309], atol=5e-6)
    c = coefficients_from_steps(half_life_steps(20_000, 1, 500, debiased=True))
    assert c @ np.arange(19_999, -1, -1.0) == pytest.approx(500 / np.log(2), rel=2e-3)
    assert 2 / np.log(2) == pytest.approx(2.885, abs=5e-4)


def test_half_lives_in_tokens_seen():
    """f = .1: kappa 6.93 and a mean age of .126 t; f = ln 2 is the plain mean of the whole run."""
    positions = np.arange(1, 20_001)
    c = coefficients_from_steps(anytime_steps(positions, 0.1, debiased=True))
    assert c @ (20_000 - positions) / 20_000 == pytest.approx(0.126, abs=5e-4)
    assert np.log(2) / 0.1 == pytest.approx(6.93, abs=5e-3)
    np.testing.assert_allclose(anytime_steps(positions, np.log(2), debiased=True), 1 / positions, rtol=1e-9)
    np.testing.assert_allclose(c / c[-1], (positions / 20_000) ** (np.log(2) / 0.1 - 1), rtol=1e-8, atol=1e-300)


@given(st.floats(1e-4, 0.9), st.integers(2, 300), st.booleans())
def test_means_of_every_step_stay_in_range(share, m, debiased):
    """Powers of token counts leave the range of a float; steps do not, and their coefficients sum to 1."""
    positions = 10**12 + np.arange(m) * 10**9
    for steps in (
        anytime_steps(positions, share, debiased=debiased),
        half_life_steps(m, 1e9, share * 1e12, debiased=debiased),
    ):
        assert steps[0] == 1
        assert ((steps > 0) & (steps <= 1)).all()
        assert coefficients_from_steps(steps).sum() == pytest.approx(1, abs=1e-12)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=60))
def test_steps_and_coefficients_are_two_forms_of_one_thing(weights):
    c = np.asarray(weights) / sum(weights)
    np.testing.assert_allclose(coefficients_from_steps(step_sizes(c)), c, atol=1e-12)


@given(st.sampled_from(KINDS), st.integers(1, 50), floats)
def test_coefficients_to_decay_and_back(kind, m, alpha):
    c = coefficients(kind, m, alpha)
    np.testing.assert_allclose(coefficients_from_decay(decay_from_coefficients(c)), c, atol=1e-12)


@given(st.sampled_from(sorted(SHAPES)), st.floats(0.01, 1), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_a_curve_over_true_positions_equals_decayed_training(shape, ratio, segments, seed):
    """With updates constant inside each segment, merging equals training at the decayed rate (arXiv 2507.17634)."""
    rng = np.random.default_rng(seed)
    positions = np.concatenate([[0], np.cumsum(rng.integers(1, 50, segments))])
    updates = rng.normal(size=segments)
    checkpoints = np.concatenate([[0.0], np.cumsum(updates * np.diff(positions))])
    fine = (np.arange(positions[-1] * 200) + 0.5) / (positions[-1] * 200)
    rates = SHAPES[shape].value(fine, ratio)
    moving = updates[np.searchsorted(positions[1:], fine * positions[-1], side="right")]
    decayed = float(np.sum(rates * moving)) / 200
    merged = float(curve_coefficients(shape, ratio, positions) @ checkpoints)
    assert merged == pytest.approx(decayed, abs=2e-3 * positions[-1] * np.abs(updates).max())
