"""`gradatim experiment` as it is typed: studies listed and shown, trained, continued, packed elsewhere, refused."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from corpus.artifacts import Artifact
from corpus.errors import GradatimError
from pipelines.cli import app
from pipelines.experiments.analysis.findings import read_findings
from pipelines.experiments.arms import arms_of, runs_of
from pipelines.experiments.cost import cost_of
from pipelines.experiments.study import bundled_studies, load_study
from tests.pipelines.experiments.small_study import copy_of, small_study


def experiment(*arguments):
    ended = CliRunner().invoke(app, ["experiment", *map(str, arguments)])
    if isinstance(ended.exception, GradatimError):
        raise ended.exception
    assert ended.exception is None, ended.exception
    return " ".join(ended.stdout.split())


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    """The small study as a file that a user would write."""
    path = tmp_path_factory.mktemp("files") / "mine.yaml"
    held = small_study().model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    path.write_text(yaml.safe_dump({**held, "name": "mine"}))
    return path


@pytest.fixture(scope="module")
def work(study_root, tmp_path_factory):
    return copy_of(study_root, tmp_path_factory.mktemp("experiments"))


@pytest.fixture(scope="module")
def shown(work, study_file):
    """What the first, whole run of the study printed."""
    return experiment("run", study_file, "--size", "minutes", "--workers", 1, "-w", work)


def test_every_bundled_study_is_listed_with_its_question():
    listed = experiment("ls")
    for name in bundled_studies():
        assert load_study(name).question.split()[0] in listed
        assert name in listed


def test_a_study_is_shown_with_arms_controls_and_what_it_takes():
    told = experiment("show", "cma", "--size", "hour")
    assert "ascending.constant shuffled.constant" in told
    study = load_study("cma")
    cost = cost_of(runs_of(study, arms_of(study, "hour")))
    assert f"{cost.runs} runs of {cost.tokens / 1e6:,.1f} M tokens" in told
    assert cost.trained < cost.tokens, "schedules of one order share their trunk"


def test_a_dry_run_trains_nothing_and_says_how_long_it_takes(work, study_file, tmp_path):
    before = sorted(path.name for path in work.iterdir())
    told = experiment("run", study_file, "--size", "minutes", "--dry-run", "-w", work)
    assert "tokens/s each, measured now" in told
    assert "Expected: Nothing is known." in told
    if "experiments" not in before:
        assert not (work / "experiments").exists()


def test_a_run_prints_the_answer_and_leaves_findings_and_a_page(work, shown):
    found = read_findings(work / "experiments/mine-minutes/findings/findings.json")
    assert " ".join(found.answer.split())[:60] in shown
    assert found.lost == ()
    assert found.planned == 2 * len(found.arms)
    page = (work / "experiments/mine-minutes/page/page.html").read_text()
    assert "Does order matter?" in page
    assert "gradatim" in found.provenance.command
    assert "experiments/mine-minutes/page/page.html" in shown


def test_the_same_command_trains_nothing_again_and_more_seeds_train_only_those(work, study_file, shown):
    runs = work / "experiments/mine-minutes/runs"
    before = {path.name: path.read_bytes() for path in Artifact(runs).files()}
    trained = _trained(work)
    experiment("run", study_file, "--size", "minutes", "--workers", 1, "-w", work)
    assert _trained(work) == trained
    experiment("run", study_file, "--size", "minutes", "--workers", 1, "-w", work, "--set", "sizes.minutes.seeds=3")
    assert all(run.endswith(".s2") for run in _trained(work)[len(trained) :])
    after = {path.name: path.read_bytes() for path in Artifact(runs).files()}
    assert {name: after[name] for name in before} == before


def test_what_was_found_here_is_shown_with_the_study(work, study_file, shown):
    told = experiment("show", study_file, "--size", "minutes", "-w", work)
    assert "95 % interval" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "cmaa"], "cma"),
        (["run", "cma", "--size", "hours"], "hour"),
        (["run", "cma", "--column", "score"], "NAME=VALUE"),
        (["run", "cma", "--score", "edu", "--column", "score=noise"], "given twice"),
        (["run", "cma", "--column", "scroe=edu"], "score"),
        (["run", "cma", "--documents", "document"], "documents"),
        (["run", "cma", "--set", "factors.order.shuffled.order.kind=sorted", "--score", "edu"], "shuffled"),
        (["run", "replay"], "role"),
        (["run", "replay", "--role", "old=web", "--role", "new=germn"], "german"),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest_that_can(work, arguments, said):
    with pytest.raises(GradatimError) as refused:
        experiment(*arguments, "-w", work)
    assert said in refused.value.render()


def test_a_bundle_is_packed_and_says_how_it_is_run(work, study_file, shown, tmp_path):
    told = experiment("pack", study_file, "--size", "minutes", "-w", work, "-o", tmp_path / "bundle")
    assert "python run.py" in told
    assert "experiment collect" in told
    assert (tmp_path / "bundle/run.py").is_file()
    with pytest.raises(GradatimError):
        experiment("collect", tmp_path / "bundle", "-w", work)


def _trained(root):
    lines = (json.loads(line) for line in (root / "events.jsonl").read_text().splitlines())
    return [line["run"] for line in lines if line.get("experiment") == "run"]
