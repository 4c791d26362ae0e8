"""Learning weights end to end on real pages with tiny proxies, and the promises each step makes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.errors import ConfigError, InputError
from corpus.events import EVENTS
from corpus.shards import read_table
from pipelines.commands.rate import rate_command
from pipelines.commands.verify import verify_command
from pipelines.commands.weigh import weigh_settings
from pipelines.commands.workshop import RuntimeOptions, open_workshop
from pipelines.paired import gain
from pipelines.proxies import KEPT, ProxyResult, in_pieces, results_of
from pipelines.recipe import DEMO
from pipelines.weigh.evidence import conclude, verdict
from pipelines.weigh.pool import HELD_OUT
from pipelines.weigh.settings import WeighSettings
from pipelines.weigh.weighing import Weighing
from raters.weights_file import read_weights
from tests.pipelines.small_recipe import gradatim

PLAN = {
    "tokens": "8K", "sequence_length": 64, "batch_sequences": 8, "peak_lr": 3e-3, "threads": 1, "eval_every": "100%",
    "checkpoint_every": "50%", "phases": [{"warmup": "10%"}, {"stable": "60%"}, {"decay": "30%", "to": "1/10"}],
}  # fmt: skip
SMALL = {
    "validation": {"share": "10%", "max_tokens": "3K"},
    "subset": {"share": "50%"},
    "design": {"runs": 15, "repeats": 2},
    "random_subsets": 2,
    "confirm": 2,
    "vocabulary": 300,
    "model": {"vocabulary": 300, "hidden": 32, "layers": 1, "heads": 1, "head_size": 32, "intermediate": 32},
    "plan": PLAN,
    "learn": {"regressors": ["ridge", "ridge_sqrt"], "resamples": 20},
}


def settings(**changes: object) -> WeighSettings:
    return validated(WeighSettings, {**SMALL, **changes}, "test")


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A workspace of 300 rated pages in two sources."""
    folder = tmp_path_factory.mktemp("weigh")
    lines = (DEMO.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "first.jsonl").write_text("".join(lines[:150]))
    (folder / "second.jsonl").write_text("".join(lines[150:300]))
    given = [str(folder / "first.jsonl"), str(folder / "second.jsonl")]
    rate_command(given, folder / "w", None, [], RuntimeOptions(workers=1))
    return folder / "w"


def weigh(workspace, wanted, **options):
    with open_workshop(workspace, RuntimeOptions(**options)) as shop:
        scores = [Artifact(workspace / "scores" / "signals")]
        return Weighing(shop, Artifact(workspace / "documents"), scores, wanted).run()


def copy(workspace, target):
    """The rated documents alone, in a workspace of their own."""
    for name in ("documents", "scores/signals"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(workspace / name), str(target / name)], check=True)
    return target


@pytest.fixture(scope="module")
def weighed(rated, tmp_path_factory):
    workspace = copy(rated, tmp_path_factory.mktemp("weighed"))
    weigh(workspace, settings(), workers=2)
    return workspace


@pytest.mark.slow
def test_weights_come_with_their_evidence(weighed):
    file = read_weights(weighed / "weigh" / "weights" / "weights.json")
    assert len(file.scores) == 11
    assert sum(file.weights) == pytest.approx(1)
    measured = file.evidence.measured
    assert measured["learned"]["runs"] == 17
    assert "distinguishable" in file.evidence.summary or "better than equal" in file.evidence.summary
    assert measured["confirmation"]["over_equal"]["pairs"] == 2
    assert verify_command(weighed, None) == 0


