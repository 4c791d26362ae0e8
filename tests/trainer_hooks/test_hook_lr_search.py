"""The search controller: forecasts, candidates, exact restore, and what a resume does at each point of a stage."""

import itertools
import math

import numpy as np
import pytest
from hook_runs import Cut, assert_resumes, events_of, steps_of, tensors_of, train_with
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError, TaskError
from trainer_hooks.hooks.gaussian_process import GRID, lowest_bound, posterior
from trainer_hooks.hooks.loss_forecast import fit_decay, forecast, without_outliers
from trainer_hooks.run import Run

SEARCH = {"kind": "lr_search", "stage": 8 * 64, "longest": 16 * 64, "trial": 0.5, "candidates": 3}
T = np.arange(100.0)


def curve(a: float, b: float, c: float, t: np.ndarray = T) -> np.ndarray:
    return a * np.exp(b * t) + c


def test_golden_forecast_of_the_reference():
    a, b, c = fit_decay(T, curve(2, -0.01, 1.5))
    assert (a, b, c) == pytest.approx((2, -0.01, 1.5), abs=1e-6)
    assert forecast(curve(2, -0.01, 1.5), 1000) == pytest.approx(1.50009, abs=2e-6)


@given(st.floats(0.1, 5), st.floats(-0.2, -0.005), st.floats(-2, 5))
def test_any_exponential_fall_is_recovered(a, b, c):
    assert fit_decay(T, curve(a, b, c)) == pytest.approx((a, b, c), rel=1e-4, abs=1e-4)


def test_outliers_are_left_out_before_the_fit():
    losses = curve(2, -0.05, 1.5) + 0.001 * np.random.default_rng(0).standard_normal(100)
    spoiled = losses.copy()
    spoiled[[10, 40, 41, 77]] += 3.0
    kept, _ = without_outliers(T, spoiled)
    assert not {10, 40, 41, 77} & set(kept.astype(int).tolist())
    assert forecast(spoiled, 1000) == pytest.approx(1.5, abs=0.005)
    assert abs(curve(*fit_decay(T, spoiled), np.array([1000.0]))[0] - 1.5) > 0.03


def test_a_run_that_diverged_is_worse_than_any_and_a_few_losses_are_averaged():
    assert forecast([3.0, math.nan, 2.0, 1.0, 1.0], 100) == math.inf
    assert forecast([3.0, 2.0], 100) == 2.5


def test_the_process_goes_through_what_was_measured_and_is_unsure_elsewhere():
    x, y = np.array([0.0, 0.4, 1.0]), np.array([3.0, 2.0, 5.0])
    mean, deviation = posterior(x, y, np.array([0.0, 0.4, 1.0, 0.7]))
    assert mean[:3] == pytest.approx(y, abs=0.01)
    assert deviation[:3].max() < 0.02 < deviation[3]


def test_candidates_explore_and_with_a_small_kappa_close_in_on_the_best():
    def sought(kappa: float) -> list[float]:
        x, y = [0.5], [0.04]
        for _ in range(9):
            x.append(lowest_bound(np.array(x), np.array(y), kappa))
            y.append((x[-1] - 0.3) ** 2)
        return x

    explored = sorted(sought(1e6))
    assert max(b - a for a, b in itertools.pairwise(explored)) <= 0.25
    assert explored[0] == 0.0
    assert explored[-1] == 1.0
    assert sum(abs(x - 0.3) < 0.05 for x in sought(1.0)) >= 4
    assert len(set(sought(0.0))) == 10  # nothing is measured twice
    assert all(np.isclose(GRID, x).any() for x in explored)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "apollo", "frugal", "schedule_free"])
def test_with_one_candidate_a_run_is_the_plain_run_bit_for_bit(workspace, tiny, tmp_path, optimizer):
    changes = {"optimizer": optimizer, **({"phases": [{"stable": "100%"}]} if optimizer == "schedule_free" else {})}
    searched = train_with(workspace, tiny, tmp_path / "searched", [{**SEARCH, "candidates": 1}], **changes)
    plain = train_with(workspace, tiny, tmp_path / "plain", [], **changes)
    stages = events_of(searched.folder, "lr_search")
    assert [stage["trial_steps"] for stage in stages] == [4, 12]  # trials of 4 and 8 steps were taken, and taken back
    for ours, planned in zip(steps_of(searched.folder), steps_of(plain.folder), strict=True):
        assert ours == planned | {"lr_search/factor": 1.0}
    a, b = tensors_of(searched.checkpoint), tensors_of(plain.checkpoint)
    assert a.keys() == b.keys()
    assert all((a[name] == b[name]).all() for name in a)


