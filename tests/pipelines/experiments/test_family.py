"""Runs of a study end in the same bytes however they are grouped, spread over workers, killed, and begun again."""

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from corpus.errors import ConfigError
from corpus.shards import read_table
from pipelines.experiments.arms import Run, arms_of, runs_of
from pipelines.experiments.family import FamilyWork, families
from pipelines.experiments.results import read_run, results_in
from pipelines.experiments.runs import train_runs
from pipelines.experiments.training import KEPT, trainings_of
from pipelines.tally import Tally
from tests.pipelines.experiments.small_study import copy_of, prepared, small_study, workshop
from trainer_hooks.resolution import resolve

RUNS = "experiments/small-minutes/runs"
STEP = 256
DECAY = [{"warmup": "10%"}, {"stable": "50%"}, {"decay": "40%", "to": "1/10"}]
PHASES = [{"name": "first", "tokens": "50%", "sources": {"web": "100%"}}]
LINEAR = [{"warmup": "10%"}, {"decay": "90%", "to": 0, "shape": "linear"}]
SCHEDULES = {"held": {}, "decayed": {"plan": {"phases": DECAY}}, "linear": {"plan": {"phases": LINEAR}}}


def switched(share: int) -> dict:
    second = {"web": f"{share}%", "german": f"{100 - share}%"} if share else {"german": "100%"}
    sources = {"web": {}, "german": {}}
    phases = [*PHASES, {"name": "second", "tokens": "50%", "sources": second}]
    return {"mixture": {"sources": sources, "max_visits": 8, "phases": phases}}


def study_of(levels: dict, **changes):
    """A study of one factor, whose first level is the control of all others."""
    first, *others = levels
    contrasts = {name: {"arm": name, "against": first} for name in others}
    return small_study(factors={"what": levels}, extra={}, control={"what": first}, contrasts=contrasts, **changes)


def asked(root: Path, study) -> SimpleNamespace:
    return SimpleNamespace(study=study, data=prepared(root, study), runs=runs_of(study, arms_of(study, "minutes")))


def trained(one: SimpleNamespace, root: Path, workers: int = 1, questions=()):
    """The runs of a study in a copy of its workspace, from nothing."""
    data = replace(one.data, root=root)
    return train_runs(workshop(root, workers), RUNS, one.runs, data, ensembles=one.study.ensembles, questions=questions)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def events(root: Path, kind: str) -> list[dict]:
    lines = map(json.loads, (root / "events.jsonl").read_text().splitlines())
    return [line for line in lines if line.get("experiment") == kind]


@pytest.fixture(scope="module")
def small(study_root, tmp_path_factory):
    """Three schedules of one order with two seeds each, prepared but not trained."""
    root = copy_of(study_root, tmp_path_factory.mktemp("small"))
    return asked(root, study_of(SCHEDULES))


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """Its runs, trained in one go."""
    root = copy_of(small.data.root, tmp_path_factory.mktemp("whole"))
    return trained(small, root)


def test_runs_that_may_begin_alike_are_a_family(small):
    """Two orders under two schedules, and an arm that reads other documents."""
    runs = runs_of(small_study(), arms_of(small_study(), "minutes"))
    found = [[one.run.id for one in family.trainings] for family in families(runs, small.data)]
    assert ["shuffled.constant.s0", "shuffled.decay.s0"] in found
    assert ["ascending.constant.s1", "ascending.decay.s1"] in found
    assert sorted(len(names) for names in found) == [1, 1, 2, 2, 2, 2]
    assert [family.number for family in families(runs, small.data)] == list(range(6))


