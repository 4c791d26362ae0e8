"""Schedules refined from gradient norms: the published rule, its guards, and norms read from a finished run."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from corpus.config import validated
from corpus.errors import ConfigError, InputError
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.metrics import Metrics
from trainer_hooks.plan import Plan
from trainer_hooks.refined import POINTS, refine, refined_schedule, refined_values
from trainer_hooks.resolution import resolve

GOLDEN = [
    ([4, 2, 1, 1, 1], "l2", [0.10156, 0.375, 1, 0.5, 0]),
    ([4, 2, 1, 1, 1], "l1", [0.4375, 0.75, 1, 0.5, 0]),
    ([1, 2, 1, 2, 1], "l2", [1, 0.225, 0.5, 0.1, 0]),
    ([1, 2, 1, 2, 1], "l1", [1, 0.4167, 0.5, 0.1667, 0]),
]


@pytest.mark.parametrize(("norms", "norm", "rates"), GOLDEN)
def test_golden_values_of_the_bare_rule(norms, norm, rates):
    np.testing.assert_allclose(refine(np.array(norms), norm), rates, atol=5e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("steps", [20, 333, 20_000])
def test_constant_norms_give_linear_decay(norm, steps):
    np.testing.assert_allclose(refined_values(np.full(steps, 0.7), norm), np.linspace(1, 0, POINTS), atol=2 / POINTS)


def test_without_smoothing_and_guards_the_values_are_the_bare_rule():
    norms = np.exp(np.random.default_rng(0).normal(size=POINTS + 4))
    values = refined_values(norms, "l2", smoothing=0, longest_warmup=1, drop_last=0)
    bare = refine(norms[2:-2], "l2")
    peak = bare.argmax()
    np.testing.assert_allclose(values[: peak + 1], bare[: peak + 1], rtol=1e-9)
    np.testing.assert_allclose(values[peak:], np.minimum.accumulate(bare[peak:]), rtol=1e-9, atol=1e-12)


def test_smoothing_is_the_published_median_filter():
    norms = np.exp(np.random.default_rng(1).normal(size=POINTS + 4))
    values = refined_values(norms, "l1", longest_warmup=1, drop_last=0)
    padded = np.pad(norms[2:-2], (0, 2002), mode="reflect")
    bare = refine(median_filter(padded, size=1001, mode="nearest")[:-2002], "l1")
    peak = bare.argmax()
    np.testing.assert_allclose(values[: peak + 1], bare[: peak + 1], rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-3, 3), st.sampled_from(["l1", "l2"]), st.floats(0.02, 0.5))
def test_whatever_the_norms_the_rate_rises_no_longer_than_allowed_and_ends_at_0(seed, trend, norm, longest):
    t = np.linspace(0, 1, 400)
    norms = np.exp(trend * t + np.random.default_rng(seed).normal(size=400) / 4)
    values = refined_values(norms, norm, longest_warmup=longest)
    assert values.min() == values[-1] == 0
    assert values.max() == 1
    assert values.argmax() <= longest * POINTS
    assert np.all(np.diff(values[values.argmax() :]) <= 0)


def test_a_collapse_of_the_last_norms_does_not_raise_the_rate_again():
    norms = np.ones(1000)
    norms[-150:] = 0.05
    assert refine(norms, "l2").argmax() > 800
    values = refined_values(norms, "l2")
    assert values.argmax() <= POINTS // 10
    assert np.all(np.diff(values[values.argmax() :]) <= 0)
    late = np.ones(1000)
    late[-20:] = 1e-3
    np.testing.assert_allclose(refined_values(late, "l2"), refined_values(np.ones(1000), "l2"), atol=1e-9)


def test_norms_that_are_not_finite_are_left_out_and_too_few_are_refused():
    norms = np.full(40, 2.0)
    norms[[5, 17]] = np.nan, np.inf
    np.testing.assert_allclose(refined_values(norms, "l1"), refined_values(np.full(38, 2.0), "l1"))
    for bad in ([1.0] * 13, [0.0] * 100):
        with pytest.raises(ConfigError, match="at least 10 gradient norms"):
            refined_values(np.array(bad), "l1")
    with pytest.raises(ConfigError, match="cannot be smoothed so"):
        refined_values(np.ones(100), "l1", smoothing=0.5)


@pytest.fixture
def folder(tmp_path):
    """What a finished run leaves: metrics of 200 steps with both norms and an evaluation, and its plan."""
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"resolved": {"step_tokens": 64, "steps": 200}}))
    metrics = Metrics(tmp_path, 0)
    for step in range(1, 201):
        norm = 1 + 4 * float(np.exp(-step / 10))
        metrics.write({"step": step, "tokens": 64 * step, "loss": 2.0, "grad_norm": norm, "grad_l1": 30 * norm})
    metrics.write({"step": 200, "tokens": 200 * 64, "heldout": {"web": 2.0}})
    metrics.close()
    return tmp_path


def test_a_run_gives_a_schedule_that_a_plan_keeps(folder):
    refined = refined_schedule(folder)
    assert (len(refined.values), refined.step_tokens, max(refined.values)) == (1001, 64, 1)
    assert refined.values[0] < 0.9
    assert refined == refined_schedule(folder)
    assert refined.norms != refined_schedule(folder, "l2").norms
    data = {"tokens": 6400, "sequence_length": 16, "batch_sequences": 4, "peak_lr": 0.01}
    written = yaml.safe_load(yaml.safe_dump({**data, "schedule": refined.model_dump(mode="json")}))
    resolved = resolve(validated(Plan, written, "plan"))
    assert resolved.phases[0].norms == refined.norms
    rates = step_learning_rates(resolved)
    assert 0 < rates[-1] < rates[0] < rates.max() <= 0.01


def test_an_unfinished_run_or_one_without_the_norm_is_refused(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines).replace("grad_l1", "grad_other"))
    with pytest.raises(InputError, match="has not written grad_l1"):
        refined_schedule(folder)
    (folder / "metrics.jsonl").write_text("".join(lines[:100]))
    with pytest.raises(InputError, match="a finished run, and this one is not"):
        refined_schedule(folder, "l2")
