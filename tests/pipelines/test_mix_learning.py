"""A mixture learned end to end from tiny proxies on real pages, and the promises each step makes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.documents import document_id
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.events import EVENTS
from corpus.shards import read_table
from corpus.tokenizer import load_encoder, train_tokenizer
from corpus.tokens import DOCS_SCHEMA, as_token_ids, read_docs, read_token_shard, write_token_shard
from mixtures.config import MixtureConfig
from pipelines.commands.verify import verify_command
from pipelines.commands.workshop import RuntimeOptions, open_workshop
from pipelines.mix_learning import MixLearning, MixLearnSettings, mixture_rows, read_evidence
from pipelines.mix_proxies import first_documents, held_out, pool_of, source_tokens
from pipelines.proxies import KEPT, results_of
from pipelines.recipe import DEMO

PLAN = {
    "tokens": "8K", "sequence_length": 64, "batch_sequences": 8, "peak_lr": 3e-3, "threads": 1, "eval_every": "100%",
    "checkpoint_every": "50%", "phases": [{"warmup": "10%"}, {"stable": "60%"}, {"decay": "30%", "to": "1/10"}],
}  # fmt: skip
SMALL = {
    "validation": {"max_tokens": "2K", "share": "10%", "target": {"pages": 1, "more/pages": 1}},
    "design": {"runs": 18, "repeats": 2},
    "confirm": 2,
    "model": {"hidden": 32, "layers": 1, "heads": 1, "head_size": 32, "intermediate": 32},
    "plan": PLAN,
    "learn": {
        "regressors": ["ridge", "ridge_sqrt"], "resamples": 20,
        "search": {"candidates": 5000, "best": 16, "concentrations": [0.1, 0.3, 1.0]},
    },
}  # fmt: skip


def settings(**changes):
    return validated(MixLearnSettings, {**SMALL, **changes}, "test")


def write_source(folder, name, documents):
    """One token shard of documents given as arrays of ids."""
    lengths = np.array([len(document) for document in documents])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    ids = [document_id(name, str(i)) for i in range(len(documents))]
    docs = pa.table(
        {"id": ids, "start": starts, "length": pa.array(lengths, pa.int32()), "source": [name] * len(ids),
         "n_bytes": pa.array(3 * lengths, pa.int32())}, schema=DOCS_SCHEMA,
    )  # fmt: skip
    array = as_token_ids(np.concatenate(documents).astype(np.uint32), 300)
    write_token_shard(folder / f"{name.replace('/', '-')}-00000-000.npy", array, docs)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Token shards of three sources: pages in two, and their tokens in random order, which teach nothing."""
    root = tmp_path_factory.mktemp("mix")
    lines = (DEMO.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines()[:240]
    texts = [json.loads(line)["text"] for line in lines]
    train_tokenizer(texts, 300, root / "tokenizer.json")
    encoder = load_encoder(root / "tokenizer.json")
    pages = [np.append(ids, np.uint32(encoder.end_of_text))[:600] for ids in encoder.encode(texts)]
    random = np.random.default_rng(0)

    def make(folder):
        write_source(folder, "pages", pages[:100])
        write_source(folder, "more/pages", pages[100:140])
        write_source(folder, "noise", [random.integers(0, 256, len(page)) for page in pages[140:]])
        return {}

    with open_workshop(root, RuntimeOptions(workers=1)) as shop:
        shop.build_here("tokens", "tokens", config={}, inputs=[], make=make)
    return root


def learn(root, wanted, validation=None, **options):
    with open_workshop(root, RuntimeOptions(**options)) as shop:
        return MixLearning(shop, Artifact(root / "tokens"), wanted, validation).run()


def copy(workspace, target):
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", str(workspace / "tokens"), str(target / "tokens")], check=True)
    return target


@pytest.fixture(scope="module")
def learned(workspace, tmp_path_factory):
    root = copy(workspace, tmp_path_factory.mktemp("learned") / "w")
    learn(root, settings(), workers=2)
    return root


@pytest.mark.slow
def test_the_source_that_teaches_nothing_loses_and_the_mixture_can_be_pasted(learned):
    shares = Artifact(learned / "mix" / "shares")
    text = (shares.folder / "shares.yaml").read_text()
    config = MixtureConfig.model_validate(yaml.safe_load(text))
    got = {name: source.share for name, source in config.sources.items()}
    assert list(got) == ["more/pages", "noise", "pages"]
    assert round(sum(got.values()) * 10**6) == 10**6
    evidence = read_evidence(shares)
    assert got["noise"] < evidence.natural["noise"] - 0.1
    assert evidence.learned.baseline == "proportional"
    assert evidence.learned.runs == 20
    assert evidence.gain.pairs == 2
    assert evidence.gain.mean > 0
    assert evidence.verdict in text
    assert [row["source"] for row in mixture_rows(evidence)][-1] == "noise"
    predicted = {row["source"]: row for row in read_table(shares.folder / "predicted.parquet").to_pylist()}
    assert set(predicted) == {"more/pages", "noise", "pages"}
    assert predicted["pages"]["learned"] < predicted["pages"]["natural"]
    assert verify_command(learned, None) == 0


@pytest.mark.slow
def test_runs_read_what_their_shares_say_and_losses_are_joined_by_key(learned):
    names = ["more/pages", "noise", "pages"]
    rows = read_table(learned / "mix" / "shares" / "runs.parquet").to_pylist()
    results = results_of(Artifact(learned / "mix" / "runs"))
    assert {row["run_id"] for row in rows} == {*results, "l00", "l01"}
    for run_id, one in results.items():
        assert one.run_id == run_id
        assert one.status == "finished"
        for name, share in zip(names, one.shares, strict=True):
            assert one.tokens_by_source.get(name, 0) == pytest.approx(share * one.tokens, abs=1)
    losses = {one.losses["pages"] for one in results.values() if one.kind == "proportional"}
    assert len(losses) == 2, "repeats differ by their seed"
    for row in rows:
        if row["run_id"] in results:
            one = results[row["run_id"]]
            assert row["target"] == pytest.approx((one.losses["pages"] + one.losses["more/pages"]) / 2)
            assert row["share_noise"] == one.shares[1]


@pytest.mark.slow
def test_a_second_run_makes_nothing_and_the_workers_do_not_matter(workspace, learned, tmp_path):
    before = (learned / EVENTS).read_text()
    learn(learned, settings(), workers=2)
    assert (learned / EVENTS).read_text() == before
    other = copy(workspace, tmp_path / "w")
    learn(other, settings(), workers=1)
    assert verify_command(learned, other) == 0


@pytest.mark.slow
@pytest.mark.spark
def test_proxies_run_as_spark_tasks_to_the_same_bytes(workspace, learned, tmp_path):
    other = copy(workspace, tmp_path / "w")
    learn(other, settings(), runtime="spark", workers=2)
    assert verify_command(learned, other) == 0


@pytest.mark.slow
def test_killed_in_the_middle_of_the_proxies_it_ends_with_the_same_bytes(workspace, learned, tmp_path):
    root = copy(workspace, tmp_path / "w")
    code = "import sys; from pathlib import Path; from tests.pipelines.test_mix_learning import *; "
    code += "learn(Path(sys.argv[1]), settings(), workers=1)"
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=Path(__file__).parents[2])
    ends = time.monotonic() + 300
    while len(list((root / "mix/runs").glob("d*.json"))) < 4:
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < ends
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (root / "mix/runs").glob("d*.json")}
    learn(root, settings(), workers=1)
    assert verify_command(learned, root) == 0
    assert sum(path.stat().st_mtime_ns == at for path, at in kept.items()) >= 3, "finished proxies were kept"


