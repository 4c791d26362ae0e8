"""Presets of plans: each can be followed as it stands, what is written beside it wins, its figures are the source's."""

import pytest

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.plan import Plan
from trainer_hooks.plan_presets import PRESETS, plan_preset, preset_plan
from trainer_hooks.resolution import resolve

SIZES = {"sequence_length": 16, "batch_sequences": 4, "peak_lr": 0.01}
TOKENS = 200 * 64


def plan_of(data):
    return validated(Plan, data, "plan")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_plan_that_resolves(name):
    resolved = resolve(plan_of(preset_plan(name, TOKENS, **SIZES)))
    assert resolved.steps == 200
    rates = step_learning_rates(resolved)
    assert max(phase.lr_end for phase in resolved.phases) == pytest.approx(0.01)
    assert rates.min() > 0
    assert all(average.marks[-1] <= resolved.tokens for average in resolved.averages.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_file_that_names_a_preset_is_the_plan_of_its_fields(name):
    written = plan_of({"preset": name, "tokens": "12.8K", **SIZES})
    assert written == plan_of(preset_plan(name, TOKENS, **SIZES))
    assert plan_of(written.model_dump(mode="json")) == written


@pytest.mark.parametrize(
    ("size", "peak", "epochs", "decay"),
    [("150m", 3e-3, 16, 0.8), ("300m", 3e-3, 16, 1.6), ("600m", 1e-3, 8, 3.2), ("1400m", 1e-3, 8, 3.2)],
)
def test_infinite_compute_reads_its_data_many_times_under_strong_decay(size, peak, epochs, decay):
    plan = plan_of({"preset": f"infinite_compute_{size}", "unique_tokens": "200M"})
    assert (plan.tokens, plan.peak_lr, plan.optimizer.weight_decay) == (epochs * 200_000_000, peak, decay)


@pytest.mark.parametrize(
    ("name", "last"), [("cma", 1.0), ("cdma", 1 / 3), ("wsd", 1 / 300), ("pma", 1.0), ("wsm", 1.0)]
)
def test_where_the_rate_ends(name, last):
    resolved = resolve(plan_of(preset_plan(name, TOKENS, **SIZES)))
    assert resolved.phases[-1].lr_end == pytest.approx(0.01 * last)


def test_curricula_average_six_checkpoints_by_both_published_rules():
    averages = resolve(plan_of(preset_plan("cdma", TOKENS, **SIZES))).averages
    assert {name: len(average.marks) for name, average in averages.items()} == {"sma": 6, "ema": 6}
    assert averages["ema"].coefficients == pytest.approx((0.32768, 0.08192, 0.1024, 0.128, 0.16, 0.2))


def test_what_is_written_beside_a_preset_wins():
    plan = plan_of({"preset": "cdma", "tokens": TOKENS, **SIZES, "average": "none", "grad_clip": 0.5})
    assert (plan.average, plan.grad_clip) == ({}, 0.5)
    assert plan.phases == plan_of(preset_plan("cdma", TOKENS, **SIZES)).phases
    scheduled = plan_of({"preset": "cma", "tokens": TOKENS, **SIZES, "schedule": "wsd"})
    assert scheduled.schedule is not None
    assert scheduled.phases == ()
    assert set(scheduled.average) == {"sma", "ema"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"preset": "cdam", "tokens": 100}, "there is no preset 'cdam' of a plan; did you mean 'cdma'"),
        ({"preset": "cma", "unique_tokens": "2M"}, "no number of epochs"),
        ({"preset": "infinite_compute_150m", "unique_tokens": "2M", "tokens": "2M"}, "and tokens as well"),
        ({"preset": "cma", "tokens": 100}, "'peak_lr' is missing"),
        ({"preset": "infinite_compute_150m"}, "'tokens' is missing"),
        ({"preset": "cma", "tokens": 100, "peek_lr": 1}, "did you mean 'peak_lr'"),
        ({"unique_tokens": 5, "tokens": 100, "peak_lr": 1}, "unknown key 'unique_tokens'"),
    ],
)
def test_what_cannot_be_followed_is_named(data, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(data)


def test_each_says_where_it_comes_from():
    for name in PRESETS:
        preset = plan_preset(name)
        assert preset.source.startswith("arXiv ")
        assert preset.evidence
        assert preset.mark in ("paper", "secondary")
