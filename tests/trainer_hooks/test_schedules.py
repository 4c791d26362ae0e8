"""Named schedules: the golden values of every one, from the literature's formulas, and what they warn of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import validated
from trainer_hooks.curves import learning_rate, learning_rate_integral, step_learning_rates
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.resolution import resolve

AT = [50, 100, 325, 550, 775, 850, 900, 950, 1000]
INFINITE = {"warmup": 100, "cooldown": 400, "anneal": 150, "hold": 0.55, "to": 0.1}
NO_TAIL = {"kind": "power_normalised", "warmup": 100, "decay": 0}
GOLDEN = [
    ({"kind": "constant", "warmup": 100}, [0.5, 1, 1, 1, 1, 1, 1, 1, 1], 0.95),
    ({"kind": "cosine", "warmup": 100}, [0.5, 1, 0.8682, 0.55, 0.2318, 0.1603, 0.1271, 0.1068, 0.1], 0.545),
    ({"kind": "d2z", "warmup": 100}, [0.5, 1, 0.75, 0.5, 0.25, 0.1667, 0.1111, 0.0556, 0], 0.5),
    ({"kind": "linear", "warmup": 100, "to": 0}, [0.5, 1, 0.75, 0.5, 0.25, 0.1667, 0.1111, 0.0556, 0], 0.5),
    (
        {"kind": "wsd", "warmup": 100, "to": 0, "shape": "linear"},
        [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0],
        0.85,
    ),
    ({"kind": "wsd", "warmup": 100, "to": 0}, [0.5, 1, 1, 1, 1, 0.5, 0.2929, 0.1340, 0], 0.8167),
    ({"kind": "wsd", "warmup": 100}, [0.5, 1, 1, 1, 1, 0.5017, 0.2953, 0.1369, 0.0033], 0.8171),
    ({"kind": "wsd", "warmup": 100, "to": "1/3"}, [0.5, 1, 1, 1, 1, 0.6667, 0.5286, 0.4226, 0.3333], 0.8611),
    (
        {"kind": "wsd", "warmup": 100, "to_lr": 0.01, "shape": "exponential"},
        [0.5, 1, 1, 1, 1, 0.3162, 0.1, 0.0316, 0.01],
        0.7930,
    ),
    (
        {"kind": "inverse_sqrt", "warmup": 100},
        [0.5, 1, 0.5547, 0.4264, 0.3592, 0.3430, 0.3333, 0.3244, 0.3162],
        0.4825,
    ),
    (
        {"kind": "inverse_sqrt", "warmup": 100, "floor": 0.1, "floor_form": "added"},
        [0.5, 1, 0.5992, 0.4838, 0.4233, 0.4087, 0.4, 0.3920, 0.3846],
        0.5292,
    ),
    (NO_TAIL, [0.5, 1, 0.5482, 0.4192, 0.3519, 0.3357, 0.3261, 0.3172, 0.3090], 0.4766),
    (
        {"kind": "infinite_cosine", **INFINITE},
        [0.5, 1, 0.7311, 0.55, 0.55, 0.55, 0.3116, 0.1765, 0.1],
        0.5921,
    ),
    (
        {"kind": "infinite_inverse_sqrt", **INFINITE},
        [0.5, 1, 0.6061, 0.55, 0.55, 0.55, 0.3116, 0.1765, 0.1],
        0.5438,
    ),
]


def plan(schedule, tokens=1000, step=1, peak=1.0, **more) -> ResolvedPlan:
    data = {"tokens": tokens, "sequence_length": step, "batch_sequences": 1, "peak_lr": peak, "schedule": schedule}
    return resolve(validated(Plan, {**data, "eval_every": "50%", "checkpoint_every": "50%", **more}, "plan"))


@pytest.mark.parametrize(("schedule", "values", "mean"), GOLDEN, ids=lambda value: str(value)[:40])
def test_golden_schedules(schedule, values, mean):
    resolved = plan(schedule)
    np.testing.assert_allclose(learning_rate(AT, resolved), values, atol=5.1e-5)
    assert learning_rate_integral(1000, resolved) / 1000 == pytest.approx(mean, abs=5.1e-5)


@pytest.mark.parametrize(
    ("schedule", "mean"),
    [("d2z", 0.5), ("cosine", 0.55), ({"kind": "wsd", "decay": "10%", "to": 0, "shape": "linear"}, 0.95),
     ({"kind": "wsd", "to": 0}, 0.8667)],
)  # fmt: skip
def test_means_without_a_warm_up_which_then_begins_at_the_peak(schedule, mean):
    resolved = plan({**(schedule if isinstance(schedule, dict) else {"kind": schedule}), "warmup": 0})
    assert learning_rate(0, resolved) == 1
    assert learning_rate_integral(1000, resolved) / 1000 == pytest.approx(mean, abs=5e-5)


def test_defaults_are_those_of_the_literature():
    ends = {
        "constant": [("warmup", 1), ("stable", 100)],
        "cosine": [("warmup", 1), ("decay", 100)],
        "d2z": [("warmup", 1), ("decay", 100)],
        "wsd": [("warmup", 1), ("stable", 80), ("decay", 100)],
        "rewarm": [("warmup", 1), ("decay", 100)],
        "infinite_cosine": [("warmup", 1), ("decay", 61), ("stable", 85), ("decay", 100)],
        "infinite_inverse_sqrt": [("warmup", 1), ("decay", 61), ("stable", 85), ("decay", 100)],
        "inverse_sqrt": [("warmup", 1), ("power_law", 100)],
        "power": [("warmup", 1), ("power_law", 90), ("decay", 100)],
        "power_normalised": [("warmup", 1), ("power_law", 90), ("decay", 100)],
    }
    for kind, expected in ends.items():
        resolved = plan(kind, tokens=10_000, peak=0.02)
        assert [(phase.kind, phase.end / 100) for phase in resolved.phases] == expected, kind


def test_wsd_s_jumps_back_to_the_peak_and_at_last_holds():
    resolved = plan({"kind": "wsd_s", "warmup": 100, "periods": [400, 300, 300]})
    at = [50, 100, 360, 380, 399, 400, 670, 685, 700, 985, 1000]
    golden = [0.5, 1, 1, 0.55, 0.1225, 1, 1, 0.55, 1, 0.55, 0.1]
    np.testing.assert_allclose(learning_rate(at, resolved), golden, atol=1e-12)
    assert [phase.start for phase in resolved.phases if phase.jump] == [400, 700]
    assert not any(phase.reset_optimizer for phase in resolved.phases)
    held = plan({"kind": "wsd_s", "warmup": 0, "periods": ["40%", "30%"], "peaks": [1, 0.5]})
    np.testing.assert_allclose(learning_rate([0, 400, 699.999, 700, 1000], held), [1, 0.5, 0.1, 0.1, 0.1], atol=1e-4)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(500, 5000))
def test_equal_periods_never_drift(n, tokens):
    resolved = plan({"kind": "wsd_s", "periods": [1 / n] * n}, tokens=tokens, step=4)
    starts = [0, *(phase.start for phase in resolved.phases if phase.jump)]
    np.testing.assert_allclose(starts, np.arange(n) * tokens / n, atol=2.51)


def test_rewarming_is_a_cosine_of_its_own_for_each_data_set():
    alone = plan({"kind": "rewarm"}, peak=3e-4)
    golden = [1.5e-4, 3e-4, 2.606e-4, 1.65e-4, 6.969e-5, 3e-5]
    np.testing.assert_allclose(learning_rate([5, 10, 257, 505, 752, 1000], alone), golden, rtol=2e-4)
    twice = plan({"kind": "rewarm", "data": [1000, 1000]}, tokens=2000, peak=3e-4)
    np.testing.assert_allclose(
        learning_rate([1005, 1010, 1257, 2000], twice), np.array(golden)[[0, 1, 2, 5]], rtol=2e-4
    )
    assert [(phase.start, phase.jump, phase.reset_optimizer) for phase in twice.phases][2] == (1000, True, True)
    assert sum(phase.jump or phase.reset_optimizer for phase in twice.phases) == 1
    kept = plan({"kind": "rewarm", "data": ["50%", "50%"], "reset_optimizer": False})
    assert not any(phase.reset_optimizer for phase in kept.phases)


@pytest.mark.parametrize(
    ("sequences", "values"),
    [
        (128, {1e8: 0.02, 1e9: 0.01316, 1e10: 0.004067, 1e11: 0.001257}),
        (1024, {1e11: 0.01005, 1e12: 0.003107, 1e13: 9.60e-4}),
    ],
)
def test_the_power_schedule_of_2408_13359(sequences, values):
    resolved = plan(
        {"kind": "power", "warmup": "10M", "decay": 0}, tokens=10**13, step=4096, peak=0.02, batch_sequences=sequences
    )
    np.testing.assert_allclose(learning_rate(list(values), resolved), list(values.values()), rtol=5e-4)


@pytest.mark.parametrize(("sequences", "billions"), [(32, 0.029), (128, 0.44), (512, 6.67), (1024, 26.0)])
def test_the_peak_caps_the_power_schedule_until_its_law_falls_below(sequences, billions):
    schedule = {"kind": "power", "warmup": 0}
    resolved = plan(schedule, tokens=10**12, step=4096, peak=0.02, batch_sequences=sequences)
    assert learning_rate(billions * 0.98e9, resolved) == 0.02
    assert learning_rate(billions * 1.02e9, resolved) < 0.02
    longer_context = plan(schedule, tokens=10**12, step=8192, peak=0.02, batch_sequences=sequences // 2)
    assert longer_context.phases == resolved.phases


def test_a_power_schedule_whose_warm_up_is_long_never_reaches_the_peak():
    resolved = plan({"kind": "power", "warmup": "1B"}, tokens=10**10, step=4096, peak=0.02, batch_sequences=128)
    warm_up = resolved.phases[0]
    assert warm_up.lr_end == pytest.approx(128 * 4 * warm_up.end**-0.51)
    assert learning_rate(8.9e9, resolved) == pytest.approx(128 * 4 * 8.9e9**-0.51, rel=1e-6)
    assert resolved.phases[-1].lr_end == pytest.approx(1e-3 * 128 * 4 * 1e10**-0.51)


def test_the_anytime_schedule_with_and_without_a_warm_up():
    schedule = {"kind": "anytime", "alpha": 100}
    golden = [1, 0.7071, 0.5, 0.3162]
    np.testing.assert_allclose(learning_rate([0, 100, 300, 900], plan({**schedule, "warmup": 0})), golden, atol=5e-5)
    np.testing.assert_allclose(learning_rate([50, 150, 350, 950], plan({**schedule, "warmup": 50})), golden, atol=5e-5)


def test_floors_of_the_inverse_square_root():
    floored = plan({"kind": "inverse_sqrt", "warmup": 100, "floor": 0.35})
    np.testing.assert_allclose(learning_rate([325, 775, 850, 1000], floored), [0.5547, 0.3592, 0.35, 0.35], atol=5e-5)
    mean = step_learning_rates(floored).mean()
    assert learning_rate_integral(1000, floored) / 1000 == pytest.approx(mean, abs=1e-5)


def test_a_refined_schedule_is_its_table():
    refined = {"kind": "refined", "values": [0.2, 1, 0.5, 0], "norms": "0123456789abcdef", "step_tokens": 1}
    resolved = plan(refined, tokens=900, peak=2.0)
    np.testing.assert_allclose(learning_rate([0, 150, 300, 450, 750, 900], resolved), [0.4, 1.2, 2, 1.5, 0.5, 0])
    assert step_learning_rates(resolved).sum() == pytest.approx(learning_rate_integral(900, resolved))
    assert resolved.phases[0].norms == "0123456789abcdef"
    assert ResolvedPlan.model_validate_json(resolved.model_dump_json()) == resolved


@pytest.mark.parametrize(
    ("schedule", "more", "warning"),
    [
        ("power", {}, "width-scaled parametrisation"),
        ("power", {"peak": 1e-6, "step": 4}, "stays at its cap"),
        ({"kind": "anytime", "alpha": 100}, {}, "averages nothing"),
        ({"kind": "refined", "values": [1, 0], "norms": "x", "step_tokens": 7}, {}, "batches of 7 tokens"),
    ],
)
def test_what_is_to_be_known_before_is_in_the_resolved_plan(schedule, more, warning):
    assert any(warning in said for said in plan(schedule, **more).warnings)


def test_a_schedule_that_is_used_as_published_warns_of_nothing():
    average = {"kind": "sma", "last": 2, "window": 100}
    assert not plan({"kind": "anytime", "alpha": 100}, average=average).warnings
    assert not plan({"kind": "refined", "values": [1, 0], "norms": "x", "step_tokens": 1}).warnings
    assert not plan("wsd").warnings