@pytest.mark.slow
def test_the_other_method_uses_the_same_proxies_and_a_larger_design_trains_only_what_is_new(learned, tmp_path):
    subprocess.run(["cp", "-r", str(learned), str(tmp_path / "w")], check=True)
    kept = {path.name for path in (tmp_path / "w" / KEPT).glob("*.json")}
    shares = learn(tmp_path / "w", settings(method="log_linear", confirm=0), workers=2)
    assert {path.name for path in (tmp_path / "w" / KEPT).glob("*.json")} == kept
    evidence = read_evidence(shares)
    assert evidence.gap < 1e-8
    assert evidence.learned.regressor == "log_linear"
    assert evidence.learned.by_name()["noise"] < evidence.natural["noise"]
    assert "were not trained and compared" in evidence.verdict
    learn(tmp_path / "w", settings(design={"runs": 19, "repeats": 2}, confirm=0), workers=2)
    assert len(list((tmp_path / "w" / KEPT).glob("*.json"))) == len(kept) + 1


@pytest.mark.slow
def test_a_budget_caps_shares_at_what_sources_can_fill(workspace, learned, tmp_path):
    subprocess.run(["cp", "-r", str(learned), str(tmp_path / "w")], check=True)
    held = source_tokens(Artifact(workspace / "tokens"))
    budget = 2 * sum(held.values())
    shares = learn(tmp_path / "w", settings(tokens=budget, max_visits=2.5, confirm=0, method="log_linear"), workers=2)
    asked = yaml.safe_load((shares.folder / "shares.yaml").read_text())
    config = MixtureConfig.model_validate(asked)
    from mixtures.allocate import allocate
    from mixtures.available import Available

    allocation = allocate(Available({name: (100, n) for name, n in held.items()}), config)
    assert allocation.tokens == budget
    assert sum(component.tokens for component in allocation.components) == budget
    assert max(component.tokens / held[component.name] for component in allocation.components) <= 2.5
    for name, share in asked["sources"].items():
        assert share * budget <= 2.5 * held[name] + 1


