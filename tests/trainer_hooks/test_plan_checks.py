"""Findings about a plan: each is there when it should be and not otherwise, with the numbers of the literature."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.optimizers.state import prepare_state
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.plan_average_checks import window_start
from trainer_hooks.plan_checks import findings
from trainer_hooks.plan_findings import SEVERITIES, Finding
from trainer_hooks.plan_model_checks import sizes
from trainer_hooks.plan_order_checks import PlannedData, masses
from trainer_hooks.resolution import resolve

STEP = 1000
STEPS = 1000
MODEL = ModelConfig(vocabulary=512, hidden=64, layers=2, heads=2, kv_heads=1, head_size=32, intermediate=96)


def plan(phases: list[dict[str, Any]] | None = None, **changes: Any) -> ResolvedPlan:
    data = {
        "tokens": STEP * STEPS,
        "sequence_length": STEP // 10,
        "batch_sequences": 10,
        "peak_lr": 1.0,
        "phases": phases or [{"stable": "100%"}],
        **changes,
    }
    return resolve(validated(Plan, data, "plan"))


def data(scores: np.ndarray | None = None, **changes: Any) -> PlannedData:
    """An order of 2,000 visits, a little longer than the plan; ascending where nothing is said."""
    n = 2001
    values = {
        "lengths": np.full(n, STEP * STEPS // (n - 1)),
        "scores": np.arange(n, dtype=np.float64) if scores is None else scores,
        "source": np.zeros(n, np.int64),
        "sources": ("web",),
        "phase": np.zeros(n, np.int64),
        "phases": ("all",),
        "visit": np.zeros(n, np.int64),
    }
    return PlannedData(**{**values, **changes})


def decay(share: float, to: float, shape: str = "1-sqrt") -> list[dict[str, Any]]:
    stable = [{"stable": f"{100 - share:g}%"}] if share < 100 else []
    return [*stable, {"decay": f"{share:g}%", "to": to, "shape": shape}]


def codes(found: list[Finding], severity: str | None = None) -> set[str]:
    return {finding.code for finding in found if severity in (None, finding.severity)}


def the(found: list[Finding], code: str) -> Finding:
    (finding,) = (finding for finding in found if finding.code == code)
    return finding


@pytest.mark.parametrize(
    ("phases", "lowest", "ninth", "top"),
    [
        ([{"stable": "100%"}], 10, 10, 10),
        (decay(100, 0, "cosine"), 19.836, 1.127, 0.164),
        (decay(100, 0.1, "cosine"), 18.048, 2.740, 1.952),
        (decay(100, 0, "linear"), 19, 3, 1),
        (decay(10, 0, "linear"), 10.526, 10.526, 5.263),
        (decay(20, 0, "linear"), 11.111, 8.333, 2.778),
        (decay(20, 0), 11.538, 6.099, 1.593),
        (decay(20, 1 / 300), 11.533, 6.114, 1.625),
        (decay(20, 1 / 3), 10.976, 7.526, 4.669),
        (decay(37, 1 / 300), 13.260, 3.091, 0.982),
        (decay(18, 1 / 300), 11.358, 7.333, 1.799),
        (decay(6, 1 / 300), 10.415, 10.415, 6.263),
    ],
)
def test_the_mass_of_an_ascending_order_is_that_of_the_reference(
    phases: list[dict[str, Any]], lowest: float, ninth: float, top: float
) -> None:
    shares = 100 * masses(plan(phases), data())["raw"]
    assert shares[[0, 8, 9]] == pytest.approx([lowest, ninth, top], abs=6e-3)
    said = the(findings(plan(phases), order=data()), "top-decile-mass")
    assert f"the best tenth of the data gets {shares[-1]:.3g} % of the learning-rate mass, shuffled" in said.what


@pytest.mark.parametrize(
    ("kind", "decayed", "top"),
    [
        ("sma", False, 5.263),
        ("ema", False, 4.884),
        ("ema_debiased", False, 6.506),
        ("wma", False, 6.897),
        ("sma", True, 2.532),
    ],
)
def test_the_mass_in_an_average_is_that_of_the_reference(kind: str, decayed: bool, top: float) -> None:
    average = {"kind": kind, "last": 6, "window": "10%"}
    found = masses(plan(decay(20, 1 / 3) if decayed else None, average=average), data())
    assert 100 * found[kind][-1] == pytest.approx(top, abs=6e-3)


def test_a_starved_top_decile_is_a_warning_that_says_what_would_change_it() -> None:
    found = the(findings(plan(decay(20, 1 / 300)), order=data()), "top-decile-mass")
    assert found.severity == "warning"
    assert "gets 1.63 % of the learning-rate mass, shuffled it would get 10 %" in found.what
    assert "ending the last decay at 1/3 of the peak gives it 4.67 %" in found.fix
    assert "a constant rate gives it 10 %, and 5.26 % in a mean of the last checkpoints" in found.fix
    moderate = the(findings(plan(decay(20, 1 / 3)), order=data()), "top-decile-mass")
    assert (moderate.severity, moderate.fix) == ("note", "")
    descending = the(findings(plan(decay(20, 1 / 300)), order=data(-np.arange(2001.0))), "top-decile-mass")
    assert descending.severity == "note"


def test_a_shuffled_order_is_no_warning() -> None:
    scores = np.random.default_rng(0).permutation(2001).astype(float)
    found = findings(plan(decay(20, 1 / 300)), order=data(scores))
    assert the(found, "top-decile-mass").severity == "note"


@pytest.mark.parametrize(
    ("phases", "changes", "code", "severity"),
    [
        ([{"stable": "100%"}], {}, "no-decay-no-average", "warning"),
        ([{"stable": "100%"}], {}, "no-warm-up", "note"),
        ([{"warmup": "20%"}, {"stable": "80%"}], {}, "long-warm-up", "note"),
        (decay(20, 0), {}, "decays-to-zero", "note"),
        (decay(2, 0.1), {}, "short-decay", "warning"),
        (None, {"eval_every": 2 * STEP * STEPS}, "no-evaluation", "warning"),
        (None, {"checkpoint_every": 2 * STEP * STEPS}, "no-checkpoint", "warning"),
        (None, {"checkpoint_every": "10%", "keep": {"every": "15%"}}, "keep-off-checkpoints", "note"),
        ([{"warmup": "95%"}, {"stable": "5%"}], {"average": "ema"}, "window-over-rise", "warning"),
        (decay(20, 0.01), {"average": {"kind": "sma", "window": "20%"}}, "average-on-decay", "note"),
        (None, {"average": {"kind": "sma", "window": "60%"}}, "long-window", "note"),
        (None, {"average": {"kind": "sma", "last": 101, "window": "20%"}}, "marks-off-checkpoints", "warning"),
        (None, {"average": "ema"}, "marks-off-checkpoints", "note"),
    ],
)
def test_each_finding_is_there(
    phases: list[dict[str, Any]] | None, changes: dict[str, Any], code: str, severity: str
) -> None:
    found = the(findings(plan(phases, **changes)), code)
    assert found.severity == severity
    assert found.where.startswith("plan")
    assert not found.what.endswith(".")


def test_a_sound_plan_has_only_its_memory_and_checkpoints_to_say() -> None:
    sound = plan([{"warmup": "2%"}, {"stable": "98%"}], average={"kind": "sma", "last": 3, "window": "20%"})
    scores = np.random.default_rng(0).permutation(2001).astype(float)
    found = findings(sound, order=data(scores), model=MODEL, tokenizer_size=500)
    assert codes(found) == {"memory", "top-decile-mass"}
    assert codes(found, "note") == codes(found)


def test_order_and_plan_must_fit() -> None:
    short = findings(plan(), order=data(lengths=np.full(2001, 400)))
    assert the(short, "order-too-short").severity == "error"
    assert "plan at most 800,000 tokens" in the(short, "order-too-short").fix
    long = findings(plan(), order=data(lengths=np.full(2001, 1000)))
    assert "the last 50 % of the order is not read, and its scores are the best" in the(long, "unread-end").what
    exact = data(lengths=np.full(2001, 500), visit=np.zeros(2001, np.int64))
    assert not codes(findings(plan(), order=exact)) & {"order-too-short", "unread-end"}


def test_readings_are_held_against_the_caps() -> None:
    visit = np.arange(2001) % 9
    over = findings(plan(), order=data(visit=visit, caps={"web": 4.0}))
    assert "read up to 9 times, the mixture's cap is 4" in the(over, "visits-over-cap").what
    assert "many-epochs-small-decay" in codes(over)
    unknown = findings(plan(optimizer={"kind": "adamw", "weight_decay": 1.6}), order=data(visit=visit))
    assert "many-visits" in codes(unknown)
    assert "many-epochs-small-decay" not in codes(unknown)
    assert not codes(findings(plan(), order=data(visit=visit % 4))) & {"many-visits", "visits-over-cap"}


def test_a_window_over_changing_data_is_found() -> None:
    average = {"kind": "sma", "last": 3, "window": "40%"}
    source = (np.arange(2001) > 1600).astype(np.int64)
    shifting = findings(plan(average=average), order=data(source=source, sources=("web", "code")))
    assert "the share of web goes from 100 % to 0" in the(shifting, "window-over-sources").what
    falling = findings(plan(average=average), order=data(-(np.arange(2001.0) ** 4)))
    assert the(falling, "window-over-falling-quality").severity == "warning"
    assert "window-over-falling-quality" not in codes(findings(plan(average=average), order=data()))


def test_phases_of_order_and_rate_are_compared() -> None:
    phase = (np.arange(2001) >= 1600).astype(np.int64)
    mixed = data(phase=phase, phases=("all", "anneal"))
    assert "phases-apart" not in codes(findings(plan(decay(20, 0.1)), order=mixed))
    apart = the(findings(plan(decay(30, 0.1)), order=mixed), "phases-apart")
    assert "anneal begins at 800,000 tokens; the learning rate's nearest turn is at 700,000" in apart.what


SCHEDULES = {
    "constant", "d2z", "cosine", "wsd", "wsd_s", "rewarm", "infinite_cosine", "infinite_inverse_sqrt", "inverse_sqrt",
    "power", "power_normalised", "anytime",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_every_schedule_is_checked_under_its_own_name(kind: str) -> None:
    needed = {"wsd_s": {"periods": ["50%", "50%"]}, "anytime": {"alpha": 100 * STEP}}.get(kind, {})
    data_of = {"sequence_length": 100, "batch_sequences": 10, "peak_lr": 0.02, "tokens": STEP * STEPS}
    scheduled = validated(Plan, {**data_of, "schedule": {"kind": kind, **needed}}, "plan")
    found = findings(resolve(scheduled), order=data())
    assert not codes(found, "error")
    assert "top-decile-mass" in codes(found)
    assert not [finding for finding in found if finding.where.startswith("plan.phases")]


def test_unscored_orders_say_so() -> None:
    none = findings(plan(), order=data(np.full(2001, np.nan)))
    assert "no-scores" in codes(none)
    scores = np.arange(2001.0)
    scores[::4] = np.nan
    assert "25 % of the tokens have no score" in the(findings(plan(), order=data(scores)), "partly-scored").what


def test_the_model_must_fit_plan_tokenizer_and_processes() -> None:
    found = findings(plan(sequence_length=2000), model=MODEL, tokenizer_size=600, processes=3)
    assert codes(found, "error") == {"vocabulary-too-small", "batch-over-processes"}
    assert "set it to 640" in the(found, "vocabulary-too-small").fix
    assert the(found, "beyond-context").severity == "warning"
    assert "spare-vocabulary" in codes(findings(plan(), model=MODEL, tokenizer_size=300))
    assert not codes(findings(plan(), model=MODEL, tokenizer_size=449)) & {"spare-vocabulary", "vocabulary-too-small"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "apollo_mini", "schedule_free"])
def test_the_memory_is_that_of_the_real_model_and_optimizer(optimizer: str) -> None:
    resolved = plan(average="lawa", optimizer=optimizer)
    decoder = Decoder(MODEL, 0)
    made = resolved.plan.optimizer.make(decoder, 1.0)
    prepare_state(made)
    n = sum(tensor.numel() for tensor in decoder.parameters())
    state = sum(tensor.numel() * tensor.element_size() for kept in made.state.values() for tensor in kept.values())
    assert sizes(MODEL, resolved.plan.optimizer, 1.0) == (n, state)
    said = the(findings(resolved, model=MODEL), "memory").what
    assert said.startswith(
        f"{n:,} parameters take {(8 * n + state + 4 * 5 * n) / 2**20:.3g} MiB without activations (weights"
    )
    assert f"average lawa {4 * 5 * n / 2**20:.3g} MiB" in said


def test_a_window_starts_where_weights_begin_to_count() -> None:
    sma = plan(average={"kind": "sma", "last": 6, "window": "10%"}).averages["sma"]
    assert window_start(sma) == 900 * STEP
    ema = plan(average={"kind": "step_ema", "half_life": 10 * STEP}).averages["step_ema"]
    assert STEPS - window_start(ema) / STEP == pytest.approx(10 * np.log2(100), abs=1)


PHASES = st.tuples(
    st.integers(0, 30), st.integers(1, 60), st.floats(0, 1), st.sampled_from(["linear", "1-sqrt", "cosine"])
)


@given(PHASES, st.sampled_from([None, "sma", "ema", "lawa", "curve"]), st.booleans(), st.integers(1, 5))
def test_findings_are_stable_and_in_order(
    phases: tuple[int, int, float, str], average: str | None, ascending: bool, processes: int
) -> None:
    warmup, falling, end, shape = phases
    timeline = [{"warmup": f"{warmup}%"}, {"stable": f"{100 - warmup - falling}%"},
                {"decay": f"{falling}%", "to": end, "shape": shape}]  # fmt: skip
    try:
        resolved = plan(timeline, average=average)
    except ConfigError:
        return  # refused with a reason: nothing to check
    order = data(np.arange(2001.0) * (1 if ascending else -1))
    found = findings(resolved, order=order, processes=processes)
    assert found == findings(resolved, order=order, processes=processes)
    ranks = [SEVERITIES.index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    assert all(np.isclose(shares.sum(), 1) for shares in masses(resolved, order).values())
    assert codes(found, "error") == ({"batch-over-processes"} if 10 % processes else set())


def test_the_tiny_order_of_the_tests_can_be_checked(tiny: SimpleNamespace, workspace: Any) -> None:
    planned = PlannedData.of(workspace.order.table())
    assert planned.tokens == workspace.order.n_tokens
    assert planned.part(100, 300).sum() == 200
    turned = PlannedData.of(workspace.order.table(), lower_is_better=True)
    assert turned.mean_score(turned.lengths) == pytest.approx(-planned.mean_score(planned.lengths))
    found = findings(resolve(tiny.plan()), order=planned, model=tiny.model)
    assert not codes(found, "error")
