"""A plan resolved: whole steps that cover the run, exact marks, and refusals that say what to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.curves import learning_rate
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.resolution import resolve

WSD = [{"warmup": "2%"}, {"stable": "78%"}, {"decay": "20%", "to": "1/300"}]


def plan(phases=WSD, **more):
    data = {"tokens": "1M", "sequence_length": 100, "batch_sequences": 10, "peak_lr": 3e-3, "phases": phases or ()}
    return validated(Plan, {**data, **more}, "plan")


def test_everything_is_in_whole_steps_and_survives_saving():
    resolved = resolve(plan(average={"kind": "sma", "last": 6, "window": "10%"}, eval_every="250K"))
    assert (resolved.steps, resolved.tokens, resolved.step_tokens) == (1000, 1_000_000, 1000)
    assert [(p.kind, p.start, p.end) for p in resolved.phases] == [
        ("warmup", 0, 20_000),
        ("stable", 20_000, 800_000),
        ("decay", 800_000, 1_000_000),
    ]
    assert resolved.phases[-1].lr_end == pytest.approx(1e-5)
    assert resolved.phases[-1].shape == "1-sqrt"
    assert tuple(resolved.averages["sma"].marks) == (900_000, 920_000, 940_000, 960_000, 980_000, 1_000_000)
    assert resolved.eval_every_steps == 250
    assert ResolvedPlan.model_validate_json(resolved.model_dump_json()) == resolved


def test_places_are_whole_steps_each_once():
    resolved = resolve(plan(eval_at=["70%", 501_400, "50.1%", 2_000], keep={"at": ["80%"]}))
    assert (resolved.eval_at_steps, resolved.keep_at_steps) == ((2, 501, 700), (800,))
    evaluated = [step for step in range(1, 1001) if resolved.evaluates(step)]
    assert evaluated == sorted({2, 501, 700, *range(100, 1001, 100)})


def test_tokens_and_boundaries_round_half_up_to_steps():
    resolved = resolve(plan([{"warmup": 2_500}, {"stable": 7_999}], tokens=10_499))
    assert (resolved.steps, resolved.phases[0].end) == (10, 3000)
    assert any("rounded to 10,000" in warning for warning in resolved.warnings)
    assert resolve(plan([{"stable": "100%"}], tokens=10_500)).steps == 11


@settings(max_examples=100)
@given(st.integers(1, 98), st.integers(1, 98), st.integers(200_000, 5_000_000))
def test_phases_cover_the_run_without_gaps(a, b, tokens):
    first, second = sorted((a, b))
    if first == second:
        second += 1
    lengths = [f"{first}%", f"{second - first}%", f"{100 - second}%"]
    resolved = resolve(
        plan([{"warmup": lengths[0]}, {"stable": lengths[1]}, {"decay": lengths[2], "to": 0}], tokens=tokens)
    )
    starts, ends = [p.start for p in resolved.phases], [p.end for p in resolved.phases]
    assert starts == [0, *ends[:-1]]
    assert ends[-1] == resolved.tokens
    assert all(end % resolved.step_tokens == 0 for end in ends)


def test_phases_of_length_0_do_not_exist():
    resolved = resolve(plan([{"warmup": "0%"}, {"stable": "100%"}, {"decay": 0, "to": 0}]))
    assert [(p.kind, p.lr_start) for p in resolved.phases] == [("stable", 3e-3)]


def test_a_window_across_a_change_of_phase_is_warned_of():
    assert any("spans" in w for w in resolve(plan(average={"kind": "sma", "last": 3, "window": "30%"})).warnings)
    assert not resolve(plan(average={"kind": "sma", "last": 3, "window": "20%"})).warnings


def test_the_rest_is_what_other_phases_leave_in_whatever_unit():
    resolved = resolve(plan([{"warmup": 20_000}, {"stable": "rest"}, {"decay": "20%", "to": "1/300"}]))
    assert resolved.phases == resolve(plan()).phases
    without = resolve(plan([{"warmup": "80%"}, {"stable": "rest"}, {"decay": "20%", "to": "1/300"}]))
    assert [phase.kind for phase in without.phases] == ["warmup", "decay"]


def test_a_warm_up_in_mid_run_begins_at_the_rate_reached_or_at_0():
    cycle = [{"decay": "40%", "to": 0.1}, {"warmup": "20%", "to": 0.5}, {"decay": "40%", "to": 0}]
    smooth = resolve(plan(cycle))
    assert [phase.jump for phase in smooth.phases] == [False, False, False]
    assert (smooth.phases[1].lr_start, smooth.phases[1].lr_end) == pytest.approx((3e-4, 1.5e-3))
    cycle[1] |= {"from_zero": True, "reset_optimizer": True}
    again = resolve(plan(cycle)).phases
    assert [(phase.jump, phase.reset_optimizer) for phase in again] == [(False, False), (True, True), (False, False)]
    assert again[1].lr_start == 0
    from_nothing = resolve(plan([{"decay": "40%", "to": 0}, {"warmup": "60%"}]))
    assert not from_nothing.phases[1].jump


def test_a_jump_is_one_only_where_the_rate_changes():
    steady = resolve(plan([{"stable": "50%"}, {"stable": "50%", "jump_to": 1}]))
    assert not steady.phases[1].jump
    halved = resolve(plan([{"stable": "50%"}, {"stable": "50%", "jump_to": 0.5}]))
    assert halved.phases[1].jump
    assert halved.phases[1].lr_start == pytest.approx(1.5e-3)
    low = resolve(plan([{"stable": "100%", "jump_to": 0.5}]))
    assert not low.phases[0].jump
    assert low.phases[0].lr_start == pytest.approx(1.5e-3)


def test_resolving_what_was_resolved_changes_nothing_and_shares_equal_tokens():
    resolved = resolve(plan())
    assert resolve(ResolvedPlan.model_validate_json(resolved.model_dump_json()).plan) == resolved
    in_tokens = [{"warmup": 20_000}, {"stable": 780_000}, {"decay": "200K", "to_lr": 1e-5}]
    assert resolve(plan(in_tokens)).phases == resolved.phases


def test_a_saved_phase_says_only_what_was_said():
    saved = resolve(plan()).model_dump(mode="json")
    assert set(saved["phases"][1]) == {"kind", "start", "end", "lr_start", "lr_end", "shape"}
    assert set(saved["plan"]["phases"][2]) == {"decay", "to"}


def test_a_half_life_counts_from_where_the_decay_begins():
    """MiniCPM's values for a half-life of 5,000: after 1, 2.5, 5 and 10 thousand."""
    resolved = resolve(plan([{"stable": 500_000}, {"decay": 500_000, "half_life": 250_000}]))
    begin = resolved.phases[1].start
    found = learning_rate([begin + 50 * n for n in (1_000, 2_500, 5_000, 9_999)], resolved) / resolved.plan.peak_lr
    np.testing.assert_allclose(found, [0.8706, 0.7071, 0.5, 0.25], atol=1e-4)