@pytest.mark.slow
def test_runs_are_joined_by_key_and_select_what_they_should(weighed):
    results = results_of(Artifact(weighed / "weigh" / "runs"))
    pool = read_table(weighed / "weigh" / "pool" / "pool.parquet")
    free = int(np.sum(pool["length"].to_numpy()[~pool[HELD_OUT].to_numpy(zero_copy_only=False)]))
    assert {item.kind for item in results.values()} == {"dirichlet", "uniform", "random"}
    for run_id, item in results.items():
        assert item.run_id == run_id
        assert item.status == "finished"
        assert item.tokens <= free // 2 < item.tokens + int(np.max(pool["length"].to_numpy()))
        assert set(item.losses) == {"first", "second"}
    same = {item.subset for item in results.values() if item.kind == "uniform"}
    assert len(same) == 1, "repeats of equal weights select the same documents"
    losses = {item.losses["first"] for item in results.values() if item.kind == "uniform"}
    assert len(losses) == 2, "and differ by their seed"
    rows = read_table(weighed / "weigh" / "weights" / "runs.parquet").to_pylist()
    assert [row["run_id"] for row in rows] == sorted(row["run_id"] for row in rows)
    for row in rows:
        if row["run_id"] in results:
            assert row["loss_first"] == results[row["run_id"]].losses["first"]


@pytest.mark.slow
def test_a_second_run_makes_nothing_and_the_workers_do_not_matter(rated, weighed, tmp_path):
    before = (weighed / EVENTS).read_text()
    weigh(weighed, settings(), workers=2)
    assert (weighed / EVENTS).read_text() == before
    other = copy(rated, tmp_path)
    weigh(other, settings(), workers=1)
    assert verify_command(weighed, other) == 0


@pytest.mark.slow
@pytest.mark.spark
def test_proxies_run_as_spark_tasks_to_the_same_bytes(rated, weighed, tmp_path):
    other = copy(rated, tmp_path)
    weigh(other, settings(), runtime="spark", workers=2)
    assert verify_command(weighed, other) == 0


@pytest.mark.slow
def test_killed_in_the_middle_of_the_proxies_it_ends_with_the_same_bytes(rated, weighed, tmp_path):
    workspace = copy(rated, tmp_path / "w")
    code = "import sys; from pathlib import Path; from tests.pipelines.test_weigh import *; "
    code += "weigh(Path(sys.argv[1]), settings(), workers=1)"
    process = subprocess.Popen([sys.executable, "-c", code, str(workspace)], cwd=Path(__file__).parents[2])
    wait_for(lambda: len(list((workspace / "weigh/runs").glob("d*.json"))) >= 4, process, timeout=400)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: os.stat(path).st_mtime_ns for path in (workspace / "weigh/runs").glob("d*.json")}
    weigh(workspace, settings(), workers=1)
    assert verify_command(weighed, workspace) == 0
    assert sum(os.stat(path).st_mtime_ns == at for path, at in kept.items()) >= 3, "finished proxies were kept"


def wait_for(done, process, timeout=120):
    ends = time.monotonic() + timeout
    while not done():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.slow
def test_a_larger_design_trains_only_what_is_new(rated, weighed, tmp_path):
    subprocess.run(["cp", "-r", str(weighed), str(tmp_path / "w")], check=True)
    kept = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "w" / KEPT).glob("*.json")}
    weigh(tmp_path / "w", settings(design={"runs": 16, "repeats": 2}, confirm=0), workers=2)
    now = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "w" / KEPT).glob("*.json")}
    assert len(now) == len(kept) + 1
    assert all(now[path] == at for path, at in kept.items())
    fresh = copy(rated, tmp_path / "fresh")
    weigh(fresh, settings(design={"runs": 16, "repeats": 2}, confirm=0), workers=2)
    assert verify_command(tmp_path / "w", fresh) == 0