def test_each_stage_is_trained_with_the_best_of_its_candidates(workspace, tiny, tmp_path):
    run = train_with(workspace, tiny, tmp_path / "run", [{**SEARCH, "candidates": 5}])
    plain = train_with(workspace, tiny, tmp_path / "plain", [])
    stages = events_of(run.folder, "lr_search")
    assert [(stage["step"], stage["until"]) for stage in stages] == [(0, 8), (8, 24)]
    assert [stage["objective"] for stage in stages] == ["training loss", "held-out loss"]
    for stage in stages:
        tried = dict(map(tuple, stage["tried"]))
        assert len(tried) == 5
        assert next(iter(tried)) == 1.0
        assert all(0.03 <= factor <= 3.0 for factor in tried)
        assert tried[stage["factor"]] == min(tried.values())
    for line, planned in zip(steps_of(run.folder), steps_of(plain.folder), strict=True):
        assert line["lr_search/factor"] == stages[line["step"] > 8]["factor"]
        assert line["lr"] == planned["lr"] * line["lr_search/factor"]


def test_candidates_read_the_same_batches_and_the_run_reads_them_again(workspace, tiny, tmp_path, monkeypatch):
    read: list[int] = []
    read_batch = Run.read_batch
    monkeypatch.setattr(Run, "read_batch", lambda run, number: read.append(number) or read_batch(run, number))
    train_with(workspace, tiny, tmp_path / "run", [SEARCH])
    assert read == [*range(4)] * 3 + [*range(8)] + [*range(8, 16)] * 3 + [*range(8, 24)]


@pytest.mark.parametrize("cuts", [(6, 12), (9,)])
def test_a_killed_run_resumes_to_the_same_bits(workspace, tiny, tmp_path, cuts):
    """Checkpoints come after every fourth step: within stages, which are not searched again, and at their ends."""
    run = assert_resumes(workspace, tiny, tmp_path, [SEARCH], cuts, checkpoint_every=4 * 64)
    assert len(events_of(run.folder, "lr_search")) == 2


def test_a_checkpoint_inside_a_stage_keeps_its_rate_and_one_at_its_end_starts_the_next(workspace, tiny, tmp_path):
    folder = tmp_path / "cut-13"
    with pytest.raises(Cut):
        train_with(workspace, tiny, folder, [SEARCH], cut=13, checkpoint_every=4 * 64)
    assert [event["step"] for event in events_of(folder, "lr_search")] == [0, 8]
    train_with(workspace, tiny, folder, [SEARCH], checkpoint_every=4 * 64)
    assert [event["step"] for event in events_of(folder, "lr_search")] == [0, 8]
    folder = tmp_path / "cut-9"  # the search at step 8 was after the checkpoint there: it is made again, alike
    with pytest.raises(Cut):
        train_with(workspace, tiny, folder, [SEARCH], cut=9, checkpoint_every=8 * 64)
    train_with(workspace, tiny, folder, [SEARCH], checkpoint_every=8 * 64)
    first, again = (event for event in events_of(folder, "lr_search") if event["step"] == 8)
    assert first["tried"] == again["tried"]


def test_the_search_has_its_part_of_the_plan_and_no_other(workspace, tiny, tmp_path):
    run = train_with(workspace, tiny, tmp_path / "run", [{**SEARCH, "after": 3 * 64, "until": 15 * 64}])
    assert [event["step"] for event in events_of(run.folder, "lr_search")] == [3, 11]
    assert ["lr_search/factor" in line for line in steps_of(run.folder)] == [3 <= step < 15 for step in range(24)]


def test_a_rest_too_short_for_a_trial_keeps_the_rate_before_it(workspace, tiny, tmp_path):
    run = train_with(workspace, tiny, tmp_path / "run", [{**SEARCH, "longest": 8 * 64, "until": 10 * 64}])
    first, rest = events_of(run.folder, "lr_search")
    assert (rest["step"], rest["searched"], rest["factor"]) == (8, False, first["factor"])


def test_rates_that_diverge_lose_and_where_all_do_the_run_says_so(workspace, tiny, tmp_path):
    wild = {"grad_clip": 1e30, "optimizer": {"kind": "adamw", "weight_decay": 0.0}, "peak_lr": 1e37}
    phases = [{"stable": "100%"}]
    with pytest.raises(TaskError, match="every learning rate tried at step 0 made the loss diverge"):
        train_with(workspace, tiny, tmp_path / "all", [SEARCH], phases=phases, **wild)
    low = {**SEARCH, "low": 1e-40, "high": 1.0}
    run = train_with(workspace, tiny, tmp_path / "some", [low], phases=phases, **wild)
    stage = events_of(run.folder, "lr_search")[0]
    assert stage["tried"][0] == [1.0, None]
    assert stage["factor"] < 1e-30
    assert all(math.isfinite(line["loss"]) for line in steps_of(run.folder))


def test_trials_too_short_to_forecast_from_are_refused(workspace, tiny, tmp_path):
    with pytest.raises(ConfigError, match="trials of 0 steps are too short"):
        train_with(workspace, tiny, tmp_path / "run", ["lr_search"])
