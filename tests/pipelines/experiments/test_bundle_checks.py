"""What may not be: a changed bundle, results of another one, edited results, runs that failed, other versions."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from corpus.errors import ArtifactError, GradatimError
from pipelines.experiments.arms import arms_of, runs_of
from pipelines.experiments.bundle import pack
from pipelines.experiments.bundle_collect import collect
from pipelines.experiments.bundle_format import MANIFEST, NATS, RESULT, Bundle, canonical, digest, sealed
from pipelines.experiments.bundle_runtime.runner import chosen_runs, main
from pipelines.experiments.results import results_in
from pipelines.experiments.runs import train_runs
from tests.pipelines.experiments.small_study import copy_of, prepared, small_study, workshop

PLAIN = {"shuffled": {}, "broken": {"plan": {"peak_lr": 1e30}}}
"""The second arm's loss stops being finite."""
TWO = {
    "name": "two", "factors": {"what": PLAIN}, "extra": {}, "control": {"what": "shuffled"},
    "contrasts": {"what": {"arm": "broken", "against": "shuffled"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def asked(study_root, tmp_path_factory):
    root = copy_of(study_root, tmp_path_factory.mktemp("two"))
    study = small_study("sizes.minutes.plan.tokens=4096", **TWO)
    return study, prepared(root, study), runs_of(study, arms_of(study, "minutes"))


@pytest.fixture(scope="module")
def trained(asked, tmp_path_factory):
    """A bundle with all its results; the runner was called here, with the packages themselves."""
    study, data, runs = asked
    folder = pack(data, study, "minutes", runs, tmp_path_factory.mktemp("packed") / "bundle").folder
    assert main(folder, ["--device", "cpu"]) == 0
    return folder


@pytest.fixture
def bundle(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "bundle")


@pytest.fixture
def back(asked, tmp_path):
    return workshop(copy_of(asked[1].root, tmp_path))


def edited(path, **changes):
    """Rewrite a result with its seal, as somebody would who knows the format."""
    facts = json.loads(path.read_text())
    facts.pop("seal")
    path.write_text(json.dumps(sealed({**facts, **changes})))


def test_a_run_that_failed_is_marked_as_it_is_by_a_local_run(asked, trained, back, tmp_path):
    _, data, runs = asked
    root = copy_of(data.root, tmp_path / "local")
    local = train_runs(workshop(root), "experiments/two-minutes/runs", runs, replace(data, root=root))
    collected = collect(trained, back)
    assert collected.failed == ("broken.s0", "broken.s1")
    assert results_in(collected.runs) == results_in(local)
    assert "finite" in results_in(collected.runs)["broken.s0"].reason


@pytest.mark.parametrize("name", ["data/tokens.xz", "code/trainer_hooks/run.py", "run.py", "runs/shuffled.s0.json"])
def test_a_changed_file_is_found_before_training_and_before_collecting(bundle, back, capsys, name):
    (bundle / name).write_bytes((bundle / name).read_bytes() + b"\n")
    assert main(bundle, ["--check"]) == 1
    assert name in capsys.readouterr().err
    with pytest.raises(ArtifactError, match="changed after it was packed"):
        collect(bundle, back)


def test_added_code_and_missing_files_are_changes_too(bundle):
    (bundle / "code" / "numpy.py").write_text("")
    (bundle / "data" / "starts.xz").unlink()
    assert Bundle.open(bundle).changed() == ["code/numpy.py", "data/starts.xz"]


def test_an_edited_manifest_is_refused(bundle, back):
    facts = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**facts, "size": "hour"}))
    with pytest.raises(ArtifactError, match=r"bundle\.json"):
        collect(bundle, back)
    (bundle / MANIFEST).write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(ArtifactError, match="another format"):
        Bundle.open(bundle)
    with pytest.raises(ArtifactError, match="not a bundle"):
        Bundle.open(bundle / "data")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"bundle": "0"}, "another bundle"), ({"code": "0"}, "another code"), ({"run": "shuffled.s1"}, "another run")],
)
def test_results_of_another_bundle_code_or_run_are_refused(bundle, back, changes, said):
    edited(bundle / "results" / "shuffled.s0" / RESULT, **changes)
    with pytest.raises(ArtifactError, match=said):
        collect(bundle, back)