@pytest.mark.slow
def test_a_run_that_diverges_is_a_failure_with_its_reason_and_not_a_number(rated, tmp_path):
    workspace = copy(rated, tmp_path)
    wild = settings(plan={**PLAN, "peak_lr": 1e30, "grad_clip": 1e30})
    with pytest.raises(InputError, match="no run has a loss"):
        weigh(workspace, wild, workers=1)
    results = results_of(Artifact(workspace / "weigh" / "runs"))
    assert results
    for item in results.values():
        assert item.status == "failed"
        assert "stopped being finite" in item.reason
        assert item.losses == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": {"share": "1%"}}, "fewer tokens than a proxy reads"),
        ({"subset": {"share": 1.0}}, "would be the whole pool"),
        ({"validation": {"sources": ["frst"]}}, "did you mean 'first'"),
        ({"scores": ["rps_doc_word_cnt", "rps_doc_num_sentences"]}, "did you mean 'rps_doc_word_count'"),
        ({"scores": ["rps_doc_word_count"]}, "not two scores to weigh"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_a_proxy_is_trained(rated, tmp_path, change, message):
    workspace = copy(rated, tmp_path)
    with pytest.raises(ConfigError, match=message):
        weigh(workspace, settings(**change), workers=1)
    assert not (workspace / "weigh" / "runs").exists()


def test_a_target_must_be_measured():
    with pytest.raises(ConfigError, match="not among the sources that are measured on"):
        settings(validation={"sources": ["a"], "target": ["b"]})


def test_the_command_explains_its_settings_and_names_what_is_wrong(rated, tmp_path):
    shown = gradatim("weigh", "documents", "-w", rated, "--explain", "--set", "design.runs=7").stdout
    assert "design.runs = 7" in shown
    ended = gradatim("weigh", "documents", "-w", rated, "--set", "design.rns=7")
    assert ended.returncode == 2
    assert "did you mean 'runs'" in ended.stderr
    assert weigh_settings(None, ()).proxy.vocabulary == 2048


def test_one_key_of_the_plan_or_the_model_can_be_changed_alone():
    changed = weigh_settings(None, ("plan.tokens=2M", "model.layers=2"))
    plain = WeighSettings()
    assert changed.plan == plain.plan.model_copy(update={"tokens": 2_000_000})
    assert changed.model == plain.model.model_copy(update={"layers": 2})


def result(kind, seed, loss):
    return ProxyResult(run_id=f"{kind}{seed}", kind=kind, shares=None, seed=seed, status="finished", losses={"a": loss},
                       subset="", documents=1, tokens=1, tokens_by_source={})  # fmt: skip


def test_the_measured_gain_is_paired_by_seed():
    """Seeds differ by far more than the gain: unpaired it would drown, paired it is found (t interval, closed form)."""
    results = []
    for seed, level in enumerate((3.0, 4.0, 5.0)):
        results += [result("uniform", seed, level), result("learned", seed, level - 0.1 - 0.01 * seed)]
    found = conclude(results, lambda item: item.losses["a"])
    assert found.over_equal.mean == pytest.approx(0.11)
    half = 4.302652729911275 * 0.01 / np.sqrt(3)
    assert found.over_equal.low == pytest.approx(0.11 - half)
    assert found.over_equal.high == pytest.approx(0.11 + half)
    assert "better than equal" in found.verdict
    assert found.random.n == 0
    assert found.over_random.mean is None


def test_noise_is_not_called_a_gain():
    assert "not distinguishable" in verdict(gain({0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.1, 1: 1.9, 2: 3.0}))
    assert "no way to tell" in verdict(gain({0: 1.0}, {0: 0.5}))
    assert "nothing is known" in verdict(gain({0: 1.0}, {1: 0.5}))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(1, 300))
def test_pieces_cover_their_documents_without_gaps(lengths, size):
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    ids = [str(i) for i in range(len(lengths))]
    pieces = in_pieces(
        pa.table({"id": ids, "start": starts, "length": pa.array(lengths, pa.int32())}), size
    ).to_pylist()
    assert all(1 <= piece["length"] <= size for piece in pieces)
    assert len({(piece["id"], piece["visit"]) for piece in pieces}) == len(pieces)
    covered = [at for piece in pieces for at in range(piece["start"], piece["start"] + piece["length"])]
    assert covered == list(range(sum(lengths)))


def test_documents_are_held_out_by_their_ids_and_never_selected(weighed_pool):
    pool = weighed_pool
    held = pool[HELD_OUT].to_numpy(zero_copy_only=False)
    assert 0 < held.sum() < len(held) / 4


@pytest.fixture(scope="module")
def weighed_pool(rated, tmp_path_factory) -> pa.Table:
    workspace = copy(rated, tmp_path_factory.mktemp("pool"))
    with open_workshop(workspace, RuntimeOptions(workers=1)) as shop:
        scores = [Artifact(workspace / "scores" / "signals")]
        weighing = Weighing(shop, Artifact(workspace / "documents"), scores, settings())
        return read_table(weighing.pool(weighing.tokens(weighing.tokenizer())).files()[0])
