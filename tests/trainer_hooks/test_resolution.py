"""A plan resolved: whole steps that cover the run, exact marks, and refusals that say what to do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.resolution import resolve

WSD = [{"warmup": "2%"}, {"stable": "78%"}, {"decay": "20%", "to": "1/300"}]


def plan(phases=WSD, **more):
    data = {"tokens": "1M", "sequence_length": 100, "batch_sequences": 10, "peak_lr": 3e-3, "phases": phases}
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
    assert resolved.marks == (900_000, 920_000, 940_000, 960_000, 980_000, 1_000_000)
    assert resolved.eval_every_steps == 250
    assert ResolvedPlan.model_validate_json(resolved.model_dump_json()) == resolved


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


REFUSED = [
    ([{"warmup": "2%"}, {"stable": "70%"}], {}, "cover less"),
    ([{"warmup": "60%"}, {"decay": "50%", "to": 0}], {}, "cover more"),
    ([{"stable": "80%"}, {"decay": "20%", "to_lr": 1.0}], {}, "ends above"),
    ([{"stable": "80%"}, {"decay": "20%", "to": 0, "shape": "exponential"}], {}, "cannot reach 0"),
    ([{"decay": "80%", "to": 0}, {"stable": "20%"}], {}, "rate 0"),
    ([{"stable": "50%"}, {"warmup": "50%"}], {}, "not the first"),
    ([{"warmup": 300}, {"stable": 999_700}], {}, "shorter than half"),
    (WSD, {"tokens": 400}, "shorter than one"),
    (WSD, {"eval_every": 10}, "eval_every"),
    (WSD, {"average": {"kind": "sma", "last": 8, "window": 2000}}, "do not fit"),
    (WSD, {"average": {"kind": "sma", "last": 2, "window": "100%"}}, "do not fit"),
    ([{"stable": "80%"}, {"decay": "20%", "to": 0.1, "to_lr": 1e-4}], {}, "exactly one of to"),
    ([{"stable": "80%"}, {"decay": "20%"}], {}, "exactly one of to"),
    ([{"stable": "80%", "decay": "20%", "to": 0}], {}, "exactly one of warmup"),
    ([{"stable": {"share": 0.5, "tokens": 500_000}}, {"stable": "50%"}], {}, "not both"),
    ([{"stable": "100%", "to": 0.1}], {}, "only a decay"),
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