def test_a_family_changes_no_byte_of_its_runs(small, whole, tmp_path):
    """Each run trained in a family of its own: the same result, but for where it branched off."""
    root = copy_of(small.data.root, tmp_path)
    together = results_in(whole)
    assert {one.arm: one.branched_at for one in together.values()} == {
        "held": None, "decayed": 10 * STEP, "linear": 2 * STEP
    }  # fmt: skip
    mine = [run for run in small.runs if run.seed == 0]
    for run in mine:
        (alone,) = families([run], replace(small.data, root=root))
        list(FamilyWork(alone).run(tmp_path / "out", Tally()))
    separate, parts = content(tmp_path / "out"), content(whole.folder)
    for run in mine:
        name = f"{run.id}.documents.parquet"
        assert separate[name] == parts[name]
        one = together[run.id].model_copy(update={"branched_at": None})
        assert separate[f"{run.id}.json"].decode() == one.model_dump_json(indent=1) + "\n"
    steps = {line["run"]: line["steps"] for line in events(whole.folder.parents[2], "run") if line["run"][-1] == "0"}
    assert steps == {"held.s0": 16, "decayed.s0": 6, "linear.s0": 14}


def test_results_say_what_was_read_measured_and_spent(small, whole):
    for run in small.runs:
        one = results_in(whole)[run.id]
        assert (one.arm, one.seed, one.status, one.tokens, one.flops) == (
            run.arm.name, run.seed, "finished", 16 * STEP, run.arm.flops
        )  # fmt: skip
        assert set(one.losses) == {"web", "german", "handbook", "best documents"}
        assert all(set(kinds) == {"raw", "sma"} for kinds in one.losses.values())
        assert [point.tokens // STEP for point in one.curve if point.weights == "raw"] == [4, 8, 12, 16]
        assert one.reading.tokens == one.tokens
    assert len({one.identity for one in results_in(whole).values()}) == len(small.runs)


def test_only_results_stay(whole):
    kept = whole.folder.parents[2] / KEPT
    assert {path.suffix for path in kept.iterdir()} == {".json", ".parquet"}


@pytest.mark.slow
def test_workers_change_no_byte(small, whole, tmp_path):
    root = copy_of(small.data.root, tmp_path)
    assert content(trained(small, root, workers=2).folder) == content(whole.folder)


def test_an_enlarged_study_trains_what_is_missing_and_names_do_not_count(study_root, tmp_path):
    root = copy_of(study_root, tmp_path)
    first = study_of({"a": {}, "b": {"plan": {"phases": DECAY}}})
    trained(asked(root, first), root)
    assert len(events(root, "run")) == 4
    more = study_of({"called_otherwise": {}, "b": {"plan": {"phases": DECAY}}, "c": {"plan": {"phases": LINEAR}}})
    found = results_in(trained(asked(root, more), root))
    assert [line["run"] for line in events(root, "run")[4:]] == ["c.s0", "c.s1"]
    assert {one.arm for one in found.values()} == {"called_otherwise", "b", "c"}
    assert all(one.run_id == f"{one.arm}.s{one.seed}" for one in found.values())


def test_what_decides_a_result_is_in_its_identity(small, tmp_path):
    question = tmp_path / "ask.jsonl"
    question.write_text('{"query": "a", "choices": ["b", "c"], "gold": 0}\n')
    run = small.runs[0]

    def key(one=run, data=small.data, questions=()):
        return trainings_of([one], data, questions)[one.id].key

    def arm(**changes):
        return replace(run, arm=replace(run.arm, settings=run.arm.settings.model_copy(update=changes)))

    plan = run.arm.settings.plan
    same = [replace(run, arm=replace(run.arm, name="other")), arm(unmatched="why not"),
            arm(plan=plan.model_copy(update={"checkpoint_every": plan.eval_every, "keep": plan.keep}))]  # fmt: skip
    assert {key(one) for one in same} == {key()}
    other = [replace(run, seed=9), arm(plan=plan.model_copy(update={"peak_lr": 1e-4})),
             arm(model=run.arm.settings.model.model_copy(update={"hidden": 64}))]  # fmt: skip
    keys = [*map(key, other), key(data=replace(small.data, fingerprint="another")), key(questions=[question])]
    assert len({key(), *keys}) == len(keys) + 1


def test_phases_that_begin_alike_share_the_first_one_and_are_measured_right_after_the_switch(study_root, tmp_path):
    root = copy_of(study_root, tmp_path)
    one = asked(root, study_of({"none": switched(0), "some": switched(25)}))
    assert [len(family.trainings) for family in families(one.runs, one.data)] == [2, 2]
    found = results_in(trained(one, root))
    assert found["none.s0"].branched_at is None
    assert found["some.s0"].branched_at in (7 * STEP, 8 * STEP)  # the last target of step 8 is the second phase's
    steps = [point.tokens // STEP for point in found["some.s0"].curve if point.weights == "raw"]
    assert steps == [4, 8, 9, 10, 12, 16]
    (root / KEPT / f"{found['some.s1'].identity}.json").unlink()
    (alone,) = families([run for run in one.runs if run.id == "some.s1"], one.data)
    list(FamilyWork(alone).run(tmp_path / "out", Tally()))
    again = read_run(tmp_path / "out" / "some.s1.json")
    assert again == found["some.s1"].model_copy(update={"branched_at": None})


def test_a_run_whose_loss_is_not_finite_has_failed_and_its_family_goes_on(study_root, tmp_path):
    """The rate jumps to 1e39 where the other run of the family holds it."""
    root = copy_of(study_root, tmp_path)
    begin = [{"warmup": "50%", "to": 3e-42}, {"stable": "25%"}]
    levels = {"sane": {"plan": {"phases": [*begin[:1], {"stable": "50%"}]}},
              "wild": {"plan": {"phases": [*begin, {"stable": "25%", "jump_to": 1.0}]}}}  # fmt: skip
    base = small_study().base
    one = asked(root, study_of(levels, base={**base, "plan": {**base["plan"], "peak_lr": 1e39, "average": None}}))
    one.runs = sorted(one.runs, key=lambda run: run.arm.name, reverse=True)
    assert [run.arm.name for run in one.runs] == ["wild", "wild", "sane", "sane"]
    found = results_in(trained(one, root))
    for seed in (0, 1):
        wild, sane = found[f"wild.s{seed}"], found[f"sane.s{seed}"]
        assert (wild.status, wild.losses, wild.tokens) == ("failed", {}, 0)
        assert "stopped being finite at step" in wild.reason
        assert (sane.status, sane.branched_at) == ("finished", 12 * STEP)
        assert not (root / RUNS / f"wild.s{seed}.documents.parquet").exists()
    assert [line["begun_at"] for line in events(root, "run") if line["run"].startswith("sane")] == [12, 12]


def test_places_after_a_switch_are_measured_beside_those_that_a_plan_names(small):
    study = study_of({"none": {**switched(0), "plan": {"eval_every": "100%", "eval_at": ["25%", "50.5%"]}}, "some": {}})
    run = Run(arms_of(study, "minutes")["none"], 0)
    (training,) = trainings_of([run], small.data).values()
    assert resolve(training.plan).eval_at_steps == (4, 8, 9, 10, 12, 16)


@pytest.fixture(scope="module")
def taught(study_root, tmp_path_factory):
    """A study with an ensemble of two and a student of two teachers, trained and asked questions."""
    root = copy_of(study_root, tmp_path_factory.mktemp("taught"))
    levels = {"a": {}, "student": {"teachers": {"arm": "a", "members": 2}}}
    one = asked(root, study_of(levels, ensembles={"pair": {"arm": "a", "members": 2}}))
    questions = root / "ask.jsonl"
    asks = (("The", [" file", " zzz"], 0), ("A", [" qqq", " page"], 1))
    lines = [json.dumps({"query": query, "choices": choices, "gold": gold}) for query, choices, gold in asks]
    questions.write_text("\n".join(lines) + "\n")
    return SimpleNamespace(one=one, root=root, runs=trained(one, root, questions=[questions]), questions=questions)


def test_members_and_teachers_are_trained_first_and_leave_nothing(taught):
    assert [run.id for run in taught.one.runs] == ["a.s0", "a.s1", "a.s1000", "a.s1001", "student.s0", "student.s1"]
    assert [line["run"][:2] for line in events(taught.root, "run")] == ["a."] * 4 + ["st"] * 2
    assert {path.suffix for path in (taught.root / KEPT).iterdir()} == {".json", ".parquet"}
    assert [path.name for path in (taught.root / RUNS).parent.iterdir() if "before" in path.name] == []


def test_an_ensemble_is_measured_beside_its_first_member_and_is_no_worse_than_the_mean(taught):
    found = results_in(taught.runs)
    for seed in (0, 1):
        first, second = found[f"a.s{seed}"], found[f"a.s{1000 + seed}"]
        for name, kinds in first.losses.items():
            mean = (kinds["raw"].nats_per_token + second.losses[name]["raw"].nats_per_token) / 2
            assert kinds["pair"].nats_per_token < mean
        assert set(second.losses["web"]) == {"raw", "sma"}
        documents = read_table(taught.runs.folder / f"a.s{seed}.documents.parquet")
        assert documents["weights"].unique().to_pylist() == ["raw", "sma", "pair"]
    assert set(found["a.s0"].items) == {"raw", "sma", "pair"}


def test_students_learn_from_their_own_teachers(taught):
    found = results_in(taught.runs)
    assert found["student.s0"].status == "finished"
    assert found["student.s0"].losses != found["a.s0"].losses
    assert found["student.s0"].reading == found["a.s0"].reading
    (student,) = [one for one in trainings_of(taught.one.runs, taught.one.data).values() if one.run.id == "student.s1"]
    assert [teacher.run.id for teacher in student.teachers] == ["a.s1", "a.s1001"]
    assert [Path(one.path).suffix for one in student.plan.objective.teachers] == [".weights", ".weights"]


def test_questions_are_scored_for_all_weights_item_by_item(taught):
    for one in results_in(taught.runs).values():
        for scores in one.items.values():
            assert [(score.file, score.metric, score.n, score.chance) for score in scores] == [
                ("ask.jsonl", "raw", 2, 0.5), ("ask.jsonl", "per_byte", 2, 0.5)
            ]  # fmt: skip
            assert all(score.accuracy == sum(score.correct) / 2 for score in scores)


def test_the_same_call_finds_it_done_and_trains_nothing(taught):
    before, bytes_before = len(events(taught.root, "run")), content(taught.runs.folder)
    again = trained(taught.one, taught.root, questions=[taught.questions])
    assert content(again.folder) == bytes_before
    assert len(events(taught.root, "run")) == before


def test_a_teacher_that_is_not_trained_is_named(taught):
    with pytest.raises(ConfigError, match="needs a run of the arm a with the seed 1000"):
        trainings_of([run for run in taught.one.runs if run.seed < 1000], taught.one.data)


def _train_in_child(one: SimpleNamespace, root: Path, ready) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    ready.send(True)
    trained(one, root)


@pytest.mark.slow
def test_killed_at_random_points_it_ends_in_the_same_bytes(small, whole, tmp_path):
    root = copy_of(small.data.root, tmp_path)
    one = SimpleNamespace(data=small.data, study=small.study, runs=small.runs)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.experiments.runs", "duckdb"])
    delays, killed = random.Random(5), 0
    for _ in range(6):
        receiver, ready = context.Pipe(duplex=False)
        child = context.Process(target=_train_in_child, args=(one, root, ready))
        child.start()
        assert receiver.recv()
        time.sleep(delays.uniform(0.1, 1.2))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= 3
    assert content(trained(one, root).folder) == content(whole.folder)
    assert {path.suffix for path in (root / KEPT).iterdir()} == {".json", ".parquet"}
