"""The learning rate along the token axis: golden schedules, midpoint sampling, mass on quality deciles."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.curves import (
    averaged_step_rates,
    learning_rate,
    learning_rate_integral,
    lr_mass,
    step_learning_rates,
)
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
from trainer_hooks.shapes import SHAPES

AT = [50, 100, 325, 550, 775, 850, 900, 950, 1000]
SCHEDULES = [
    (
        [{"decay": 900, "to": 0.1, "shape": "cosine"}],
        [0.5, 1, 0.8682, 0.55, 0.2318, 0.1603, 0.1271, 0.1068, 0.1],
        0.545,
    ),
    ([{"decay": 900, "to": 0, "shape": "linear"}], [0.5, 1, 0.75, 0.5, 0.25, 0.1667, 0.1111, 0.0556, 0], 0.5),
    ([{"stable": 700}, {"decay": 200, "to": 0, "shape": "linear"}], [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0], 0.85),
    ([{"stable": 700}, {"decay": 200, "to": 0}], [0.5, 1, 1, 1, 1, 0.5, 0.2929, 0.1340, 0], 0.8167),
    ([{"stable": 700}, {"decay": 200, "to": "1/300"}], [0.5, 1, 1, 1, 1, 0.5017, 0.2953, 0.1369, 0.0033], 0.8171),
    ([{"stable": 700}, {"decay": 200, "to": "1/3"}], [0.5, 1, 1, 1, 1, 0.6667, 0.5286, 0.4226, 0.3333], 0.8611),
    (
        [{"stable": 700}, {"decay": 200, "to": 0.01, "shape": "exponential"}],
        [0.5, 1, 1, 1, 1, 0.3162, 0.1, 0.0316, 0.01],
        0.7930,
    ),
]


def plan(phases, tokens=1000, step=1, **more):
    data = {"tokens": tokens, "sequence_length": step, "batch_sequences": 1, "peak_lr": 1.0, "phases": phases}
    return resolve(validated(Plan, {**data, "eval_every": "50%", "checkpoint_every": "50%", **more}, "plan"))


@pytest.mark.parametrize(("phases", "values", "mean"), SCHEDULES)
def test_golden_schedules(phases, values, mean):
    resolved = plan([{"warmup": 100}, *phases])
    np.testing.assert_allclose(learning_rate(AT, resolved), values, atol=5e-5)
    assert step_learning_rates(resolved).mean() == pytest.approx(mean, abs=1e-4)
    assert learning_rate_integral(1000, resolved) / 1000 == pytest.approx(mean, abs=5.1e-5)


def test_steps_take_the_rate_at_their_midpoint():
    resolved = plan([{"warmup": 100}, {"decay": 900, "to": 0, "shape": "linear"}], step=100)
    golden = [0.5, 0.9444, 0.8333, 0.7222, 0.6111, 0.5, 0.3889, 0.2778, 0.1667, 0.0556]
    np.testing.assert_allclose(step_learning_rates(resolved), golden, atol=5e-5)
    assert step_learning_rates(resolved).sum() == pytest.approx(5.0)


def test_two_decays_meet_and_a_boundary_belongs_to_the_later_phase():
    resolved = plan([{"decay": 400, "to": 0.5, "shape": "linear"}, {"stable": 200}, {"decay": 400, "to_lr": 0.1}])
    np.testing.assert_allclose(
        learning_rate([0, 200, 400, 500, 600, 700, 1000], resolved), [1, 0.75, 0.5, 0.5, 0.5, 0.3, 0.1], atol=1e-12
    )


def test_beyond_the_end_a_floor_is_held_with_a_warning_and_zero_is_refused():
    with pytest.warns(UserWarning, match="held"):
        assert learning_rate([2000], plan([{"stable": "80%"}, {"decay": "20%", "to": 0.1}]))[0] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="cannot train further"):
        learning_rate([1001], plan([{"stable": "80%"}, {"decay": "20%", "to": 0}]))
    with pytest.raises(ConfigError, match="negative"):
        learning_rate([-1], plan([{"stable": "100%"}]))


def test_the_integral_goes_on_at_the_rate_that_is_held():
    resolved = plan([{"stable": "80%"}, {"decay": "20%", "to": 0.1}])
    with pytest.warns(UserWarning, match="held"):
        assert learning_rate_integral(1500, resolved) - learning_rate_integral(1000, resolved) == pytest.approx(50)


FALLS = [
    {"shape": "cosine", "to": 0.1},
    {"shape": "exponential", "to": 0.05},
    {"shape": "polynomial", "power": 3, "to": 0.02},
    {"shape": "inverse_sqrt", "alpha": 4, "to": 0.3},
]
LAWS = [
    {},
    {"exponent": 1.0},
    {"exponent": 2.5, "knee": 250},
    {"floor": 0.4},
    {"floor": 0.4, "floor_form": "added", "exponent": 0.7},
    {"age": 30, "knee": 100, "floor": 0.3, "floor_form": "max"},
]
NOT_DECAYED = [
    *([{"decay": 500, **fall}] for fall in FALLS),
    *([{"power_law": 500, **law}] for law in LAWS),
    [{"decay": 200, "half_life": 100}, {"warmup": 300, "to": 0.9}],
    [{"stable": 100}, {"decay": 100, "to": 0, "shape": "linear"}, {"stable": 300, "jump_to": 0.5}],
]


LAST = [{"half_life": 70}, *({"to": 0, "shape": name} for name in sorted(SHAPES) if not SHAPES[name].positive)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NOT_DECAYED), st.sampled_from(LAST), st.integers(2, 99), st.integers(100, 900))
def test_any_curve_is_bounded_has_only_declared_jumps_and_its_own_integral(middle, last, warmup, n):
    resolved = plan([{"warmup": warmup}, *middle, {"decay": "rest", **last}])
    fine = np.linspace(0, resolved.tokens, 200_001)
    rates = learning_rate(fine, resolved)
    assert rates.min() >= 0
    assert rates.max() <= 1 + 1e-15
    for before, after in pairwise(resolved.phases):
        gap = abs(after.rate(np.array(float(after.start))) - before.rate(np.array(float(before.end))))
        assert (gap > 1e-12) == after.jump
    end = np.searchsorted(fine, n)
    summed = np.sum(rates[1 : end + 1] + rates[:end]) / 2 * (fine[1] - fine[0])
    assert learning_rate_integral(float(n), resolved) == pytest.approx(summed, abs=0.01)


PIECES = st.sampled_from(
    [
        [{"stable": "40%"}, {"decay": "rest", "to": 0, "shape": "linear"}],
        [{"decay": "40%", "to": 0.3, "shape": "linear"}, {"warmup": "20%", "to": 0.8}, {"stable": "rest"}],
        [{"decay": "40%", "to": 0.1, "shape": "linear"}, {"warmup": "rest", "from_zero": True}],
    ]
)


@settings(deadline=None)
@given(PIECES, st.sampled_from([1, 2, 5, 10, 20]))
def test_step_rates_add_up_to_the_integral_of_straight_lines_at_any_batch_size(phases, step):
    resolved = plan([{"warmup": "10%"}, *phases], step=step)
    total = step_learning_rates(resolved).sum() * step
    assert total == pytest.approx(float(learning_rate_integral(1000, resolved)), rel=1e-12)
    at = np.arange(1001)
    np.testing.assert_allclose(
        learning_rate(at, resolved), learning_rate(at, plan([{"warmup": "10%"}, *phases])), atol=1e-15
    )


STABLE = [{"stable": "100%"}]
LINEAR_10 = [{"stable": "90%"}, {"decay": "10%", "to": 0, "shape": "linear"}]
MASSES = [
    (STABLE, 10, 10, 10),
    ([{"decay": "100%", "to": 0, "shape": "cosine"}], 19.836, 1.127, 0.164),
    ([{"decay": "100%", "to": 0.1, "shape": "cosine"}], 18.048, 2.740, 1.952),
    ([{"decay": "100%", "to": 0, "shape": "linear"}], 19, 3, 1),
    (LINEAR_10, 10.526, 10.526, 5.263),
    ([{"stable": "80%"}, {"decay": "20%", "to": 0, "shape": "linear"}], 11.111, 8.333, 2.778),
    ([{"stable": "80%"}, {"decay": "20%", "to": 0}], 11.538, 6.099, 1.593),
    ([{"stable": "80%"}, {"decay": "20%", "to": "1/300"}], 11.533, 6.114, 1.625),
    ([{"stable": "80%"}, {"decay": "20%", "to": "1/3"}], 10.976, 7.526, 4.669),
    ([{"stable": "63%"}, {"decay": "37%", "to": "1/300"}], 13.260, 3.091, 0.982),
    ([{"stable": "82%"}, {"decay": "18%", "to": "1/300"}], 11.358, 7.333, 1.799),
    ([{"stable": "94%"}, {"decay": "6%", "to": "1/300"}], 10.415, 10.415, 6.263),
]


@pytest.mark.parametrize(("phases", "lowest", "ninth", "top"), MASSES)
def test_mass_per_decile_of_an_ascending_order(phases, lowest, ninth, top):
    mass = 100 * lr_mass(plan(phases, tokens=50_000), np.ones(50_000), np.arange(50_000))
    np.testing.assert_allclose([mass[0], mass[8], mass[9]], [lowest, ninth, top], atol=6e-4)
    assert mass.sum() == pytest.approx(100)


@pytest.mark.parametrize(
    ("phases", "kind", "top"),
    [
        (STABLE, "sma", 5.263),
        (STABLE, "ema", 4.884),
        (STABLE, "ema_debiased", 6.506),
        (STABLE, "wma", 6.897),
        ([{"stable": "80%"}, {"decay": "20%", "to": "1/3"}], "sma", 2.532),
    ],
)
def test_mass_with_averaging(phases, kind, top):
    resolved = plan(phases, tokens=50_000, average={"kind": kind, "last": 6, "window": "10%"})
    mass = 100 * lr_mass(resolved, np.ones(50_000), np.arange(50_000), average=kind)
    assert mass[9] == pytest.approx(top, abs=6e-4)


def test_averaging_a_constant_rate_counts_updates_like_the_dual_decay():
    resolved = plan(STABLE, average={"kind": "sma", "last": 6, "window": "10%"})
    rates = averaged_step_rates(resolved, "sma")
    assert (rates[:900] == 1).all() or np.allclose(rates[:900], 1)
    np.testing.assert_allclose(rates[900::20], [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_unscored_visits_are_left_out_and_none_scored_is_refused():
    mass = lr_mass(plan(STABLE), [100] * 10, [np.nan, *range(9)])
    np.testing.assert_allclose(mass, 0.1)
    with pytest.raises(ConfigError, match="no quality deciles"):
        lr_mass(plan(STABLE), [1000], [np.nan])


@settings(max_examples=50)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_any_order_at_a_constant_rate_has_equal_mass_in_each_decile(lengths, seed):
    scores = np.random.default_rng(seed).integers(0, 5, len(lengths))
    np.testing.assert_allclose(lr_mass(plan(STABLE), lengths, scores), 0.1)
