"""Hooks on several ranks do what they do on one, whether the model is copied or cut, and resume at another number."""

import math

import pytest
from hook_runs import QUICK, events_of, steps_of, train_with
from test_ranks import on_ranks

pytestmark = pytest.mark.slow

HOOKS = [
    "source_loss",
    "quality_loss",
    "grad_l1",
    {"kind": "migu", "mode": "freeze_masked", "after": 4 * 64},
    {"kind": "nap", "scales": "joint", "every": 2},
    {"kind": "spikes", "rule": "ratio", "limit": 1.02, "warmup": 6, "window": 8},
    {"kind": "hypergradient", "direction": "gradient", "beta": 0.05},
    {"kind": "hypergradient", "beta": 0.02},
    "stop_file",
]
SEARCH = [{"kind": "lr_search", "stage": 8 * 64, "trial": 0.5, "candidates": 3}]


@pytest.fixture(scope="module")
def alone(workspace, tiny, tmp_path_factory):
    return steps_of(train_with(workspace, tiny, tmp_path_factory.mktemp("alone") / "run", HOOKS).folder)


def assert_alike(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"skipped"}:
            assert math.isclose(ours[key], theirs[key], rel_tol=1e-4, abs_tol=1e-5), (ours["step"], key)


@pytest.mark.parametrize("spreading", ["fsdp", "ddp"])
def test_hooks_on_two_ranks_are_those_of_one(workspace, tmp_path, alone, spreading):
    on_ranks(2, workspace, tmp_path / "run", spreading=spreading, hooks=HOOKS, **QUICK)
    assert_alike(steps_of(tmp_path / "run"), alone)
    assert any("skipped" in line for line in alone)


def test_hooks_go_on_at_another_number_of_ranks(workspace, tiny, tmp_path, alone):
    on_ranks(2, workspace, tmp_path / "run", last=9, hooks=HOOKS, **QUICK)
    assert len(steps_of(tmp_path / "run")) < 24
    resumed = train_with(workspace, tiny, tmp_path / "run", HOOKS)
    assert resumed.resumed_from
    assert_alike(steps_of(tmp_path / "run"), alone)


def test_every_rank_chooses_the_rate_that_one_would(workspace, tiny, tmp_path):
    on_ranks(2, workspace, tmp_path / "two", hooks=SEARCH, **QUICK)
    train_with(workspace, tiny, tmp_path / "one", SEARCH)
    assert_alike(steps_of(tmp_path / "two"), steps_of(tmp_path / "one"))
    for two, one in zip(*(events_of(tmp_path / name, "lr_search") for name in ("two", "one")), strict=True):
        assert [factor for factor, _ in two["tried"]] == pytest.approx([factor for factor, _ in one["tried"]])
