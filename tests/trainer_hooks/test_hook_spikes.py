"""Spikes are left out, a change of the data is not, and the window survives a kill."""

import json
import math

import numpy as np
import pytest
from hook_runs import assert_resumes, events_of, small_run, steps_of, train_with
from torch import nn

from trainer_hooks.hooks.kinds import Spikes
from trainer_hooks.hooks.spikes import median_and_spread


def vetoes(tiny, hook, losses, norms=None) -> list[str | None]:
    """What the hook says of each step."""
    run, said = small_run(tiny, nn.Linear(1, 1)), []
    for step, loss in enumerate(losses):
        run.step, run.loss, run.grad_norm = step, loss, 1.0 if norms is None else norms[step]
        said.append(hook.veto(run))
    return said


def test_median_and_spread_by_hand():
    assert median_and_spread([1.0, 2.0, 3.0, 4.0, 100.0]) == (3.0, pytest.approx(1.4826))
    assert median_and_spread([2.0, 2.0, 2.0]) == (2.0, pytest.approx(0.002))


def test_a_spike_of_either_signal_is_left_out_and_says_why(tiny):
    rng = np.random.default_rng(0)
    losses, norms = (3 + 0.1 * rng.standard_normal(60)).tolist(), (1 + 0.1 * rng.standard_normal(60)).tolist()
    losses[30], norms[40], losses[5] = 9.0, 7.0, 9.0  # the sixth step is before the first judgement
    hook = Spikes(warmup=10, window=20, limit=8).make()
    said = vetoes(tiny, hook, losses, norms)
    assert [step for step, reason in enumerate(said) if reason] == [30, 40]
    assert said[30].startswith("spike: loss 9 is")
    assert "grad_norm 7" in said[40]
    assert hook.state()["left_out"] == 2
    assert all(9.0 not in window and 7.0 not in window for window in hook.state()["windows"].values())
    assert [len(window) for window in hook.state()["windows"].values()] == [20, 20]


def test_the_ratio_rule_has_its_border_at_the_limit(tiny):
    settings = Spikes(rule="ratio", limit=2, warmup=4, window=4, watch=("loss",))
    assert vetoes(tiny, settings.make(), [1, 1, 1, 1, 2.0])[-1] is None
    assert "2.01 times the median" in vetoes(tiny, settings.make(), [1, 1, 1, 1, 2.01])[-1]
    assert vetoes(tiny, settings.make(), [1, 1, 1, 1, 0.01])[-1] is None  # a fall is no spike


def test_after_some_in_a_row_the_data_have_changed(tiny):
    hook = Spikes(rule="ratio", limit=2, warmup=3, window=5, most_in_a_row=2, watch=("loss",)).make()
    said = vetoes(tiny, hook, [1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 20, 5])
    assert [step for step, reason in enumerate(said) if reason] == [5, 6, 11]
    assert hook.state()["windows"]["loss"] == [5, 5, 5, 5, 5]


def test_what_is_not_finite_is_left_to_the_plan_and_enters_no_window(tiny):
    hook = Spikes(warmup=2, window=4).make()
    assert vetoes(tiny, hook, [1.0, 1.0, math.nan, math.inf]) == [None] * 4
    assert hook.state()["windows"]["loss"] == [1.0, 1.0]


def test_state_is_json_and_a_loaded_hook_goes_on_alike(tiny):
    rng = np.random.default_rng(1)
    losses = (3 + rng.standard_cauchy(80)).tolist()
    settings = Spikes(warmup=5, window=16, limit=4)
    whole = vetoes(tiny, settings.make(), losses)
    first, second = settings.make(), settings.make()
    before = vetoes(tiny, first, losses[:37])
    second.load(json.loads(json.dumps(first.state())), {})
    assert before + vetoes(tiny, second, losses[37:]) == whole
    assert any(whole)


def test_in_a_run_a_step_left_out_is_counted_and_moves_nothing(workspace, tiny, tmp_path):
    hooks = [{"kind": "spikes", "rule": "ratio", "limit": 1.0001, "warmup": 4, "window": 8, "most_in_a_row": 2}]
    run = assert_resumes(workspace, tiny, tmp_path, hooks, cuts=(14,))
    left_out = [line["step"] for line in steps_of(run.folder) if "skipped" in line]
    assert left_out
    assert [event["reason"] for event in events_of(run.folder, "skipped")] == [
        line["skipped"] for line in steps_of(run.folder) if "skipped" in line
    ]
    plain = train_with(workspace, tiny, tmp_path / "plain", [])
    losses = [[line["loss"] for line in steps_of(folder)] for folder in (run.folder, plain.folder)]
    first = left_out[0]
    assert losses[0][:first] == losses[1][:first]
    assert losses[0][first:] != losses[1][first:]
