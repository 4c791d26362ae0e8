"""Forgetting read off the curves of runs with two phases, by the golden of the reference."""

from collections.abc import Mapping

import pytest

from pipelines.experiments.analysis.checked import checked_runs
from pipelines.experiments.analysis.forgetting import continual, second_phase
from pipelines.experiments.results import CurvePoint, RunResult, SetLoss
from pipelines.experiments.study import Study
from tests.pipelines.experiments.made_results import made_arms, made_results, made_study

HALF, STEP = 2_048, 256
RISE = {0: 0.0, 1: 0.08, 2: 0.12, 3: 0.09, 4: 0.05, 5: 0.03, 6: 0.02, 8: 0.01}
"""The reference's gap by steps after the change, but for its last point."""


def replay_study() -> Study:
    """Half a run of old text, then new text, with and without old text in it; and both together from the start."""
    base = made_study().base
    phases = [{"name": "first", "tokens": "50%", "sources": {"old": "100%"}},
              {"name": "second", "tokens": "50%", "sources": {"new": "100%"}}]  # fmt: skip
    replay = [phases[0], {**phases[1], "sources": {"new": "95%", "old": "5%"}}]
    return made_study(
        base={**base, "mixture": {"sources": {"old": {}, "new": {}}, "phases": phases}, "order": {"kind": "mixed"}},
        factors={"replay": {"none": {}, "replay_5": {"mixture": {"phases": replay}}}},
        extra={"joint": {"like": "none", "mixture": {"sources": {"old": "50%", "new": "50%"}, "phases": []}}},
        control={"replay": "none"}, contrasts={"replay": {"arm": "replay_5", "against": "none"}},
        roles={"old": "what is known", "new": "what is learnt"}, continual={"old": "old", "new": "new"},
    )  # fmt: skip


def replay_results(study: Study, rises: Mapping[str, float]) -> dict[str, RunResult]:
    """Runs whose old loss rises by the golden times a factor, from 2, and whose new loss falls from 5 to 3."""
    made = made_results(study, lambda arm, seed, weights: 2.0, sources=("new", "old/web"))
    return {name: _run(run, rises.get(run.arm, 0.0)) for name, run in made.items()}


def _run(run: RunResult, factor: float) -> RunResult:
    before = [(HALF - k * STEP, 2.0 + 0.01 * (k == 1), 5.0) for k in (2, 1, 0)]
    after = [(HALF + k * STEP, 2.0 + factor * rise, 5.0 - 2 * k / 8) for k, rise in RISE.items() if k]
    curve = tuple(CurvePoint(tokens=at, weights="raw", losses={"old/web": old, "new": new})
                  for at, old, new in [*before, *after])  # fmt: skip
    old, new = after[-1][1:]
    losses = {name: {"raw": SetLoss(nats_per_token=at, bits_per_byte=at)}
              for name, at in (("old/web", old), ("new", new))}  # fmt: skip
    return run.model_copy(update={"curve": curve, "losses": losses})


def test_the_golden_gap() -> None:
    study = replay_study()
    runs = checked_runs(study, "minutes", made_arms(study), replay_results(study, {"none": 1.0, "replay_5": 0.25}))
    none, replay = continual(runs)
    assert (none.arm, replay.arm, none.begins) == ("none", "replay_5", HALF)
    assert none.depth.mean == pytest.approx(0.12)
    assert none.depth_at.mean == 2 * STEP
    assert none.forgetting.mean == pytest.approx(0.01)
    assert none.area.mean == pytest.approx(0.41 * STEP)  # .43 with the golden's last point, two steps later
    assert none.learning.mean == pytest.approx(-2)
    # noise before the change: 2 x sd of (2, 2.01, 2)
    assert none.recovery == (8 * STEP,) * 3
    assert replay.depth.mean == pytest.approx(0.03)


def test_what_replay_removes_is_a_share_of_what_its_control_forgets() -> None:
    study = replay_study()
    runs = checked_runs(study, "minutes", made_arms(study), replay_results(study, {"none": 1.0, "replay_5": 0.25}))
    none, replay = continual(runs)
    assert replay.removed.values == pytest.approx((0.75,) * 3)
    assert none.removed.n == 0
    assert none.old is None
    assert replay.old is not None
    assert replay.old.mean == pytest.approx(0.0075)
    assert replay.old.unit == "nats per token"
    assert replay.new is not None
    assert replay.new.mean == pytest.approx(0)


def test_an_arm_of_one_phase_has_no_gap() -> None:
    study = replay_study()
    arms = made_arms(study)
    assert second_phase(arms["joint"]) is None
    assert second_phase(arms["none"]) == HALF
    runs = checked_runs(study, "minutes", arms, replay_results(study, {"none": 1.0}))
    assert {row.arm for row in continual(runs)} == {"none", "replay_5"}


def test_nothing_forgotten_removes_nothing() -> None:
    study = replay_study()
    runs = checked_runs(study, "minutes", made_arms(study), replay_results(study, {}))
    assert all(row.removed.n == 0 for row in continual(runs))


def test_a_gap_that_stays_is_not_recovered() -> None:
    study = replay_study()
    runs = checked_runs(study, "minutes", made_arms(study), replay_results(study, {"none": 10.0}))
    assert continual(runs)[0].recovery == (None, None, None)


def test_a_study_of_one_phase_has_no_forgetting() -> None:
    study = made_study()
    runs = checked_runs(study, "minutes", made_arms(study), made_results(study, lambda arm, seed, weights: 2.0))
    assert continual(runs) == []