def test_the_pool_holds_each_sources_first_tokens_whatever_the_rest(workspace):
    tokens = Artifact(workspace / "tokens")
    few, many = first_documents(tokens, 2000, seed=1), first_documents(tokens, 10**9, seed=1)
    held = source_tokens(tokens)
    assert many.num_rows == 240
    for source in held:
        own, all_own = (table.filter(pa.compute.equal(table["source"], source)) for table in (few, many))
        assert own["id"].to_pylist() == all_own["id"].to_pylist()[: own.num_rows], "a smaller pool is a prefix"
        total = sum(own["length"].to_pylist())
        assert total >= min(2000, held[source])
        assert total - own["length"].to_pylist()[-1] <= 2000
    pieces = pool_of(few, 64)
    assert sum(pieces["length"].to_pylist()) == sum(few["length"].to_pylist())
    assert max(pieces["length"].to_pylist()) <= 64


def test_held_out_documents_are_no_proxys(workspace):
    tokens = Artifact(workspace / "tokens")
    train, measure = held_out(3, 0.2)
    ids = [set(first_documents(tokens, 10**9, 1, wanted=side)["id"].to_pylist()) for side in (train, measure)]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == 240
    assert 20 < len(ids[1]) < 80


def test_validation_that_is_given_is_cut_to_its_budget(workspace, tmp_path):
    root = copy(workspace, tmp_path / "w")
    with open_workshop(root, RuntimeOptions(workers=1)) as shop:
        learning = MixLearning(shop, Artifact(root / "tokens"), settings(), Artifact(root / "tokens"))
        validation = learning.validation()
        assert "20 proxies" not in learning.cost()
        assert "22 proxies" in learning.cost()
    for path in validation.files(".npy"):
        docs = read_docs(path)
        assert len(set(docs["source"].to_pylist())) == 1
        assert 2000 <= len(read_token_shard(path)) < 2000 + 600
        source, total = docs["source"][0].as_py(), sum(docs["length"].to_pylist())
        assert validation.manifest.totals["tokens_by_source"][source] == total


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sources": ["pages", "nose"]}, InputError, "did you mean 'noise'"),
        ({"sources": ["pages"]}, ConfigError, "two or more sources"),
        ({"tokens": "900M"}, ConfigError, "cannot fill the budget"),
        ({"validation": {"target": {"page": 1}}}, ConfigError, "did you mean 'pages'"),
        ({"plan": {**PLAN, "tokens": "9M"}}, ConfigError, "cannot fill the budget"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_a_proxy_is_trained(workspace, tmp_path, change, error, message):
    root = copy(workspace, tmp_path / "w")
    with pytest.raises((error, ValueError), match=message):
        learn(root, settings(**change), workers=1)
    assert not (root / "mix" / "runs").exists()


def test_an_artifact_without_tokens_is_refused(workspace, tmp_path):
    root = copy(workspace, tmp_path / "w")
    with open_workshop(root, RuntimeOptions(workers=1)) as shop:
        other = shop.build_here("other", "pool", config={}, inputs=[], make=lambda folder: {})
        with pytest.raises(ArtifactError, match="other holds no tokens"):
            MixLearning(shop, other, settings())
