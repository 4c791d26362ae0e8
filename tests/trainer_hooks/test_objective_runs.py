"""Runs that learn from a teacher: resumed to the bit, and only with the teacher they began with."""

import shutil

import pytest

from corpus.config import load_yaml
from corpus.errors import ConfigError
from tests.trainer_hooks.hook_runs import assert_resumes, steps_of, train_with
from trainer_hooks.run_identity import PLAN_FILE


@pytest.fixture(scope="module")
def teacher(workspace, tiny, tmp_path_factory):
    """A finished run with an average."""
    folder = tmp_path_factory.mktemp("teacher")
    train_with(workspace, tiny, folder, [], seed=3)
    return folder


def test_a_student_resumes_to_the_bit_and_differs_from_plain_training(workspace, tiny, teacher, tmp_path):
    objective = {"kind": "distill", "teachers": [str(teacher)], "weight": "60%", "temperature": 2.0}
    whole = assert_resumes(workspace, tiny, tmp_path, [], cuts=(7,), objective=objective, document_mask=True)
    plain = train_with(workspace, tiny, tmp_path / "plain", [], document_mask=True)
    assert [line["loss"] for line in steps_of(whole.folder)] != [line["loss"] for line in steps_of(plain.folder)]
    assert len(load_yaml(whole.folder / PLAN_FILE)["objective"]["teachers"][0]) == 16


def test_without_weight_the_run_is_plain_training(workspace, tiny, teacher, tmp_path):
    objective = {"kind": "distill", "teachers": [str(teacher)], "weight": 0.0}
    runs = [train_with(workspace, tiny, tmp_path / "none", [], objective=objective)]
    runs.append(train_with(workspace, tiny, tmp_path / "plain", []))
    losses = [[line["loss"] for line in steps_of(run.folder)] for run in runs]
    assert losses[0] == losses[1]


def test_another_teacher_in_the_same_place_is_refused(workspace, tiny, teacher, tmp_path):
    place = tmp_path / "teacher"
    shutil.copytree(teacher, place)
    objective = {"kind": "distill", "teachers": [str(place)]}
    train_with(workspace, tiny, tmp_path / "run", [], objective=objective)
    shutil.rmtree(place)
    train_with(workspace, tiny, place, [], seed=4)
    with pytest.raises(ConfigError, match=r"objective\.teachers"):
        train_with(workspace, tiny, tmp_path / "run", [], objective=objective)
