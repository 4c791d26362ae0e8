"""A bundle trains with torch and numpy alone, through kills and in parts, to the bytes of a local run."""

import os
import shutil
import signal
import time
from dataclasses import replace

import pytest

from corpus.errors import ArtifactError, ConfigError
from pipelines.experiments.arms import arms_of, runs_of
from pipelines.experiments.bundle import MOST_BYTES, pack
from pipelines.experiments.bundle_collect import collect
from pipelines.experiments.bundle_runtime.runner import main
from pipelines.experiments.results import results_in
from pipelines.experiments.runs import train_runs
from tests.pipelines.experiments import lean_python
from tests.pipelines.experiments.small_study import copy_of, prepared, small_study, workshop

pytestmark = pytest.mark.slow
RUNS = "experiments/taught-minutes/runs"
TAUGHT = {
    "name": "taught", "factors": {"order": {"shuffled": {}, "ascending": {"order": {"kind": "sorted", "by": "score"}}}},
    "extra": {
        "filter_repeat": {"like": "shuffled", "mixture": {"sources": {"*": {"keep": {"by": "score", "top": "50%"}}}}},
        "distilled": {"like": "shuffled", "teachers": {"arm": "shuffled", "members": 2}},
        "decay": {"like": "shuffled", "plan": {"phases": [{"warmup": "10%"}, {"stable": "50%"},
                                                          {"decay": "40%", "to": "1/10"}]}},
    },
    "ensembles": {"pair": {"arm": "shuffled", "members": 2}},
    "contrasts": {"order": {"arm": "ascending", "against": "shuffled"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return lean_python.site_of_torch(tmp_path_factory.mktemp("lean") / "site")


@pytest.fixture(scope="module")
def asked(study_root, tmp_path_factory):
    """A study with teachers, an ensemble and a shared beginning: its data in a workspace of its own, and its runs."""
    root = copy_of(study_root, tmp_path_factory.mktemp("taught"))
    study = small_study(**TAUGHT)
    return study, prepared(root, study), runs_of(study, arms_of(study, "minutes"))


@pytest.fixture(scope="module")
def trained(asked, site, tmp_path_factory):
    """A bundle of it, trained by a lean Python in two parts at a time after a kill; what `pack` said of it."""
    study, data, runs = asked
    packed = pack(data, study, "minutes", runs, tmp_path_factory.mktemp("packed") / "bundle", request={"typed": "this"})
    script = packed.folder / "run.py"
    killed = lean_python.start(site, script)
    while not list(packed.folder.glob("work/*/checkpoints/step-*/state.json")):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    parts = [lean_python.start(site, script, "--part", part) for part in ("1/2", "2/2")]
    said = [part.communicate()[0] for part in parts]
    assert [part.returncode for part in parts] == [0, 0], said
    return packed, said


def test_a_bundle_ends_in_the_bytes_of_a_local_run(asked, trained, study_root, tmp_path):
    study, data, runs = asked
    root, back = copy_of(data.root, tmp_path), copy_of(data.root, tmp_path / "back")
    local = train_runs(workshop(root), RUNS, runs, replace(data, root=root), ensembles=study.ensembles)
    collected = collect(trained[0].folder, workshop(back))
    assert (collected.missing, collected.failed, collected.warnings) == ((), (), ())
    assert collected.request == {"typed": "this"}
    names = sorted(path.name for path in local.folder.iterdir())
    assert names == sorted(path.name for path in collected.runs.folder.iterdir())
    differing = [name for name in names
                 if (local.folder / name).read_bytes() != (collected.runs.folder / name).read_bytes()]  # fmt: skip
    assert not differing
    found = results_in(collected.runs)
    assert "pair" in found["shuffled.s0"].losses["web"]
    assert found["decay.s1"].branched_at  # which the bundle's was not, to the same bytes


def test_it_says_what_it_trains_and_how_fast(trained):
    packed, said = trained
    assert "every file is as it was packed" in said[0]
    assert "tokens/s" in said[0]
    assert packed.bytes == sum(path.stat().st_size for path in packed.folder.rglob("*") if path.is_file()
                               and path.parts[len(packed.folder.parts)] not in ("results", "work"))  # fmt: skip
    assert packed.bytes < MOST_BYTES


def test_weights_that_nothing_needs_any_more_are_removed(trained):
    assert not [path for path in (trained[0].folder / "work").iterdir() if path.is_dir()]


def test_a_finished_bundle_trains_nothing(trained, capsys):
    assert main(trained[0].folder, []) == 0
    assert "to do: 0 of" in capsys.readouterr().out


def test_a_run_without_its_result_is_missing_and_never_averaged_in(asked, trained, tmp_path):
    _, data, _ = asked
    bundle = shutil.copytree(trained[0].folder, tmp_path / "bundle")
    (bundle / "results" / "ascending.s1" / "result.json").unlink()  # as of a run that is under way
    collected = collect(bundle, workshop(copy_of(data.root, tmp_path)))
    assert collected.missing == ("ascending.s1",)
    assert "ascending.s1" not in results_in(collected.runs)
    assert "ascending.s0" in results_in(collected.runs)


def test_results_may_lie_elsewhere_and_without_any_there_is_nothing_to_collect(asked, trained, tmp_path):
    _, data, _ = asked
    bundle = shutil.copytree(trained[0].folder, tmp_path / "bundle")
    results = (bundle / "results").rename(tmp_path / "elsewhere")
    back = workshop(copy_of(data.root, tmp_path))
    with pytest.raises(ArtifactError, match="no result yet"):
        collect(bundle, back)
    assert collect(bundle, back, results=results).missing == ()


def test_a_folder_that_is_there_is_not_written_over(asked, tmp_path):
    study, data, runs = asked
    with pytest.raises(ConfigError, match="is there already"):
        pack(data, study, "minutes", runs, tmp_path)


def test_a_hook_that_reads_tables_is_refused(asked, tmp_path):
    _, data, _ = asked
    study = small_study("base.plan.hooks=[source_loss]", **TAUGHT)
    with pytest.raises(ConfigError, match="source_loss"):
        pack(data, study, "minutes", runs_of(study, arms_of(study, "minutes")), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