def test_a_half_life_is_an_exponential_decay():
    resolved = resolve(plan([{"stable": "50%"}, {"decay": "50%", "half_life": 250_000}])).phases[1]
    assert (resolved.shape, resolved.lr_end) == ("exponential", pytest.approx(3e-3 / 4))


REFUSED = [
    ([{"warmup": "2%"}, {"stable": "70%"}], {}, "cover less"),
    ([{"warmup": "60%"}, {"decay": "50%", "to": 0}], {}, "cover more"),
    ([{"stable": "80%"}, {"decay": "20%", "to_lr": 1.0}], {}, "ends above"),
    ([{"stable": "80%"}, {"decay": "20%", "to": 0, "shape": "exponential"}], {}, "cannot reach 0"),
    ([{"decay": "80%", "to": 0}, {"stable": "20%"}], {}, "rate 0"),
    ([{"stable": "50%"}, {"warmup": "50%"}], {}, "does not rise"),
    ([{"warmup": "50%", "to_lr": 0.1}, {"stable": "50%"}], {}, "does not rise"),
    ([{"decay": "50%", "to": 0.5}, {"warmup": "50%", "to": 0.4}], {}, "does not rise"),
    ([{"warmup": "50%", "to_lr": 1e-3, "to": 0.5}, {"stable": "50%"}], {}, "at most at one of to"),
    ([{"stable": "rest"}, {"decay": "rest", "to": 0}], {}, "only one phase can take the rest"),
    ([{"warmup": "60%"}, {"stable": "rest"}, {"decay": "50%", "to": 0}], {}, "cover more"),
    ([{"stable": "rest", "reset_optimizer": True}], {}, "no optimizer state to reset"),
    ([{"stable": "rest", "jump_to": 0}], {}, "greater than 0"),
    ([{"power_law": "rest"}], {}, "no time scale"),
    ([{"power_law": "rest", "age": 0}], {}, "no time scale"),
    ([{"power_law": "rest", "age": "1%", "floor_form": "max"}], {}, "there is no floor"),
    ([{"decay": "50%", "to": 0.1}, {"power_law": "rest", "floor": 0.2}], {}, "floor above"),
    ([{"decay": "rest", "half_life": "1%", "shape": "linear"}], {}, "half_life is exponential"),
    ([{"decay": "rest", "half_life": 0}], {}, "half_life of 0"),
    ([{"decay": "rest", "half_life": "1%", "to": 0.1}], {}, "exactly one of to"),
    ([{"decay": "rest", "to": 0, "power": 2}], {}, "power belongs to the shape polynomial"),
    ([{"decay": "rest", "to": 0, "shape": "polynomial", "alpha": 2}], {}, "alpha belongs to the shape inverse_sqrt"),
    ([{"decay": "rest", "to": 0, "shape": "polynomial", "power": 0}], {}, "greater than 0"),
    ([{"table": "rest"}], {}, "a table has values"),
    ([{"table": "rest", "values": [0, 0]}], {}, "not all of them 0"),
    ([{"stable": "50%"}, {"table": "50%", "values": [0.5, 0]}], {}, "does not begin at the rate"),
    ([{"stable": "rest", "from_zero": True}], {}, "only warmup has it"),
    ([], {}, "exactly one of phases and schedule"),
    (WSD, {"schedule": "wsd"}, "exactly one of phases and schedule"),
    (None, {"schedule": "wds"}, "did you mean 'wsd'"),
    (None, {"schedule": {"kind": "wsd", "to": 0.1, "to_lr": 1e-3}}, "exactly one of to"),
    (None, {"schedule": {"kind": "wsd", "warmup": "50%", "decay": "60%"}}, "cover more"),
    (None, {"schedule": "linear"}, "exactly one of to"),
    (None, {"schedule": {"kind": "inverse_sqrt", "warmup": 0}}, "no time scale"),
    (None, {"schedule": {"kind": "wsd_s", "periods": ["50%", "60%"]}}, "cover more"),
    (None, {"schedule": {"kind": "wsd_s", "periods": ["50%"], "peaks": [1, 0.5]}}, "1 periods and 2 peaks"),
    (None, {"schedule": {"kind": "wsd_s", "periods": ["5%", "95%"], "warmup": "5%"}}, "shorter than its warm-up"),
    (None, {"schedule": {"kind": "rewarm", "data": ["50%", "40%"]}}, "cover less"),
    ([{"warmup": 300}, {"stable": 999_700}], {}, "shorter than half"),
    (WSD, {"tokens": 400}, "shorter than one"),
    (WSD, {"eval_every": 10}, "eval_every"),
    (WSD, {"eval_at": ["50%", 1_002_000]}, "eval_at names a place outside the run"),
    (WSD, {"keep": {"at": ["0%"]}}, "keep.at names a place outside the run"),
    (WSD, {"average": {"kind": "sma", "last": 8, "window": 2000}}, "do not fit"),
    (WSD, {"average": {"kind": "sma", "last": 2, "window": "100%"}}, "do not fit"),
    ([{"stable": "80%"}, {"decay": "20%", "to": 0.1, "to_lr": 1e-4}], {}, "exactly one of to"),
    ([{"stable": "80%"}, {"decay": "20%"}], {}, "exactly one of to"),
    ([{"stable": "80%", "decay": "20%", "to": 0}], {}, "exactly one of warmup"),
    ([{"stable": {"share": 0.5, "tokens": 500_000}}, {"stable": "50%"}], {}, "not both"),
    ([{"stable": "100%", "to": 0.1}], {}, "only warmup and decay has it"),
    ([{"stable": 1}], {}, "one token or the whole run"),
    ([{"stable": "-5%"}, {"stable": "105%"}], {}, "between 0 and 1"),
    ([{"stable": -5}, {"stable": "100%"}], {}, "greater than or equal to 0"),
    ([{"stable": "80%"}, {"decay": "20%", "to": "one third"}], {}, "not a share"),
    ([{"stable": "80%"}, {"dcay": "20%", "to": 0}], {}, "did you mean 'decay'"),
]


@pytest.mark.parametrize(("phases", "more", "message"), REFUSED)
def test_what_cannot_be_trained_is_refused_by_name(phases, more, message):
    with pytest.raises(ConfigError, match=message):
        resolve(plan(phases, **more))