def test_an_edited_or_cut_off_result_is_refused(bundle, back):
    path = bundle / "results" / "shuffled.s0" / RESULT
    text = path.read_text()
    for changed, said in ((text.replace('"finished"', '"failed"'), "edited"), (text[:-20], "damaged")):
        path.write_text(changed)
        with pytest.raises(ArtifactError, match=said):
            collect(bundle, back)


def test_edited_losses_are_refused(bundle, back):
    path = bundle / "results" / "shuffled.s0" / NATS
    np.save(path, np.load(path) * 0.9)
    with pytest.raises(ArtifactError, match=r"another nats\.npy"):
        collect(bundle, back)
    edited(path.parent / RESULT, files={NATS: digest(path.read_bytes())}, weights=["raw"])
    with pytest.raises(ArtifactError, match="other held-out documents"):
        collect(bundle, back)


def test_a_workspace_with_other_scores_or_tokens_is_refused(asked, bundle, study_root, tmp_path):
    root = copy_of(study_root, tmp_path / "other")
    prepared(root, small_study("sizes.minutes.plan.tokens=4096", "sizes.minutes.measured.share=0.3", **TWO))
    with pytest.raises(ArtifactError, match="not what this bundle was packed from"):
        collect(bundle, workshop(root))


def test_a_version_that_would_train_otherwise_is_refused(bundle, back):
    facts = json.loads((bundle / MANIFEST).read_text())
    facts.pop("fingerprint")
    facts["runs"][0]["key"] = "0" * 16
    (bundle / MANIFEST).write_text(json.dumps({**facts, "fingerprint": digest(canonical(facts))}))
    with pytest.raises(ArtifactError, match=r"would train shuffled\.s0 otherwise"):
        collect(bundle, back)


def test_other_versions_are_warned_of_and_recorded(asked, tmp_path, back, capsys, monkeypatch):
    study, data, runs = asked
    monkeypatch.setattr("pipelines.experiments.bundle._lock", lambda: {"python": "3.11.0", "torch": "1", "numpy": "1"})
    folder = pack(data, study, "minutes", runs, tmp_path / "locked").folder
    assert main(folder, ["--arm", "shuffled", "--seed", "0", "--device", "cpu"]) == 0
    assert "numpy" in capsys.readouterr().err
    collected = collect(folder, back)
    assert any("packed with 1" in line for line in collected.warnings)
    assert collected.missing == ("shuffled.s1", "broken.s0", "broken.s1")


def test_a_run_is_trained_by_one_process_at_a_time(bundle, capsys):
    import fcntl

    shutil.rmtree(bundle / "results")
    (bundle / "work").mkdir(exist_ok=True)
    with (bundle / "work" / ".shuffled.s0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(bundle, []) == 1
    assert "another process trains shuffled.s0" in capsys.readouterr().err


def test_a_full_disk_is_told_before_anything_is_trained(bundle, capsys, monkeypatch):
    shutil.rmtree(bundle / "results")
    monkeypatch.setattr("pipelines.experiments.bundle_runtime.machine.free_disk", lambda bundle: 0)
    assert main(bundle, []) == 1
    assert "too little room" in capsys.readouterr().err
    assert not (bundle / "results").exists()


def test_selection_names_what_there_is(trained):
    with pytest.raises(GradatimError, match="no run of this bundle matches"):
        chosen_runs(Bundle.open(trained), ["nothing"], [], (1, 1))
    found = chosen_runs(Bundle.open(trained), ["shuf*"], [1], (1, 1))
    assert [run["id"] for run in found] == ["shuffled.s1"]
    with pytest.raises(SystemExit):
        main(trained, ["--part", "3/2"])


def test_parts_cover_all_runs_once_and_keep_together_what_needs_each_other(trained):
    runs = [
        {"id": f"r{i}", "arm": "a", "seed": i, "flops": 1.0 + i % 3, "needs": [f"r{i - 1}"] if i % 4 == 3 else []}
        for i in range(17)
    ]
    bundle = replace(Bundle.open(trained), facts={"runs": runs})
    for shares in (1, 2, 3, 5, 20):
        parts = [chosen_runs(bundle, [], [], (k + 1, shares)) for k in range(shares)]
        assert sorted(run["id"] for part in parts for run in part) == sorted(run["id"] for run in runs)
        for part in parts:
            names = {run["id"] for run in part}
            assert all(need in names for run in part for need in run["needs"])
        if shares == 2:
            loads = [sum(run["flops"] for run in part) for part in parts]
            assert abs(loads[0] - loads[1]) <= 3
