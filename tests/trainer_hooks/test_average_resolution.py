"""Averages resolved: whole steps counted back from the end, and refusals that say what to do."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.average_resolution import resolve_average
from trainer_hooks.phases import ResolvedPhase
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.resolution import resolve

WSD = [{"warmup": "2%"}, {"stable": "78%"}, {"decay": "20%", "to": "1/300"}]


def plan(average, phases=WSD, **more):
    data = {"tokens": "1M", "sequence_length": 100, "batch_sequences": 10, "peak_lr": 3e-3, "phases": phases}
    return validated(Plan, {**data, "average": average, **more}, "plan")


def marks_of(average, **more):
    (found,) = resolve(plan(average, **more)).averages.values()
    return found.marks


def test_every_kind_survives_saving():
    averages = {
        "sma": {"kind": "sma"}, "debiased": {"kind": "ema_debiased", "end": "50%"}, "curve": {"kind": "curve"},
        "weights": {"kind": "weights", "weights": [0.5, 0.5]}, "lawa": {"kind": "lawa"}, "pma": {"kind": "pma"},
        "tokens": {"kind": "step_ema", "half_life": "10K"}, "seen": {"kind": "step_ema", "half_life_seen": "10%"},
    }  # fmt: skip
    resolved = resolve(plan(averages))
    assert ResolvedPlan.model_validate_json(resolved.model_dump_json()) == resolved
    assert ResolvedPlan.model_validate(yaml.safe_load(yaml.safe_dump(resolved.model_dump(mode="json")))) == resolved
    for average in resolved.averages.values():
        marks, c = average.final()
        assert c.sum() == pytest.approx(1, abs=1e-12)
        assert len(marks) == len(c)
        assert all(average.takes(int(mark)) for mark in marks)
        assert json.loads(json.dumps(average.marks[-1])) == average.until


def test_windows_count_back_from_their_end():
    assert list(marks_of({"kind": "wma"})) == [900_000, 920_000, 940_000, 960_000, 980_000, 1_000_000]
    assert list(marks_of({"kind": "wma", "end": "80%", "last": 3})) == [700_000, 750_000, 800_000]
    assert list(marks_of({"kind": "sma", "last": 1})) == [1_000_000]
    assert list(marks_of({"kind": "weights", "weights": [0.25, 0.75], "window": "10K"})) == [990_000, 1_000_000]


def test_averages_of_equal_windows_share_their_checkpoints():
    kinds = ("sma", "ema", "ema_debiased", "wma", "curve")
    assert len({marks_of({"kind": kind, "window": "7%"}) for kind in kinds}) == 1


def test_sliding_means_lie_where_they_should():
    assert list(marks_of({"kind": "lawa", "every": "25%"})) == [250_000, 500_000, 750_000, 1_000_000]
    assert list(marks_of({"kind": "lawa", "every": "30%"})) == [100_000, 400_000, 700_000, 1_000_000]
    assert marks_of({"kind": "lawa", "every": "10%", "start": "50%"})[0] == 500_000
    pma = {"kind": "pma", "every": "10%"}
    assert (marks_of(pma)[0], marks_of(pma)[-1]) == (100_000, 800_000)
    assert marks_of({**pma, "until": "end"})[-1] == 1_000_000
    two = [{"stable": "40%"}, {"decay": "20%", "to": 0.5}, {"stable": "20%"}, {"decay": "20%", "to": 0}]
    assert list(marks_of({"kind": "pma", "every": "5%"}, phases=two)) == [600_000, 650_000, 700_000, 750_000, 800_000]


def test_means_of_every_step():
    every = marks_of({"kind": "step_ema", "half_life": "50K"})
    assert (every[0], every[-1], len(every)) == (1000, 1_000_000, 1000)
    assert marks_of({"kind": "step_ema", "half_life": "5%", "every": "10K"}).step == 10_000
    (found,) = resolve(plan({"kind": "step_ema", "half_life": "5%"})).averages.values()
    assert found.half_life == 50_000


def test_only_checkpoints_of_windows_stay():
    averages = {"w": {"kind": "sma"}, "many": {"kind": "sma", "saved": False}, "lawa": {"kind": "lawa"},
                "ema": {"kind": "step_ema", "half_life": "5%"}}  # fmt: skip
    resolved = resolve(plan(averages)).averages
    assert {name: average.saves(980_000) for name, average in resolved.items()} == {
        "w": True, "many": False, "lawa": False, "ema": False,
    }  # fmt: skip
    assert not resolved["w"].saves(970_000)


@given(st.integers(2, 20), st.integers(10, 90), st.integers(400, 5000))
def test_a_window_as_a_share_is_rounded_to_whole_distances(last, per_cent, steps):
    marks = marks_of({"kind": "sma", "last": last, "window": f"{per_cent}%"}, tokens=steps * 1000)
    assert len(marks) == last
    assert marks[-1] == steps * 1000
    assert marks[0] > 0
    assert all(mark % 1000 == 0 for mark in marks)
    assert abs((marks[-1] - marks[0]) - steps * 10 * per_cent) <= 500 * (last - 1)


REFUSED = [
    ({"kind": "sma", "last": 8, "window": 2000}, "do not fit"),
    ({"kind": "sma", "last": 2, "window": "100%"}, "do not fit"),
    ({"kind": "sma", "last": 6, "window": "12K"}, "does not divide"),
    ({"kind": "wma", "end": "2M"}, "ends outside"),
    ({"kind": "weights", "weights": [0.5, 0.6]}, "sum to 1"),
    ({"kind": "weights", "weights": [-0.5, 1.5]}, "one after the other"),
    ({"kind": "weights", "weights": []}, "at least 1"),
    ({"kind": "curve", "shape": "exponential"}, "cannot end at 0"),
    ({"kind": "curve", "last": 1}, "greater than or equal to 2"),
    ({"kind": "lawa", "every": 400}, "closer than half"),
    ({"kind": "lawa", "start": "2M"}, "no mark"),
    ({"kind": "step_ema"}, "exactly one of"),
    ({"kind": "step_ema", "half_life": "10K", "half_life_seen": 0.1}, "exactly one of"),
    ({"kind": "step_ema", "half_life_seen": 0.0}, "above 0"),
    ({"kind": "step_ema", "half_life": 0}, "above 0"),
    ({"kind": "lawaa"}, "did you mean 'lawa'"),
    ({"kind": "lawa", "alpha": 0.1}, "unknown key"),
    ({"raw": {"kind": "sma"}}, "raw"),
    ({"a/b": {"kind": "sma"}}, "a/b"),
]


@pytest.mark.parametrize(("average", "message"), REFUSED)
def test_what_cannot_be_averaged_is_refused_by_name(average, message):
    with pytest.raises(ConfigError, match=message):
        resolve(plan(average))


def test_pma_needs_a_constant_phase():
    with pytest.raises(ConfigError, match="none"):
        resolve(plan({"kind": "pma"}, phases=[{"decay": "100%", "to": 0}]))


@pytest.mark.parametrize("what", ["reset_optimizer", "jump"])
def test_a_window_never_reaches_across_a_new_start(what):
    phases = [
        ResolvedPhase(kind="stable", start=0, end=500_000, lr_start=1, lr_end=1),
        ResolvedPhase(kind="stable", start=500_000, end=1_000_000, lr_start=1, lr_end=1, **{what: True}),
    ]

    def resolved(**average):
        asked = plan(average).average["sma"]
        return resolve_average("sma", asked, phases, 1_000_000, 1000, 1000)

    with pytest.raises(ConfigError, match="end: 500000"):
        resolved(kind="sma", last=3, window="60%")
    assert list(resolved(kind="sma", last=3, window="50%").marks) == [500_000, 750_000, 1_000_000]
    assert list(resolved(kind="sma", last=3, window="20%", end="50%").marks) == [300_000, 400_000, 500_000]


def test_windows_across_a_change_of_phase_are_warned_of():
    def warned(**average):
        return any("spans" in warning for warning in resolve(plan(average)).warnings)

    assert warned(kind="sma", last=3, window="30%")
    assert not warned(kind="sma", last=3, window="20%")
    assert not warned(kind="sma", last=3, window="30%", end="80%")
    assert not warned(kind="step_ema", half_life="5%")
    assert not warned(kind="pma", every="2%")
    assert warned(kind="lawa", last=5, every="10%")


def test_one_average_may_stand_alone_and_none_is_none():
    assert list(plan("lawa").average) == ["lawa"]
    assert plan({"last": 4}).average["sma"].last == 4
    assert plan("none").average == plan(None).average == plan({"kind": "none"}).average == {}
