"""An edited plan is accepted where nothing that has happened would be otherwise, and refused where it would."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.plan_resume import resume_findings
from trainer_hooks.resolution import resolve

STEP = 64
BASE: dict[str, Any] = {
    "tokens": 100 * STEP,
    "sequence_length": 16,
    "batch_sequences": 4,
    "peak_lr": 0.01,
    "phases": [{"warmup": 4 * STEP}, {"stable": 76 * STEP}, {"decay": 20 * STEP, "to": "1/3"}],
    "average": {"kind": "sma", "last": 3, "window": 10 * STEP},
}


def plan(**changes: Any) -> ResolvedPlan:
    return resolve(validated(Plan, {**BASE, **changes}, "plan"))


def codes(changes: Any) -> set[str]:
    return {finding.code for finding in changes.findings}


def test_the_same_plan_has_no_findings() -> None:
    assert resume_findings(plan(), plan(), 50 * STEP).findings == ()


def test_a_longer_stable_phase_is_accepted_before_the_decay_and_refused_inside_it() -> None:
    longer = plan(
        tokens=200 * STEP, phases=[{"warmup": 4 * STEP}, {"stable": 176 * STEP}, {"decay": 20 * STEP, "to": "1/3"}]
    )
    before = resume_findings(plan(), longer, 80 * STEP)
    assert before.acceptable
    assert codes(before) == {"edited"}
    assert {finding.where for finding in before.findings} == {"plan.tokens", "plan.phases.1.stable"}
    inside = resume_findings(plan(), longer, 85 * STEP)
    assert not inside.acceptable
    assert "past-rates" in codes(inside)


def test_a_share_that_stretches_the_warm_up_is_refused_with_both_rates() -> None:
    phases = [{"warmup": "4%"}, {"stable": "96%"}]
    old, new = plan(phases=phases, average=None), plan(phases=phases, average=None, tokens=200 * STEP)
    refused = resume_findings(old, new, 50 * STEP)
    past = next(finding for finding in refused.findings if finding.code == "past-rates")
    assert "step 1 of the 50 taken had learning rate 0.00125; in the new plan it has 0.000625" in past.what
    assert "as tokens" in past.fix


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"seed": 1}, "plan.seed"),
        ({"batch_sequences": 2}, "plan.batch_sequences"),
        ({"optimizer": {"kind": "adamw", "weight_decay": 0.2}}, "plan.optimizer.weight_decay"),
        ({"peak_lr": 0.02}, "plan.peak_lr"),
    ],
)
def test_what_shapes_the_past_is_refused_by_name(change: dict[str, Any], where: str) -> None:
    found = resume_findings(plan(), plan(**change), 50 * STEP)
    assert not found.acceptable
    assert where in {finding.where for finding in found.findings if finding.severity == "error"}


def test_an_average_may_change_until_its_window_opens() -> None:
    other = plan(average={"kind": "ema", "last": 3, "window": 10 * STEP})
    renamed = {"sma": BASE["average"], "wide": {"kind": "sma", "last": 3, "window": 30 * STEP}}
    assert resume_findings(plan(), other, 89 * STEP).acceptable
    opened = resume_findings(plan(), other, 90 * STEP)
    assert "open-average" in codes(opened)
    assert "5,760 tokens" in next(f.what for f in opened.findings if f.code == "open-average")
    assert resume_findings(plan(), plan(average=renamed), 69 * STEP).acceptable
    late = resume_findings(plan(), plan(average=renamed), 71 * STEP)
    assert {f.where for f in late.findings if f.severity == "error"} == {"plan.average.wide"}


def test_a_mean_without_a_window_goes_on_for_longer() -> None:
    def following(kind: dict[str, Any], steps: int) -> ResolvedPlan:
        phases = [{"warmup": 4 * STEP}, {"stable": (steps - 4) * STEP}]
        return plan(tokens=steps * STEP, phases=phases, average=kind)

    ema = {"kind": "step_ema", "half_life": 10 * STEP}
    assert resume_findings(following(ema, 100), following(ema, 200), 50 * STEP).acceptable
    relative = {"kind": "step_ema", "half_life": "10%"}  # of a longer run it is another half-life
    found = resume_findings(following(relative, 100), following(relative, 200), 50 * STEP)
    assert "open-average" in codes(found)
    lawa = {"kind": "lawa", "last": 3, "every": 10 * STEP}
    assert resume_findings(following(lawa, 100), following(lawa, 200), 50 * STEP).acceptable
    assert not resume_findings(following(lawa, 100), following(lawa, 205), 50 * STEP).acceptable  # counted from the end


def test_a_plan_shorter_than_the_run_is_refused() -> None:
    shorter = plan(tokens=40 * STEP, phases=[{"warmup": 4 * STEP}, {"stable": 36 * STEP}], average=None)
    found = resume_findings(plan(average=None), shorter, 50 * STEP)
    assert "shorter-than-run" in codes(found)
    assert resume_findings(plan(average=None), shorter, 40 * STEP).acceptable


@given(st.integers(0, 100), st.integers(10, 60), st.integers(1, 9), st.sampled_from(["linear", "cosine"]))
def test_acceptable_edits_leave_every_rate_taken_as_it_was(at: int, decay: int, end: int, shape: str) -> None:
    old = plan(average=None)
    decaying = {"decay": decay * STEP, "to": end / 10, "shape": shape}
    new = plan(average=None, phases=[{"warmup": 4 * STEP}, {"stable": (96 - decay) * STEP}, decaying])
    found = resume_findings(old, new, at * STEP)
    past = [step_learning_rates(resolved)[:at] for resolved in (old, new)]
    assert found.acceptable == np.allclose(*past, rtol=0, atol=1e-14)


def test_two_settings_of_the_tiny_plan(tiny: SimpleNamespace) -> None:
    edited = tiny.plan(eval_every=4 * 64, eval_at=[9 * 64], keep={"last": 5, "at": [16 * 64]})
    found = resume_findings(resolve(tiny.plan()), resolve(edited), 8 * 64)
    assert found.acceptable
    assert {finding.where.removesuffix(".0") for finding in found.findings} == {
        "plan.eval_every", "plan.eval_at", "plan.keep.last", "plan.keep.at"
    }  # fmt: skip
    assert any("was '512 tokens', is now '256 tokens'" in finding.what for finding in found.findings)
