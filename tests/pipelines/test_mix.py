"""`gradatim mix build` on real pages: shares to the token, every kind of input, scores, the same bytes after a kill."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from corpus.artifacts import Artifact, artifacts_in
from corpus.errors import ArtifactError, ConfigError
from corpus.shards import read_table, write_table
from corpus.tokens import read_docs, read_token_shard
from curriculum.common_prefix import common_tokens
from curriculum.order import Order, OrderError
from curriculum.order_shards import open_shards
from curriculum.visits import same_visits
from mixtures.shares import MixtureError
from pipelines.commands.mix import MixOptions, build_command, check_command, show_command
from pipelines.commands.verify import verify_command
from pipelines.commands.workshop import RuntimeOptions
from pipelines.mix_measure import measured
from pipelines.mixing import Mixture
from tests.pipelines.small_mix import NAMES, PHASES, SHARES, mixing, score, tokens_by_source, write_mix
from tests.pipelines.small_recipe import gradatim


@pytest.fixture
def folder(mix_folder):
    return mix_folder


@pytest.fixture
def built(mixed):
    return mixed


# ---- what is built


def test_shares_are_met_to_the_token(built):
    assert tokens_by_source(Order.open(built / "orders" / "mix").table()) == {
        name: round(300_000 * share) for name, share in SHARES.items()
    }


def test_the_order_reads_the_texts_of_its_sources(built):
    order = Order.open(built / "orders" / "mix")
    ids = order.read(0, 2_000, open_shards(order, built))
    row = order.table().slice(0, 1).to_pylist()[0]
    shard = read_token_shard(built / order.shards[row["shard"]])
    assert np.array_equal(ids[: row["length"]], shard[row["start"] : row["start"] + row["length"]])
    assert order.shards[row["shard"]].startswith(f"sources/{row['source']}/tokens/")


def test_phases_and_their_ramp_are_met_to_the_token(built):
    mixture, order = Mixture.open(Artifact(built / "mixture" / "phased")), Order.open(built / "orders" / "phased")
    found = measured(mixture.allocation, order)
    assert mixture.allocation.phases == ("stable", "anneal")
    # the ramp, a quarter of the second phase, holds the mean of both shares
    expected = [[240_000 * share for share in SHARES.values()], [0] * 4]
    expected[1] = [
        15_000 * (SHARES[name] + end) / 2 + 45_000 * end
        for name, end in zip(SHARES, (0.1, 0.3, 0.35, 0.25), strict=True)
    ]
    assert np.allclose(found.tokens, expected, atol=1)
    assert found.share_error < 1e-4
    longest = pc.max(order.table()["length"]).as_py()
    assert 0 < found.drift <= longest * len(SHARES)


def test_old_data_keeps_its_sequence(built):
    table = Order.open(built / "orders" / "phased").table()
    office = table.filter(pc.equal(table["source"].cast(pa.string()), "office"))
    key = list(zip(office["visit"].to_pylist(), office["shard"].to_pylist(), office["start"].to_pylist(), strict=True))
    assert key == sorted(key)
    assert len(key) > 20


def test_a_second_build_makes_nothing(folder, built):
    before = (built / "events.jsonl").read_text()
    mixing(folder / "phased.yaml", built).build("phased")
    assert (built / "events.jsonl").read_text() == before
    assert verify_command(built, None) == 0


@pytest.mark.parametrize("workers", [2, 4])
def test_more_workers_give_the_same_bytes(folder, built, tmp_path, workers):
    for name in ("mix", "phased"):
        build_command(MixOptions(folder / f"{name}.yaml", tmp_path, runtime=RuntimeOptions(workers=workers)))
    assert verify_command(built, tmp_path) == 0


@pytest.mark.spark
def test_spark_gives_the_same_bytes(folder, built, tmp_path):
    for name in ("mix", "phased"):
        build_command(MixOptions(folder / f"{name}.yaml", tmp_path, runtime=RuntimeOptions("spark", 2)))
    assert verify_command(built, tmp_path) == 0


def test_the_settings_that_were_resolved_build_the_same_again(built):
    mixture, order = mixing(built / "mixture" / "phased" / "mix.yaml", built).build("again")
    assert common_tokens(Order(order), Order.open(built / "orders" / "phased")) == 300_000
    assert same_visits(read_table(mixture.visits), read_table(built / "mixture" / "phased" / "visits.parquet"))
    text = (built / "mixture" / "phased" / "mix.yaml").read_text()
    assert str(built) not in text
    for name in ("mixture", "orders"):
        shutil.rmtree(built / name / "again")


# ---- what can be read


def test_tokens_of_another_workspace_are_linked_and_named_apart(folder, built, tmp_path):
    inputs = {
        "office": "office.jsonl",
        "old": {"artifact": "sources/sqlite/tokens", "workspace": str(built), "under": "old"},
    }
    sources = {"office": "20%", "old": "80%"}
    file = write_mix(folder, "foreign", inputs=inputs, sources=sources, tokens="50K", tokenizer=None)
    _, order = mixing(file, tmp_path).build("foreign")
    assert tokens_by_source(Order(order).table()) == {"office": 10_000, "old/sqlite": 40_000}
    linked = tmp_path / "sources" / "old" / "tokens"
    assert all(path.is_symlink() for path in linked.glob("*.npy"))
    held = Order(order)
    assert len(held.read(0, 50_000, open_shards(held, tmp_path, contents=True))) == 50_000
    # the new text was encoded by the tokenizer of the old tokens
    ours, theirs = (root / "sources" / "tokenizer" / "tokenizer.json" for root in (tmp_path, built))
    assert ours.read_text() == theirs.read_text()
    assert verify_command(tmp_path, None) == 0


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
def test_bare_token_shards_are_parted_at_their_end_of_text(folder, built, tmp_path, suffix):
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in (built / "sources" / "sqlite" / "tokens").glob("*.npy"):
        if suffix == ".npy":
            shutil.copy(path, shards)
        else:
            (shards / f"{path.stem}.bin").write_bytes(np.load(path).astype(np.uint16).tobytes())
    tokenizer = built / "sources" / "tokenizer" / "tokenizer.json"
    inputs = {"bare": {"kind": "tokens", "path": str(shards), "tokenizer": str(tokenizer)}, "debian": "debian.jsonl"}
    file = write_mix(
        folder, "bare", inputs=inputs, sources={"bare": "50%", "debian": "50%"}, tokens="60K", tokenizer=None
    )
    _, order = mixing(file, tmp_path / "w").build("bare")
    made = next((tmp_path / "w" / "sources" / "bare" / "tokens").glob("*.docs.parquet"))
    docs, ours = read_table(made), read_docs(next((built / "sources" / "sqlite" / "tokens").glob("*.npy")))
    assert docs["start"].equals(ours["start"])
    assert docs["length"].equals(ours["length"])
    assert tokens_by_source(Order(order).table()) == {"bare": 30_000, "debian": 30_000}


def test_parquet_and_saved_datasets_are_read(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [json.loads(line) for line in (folder / "django.jsonl").read_text().splitlines()]
    datasets.Dataset.from_list([{"text": row["text"], "url": row["url"]} for row in rows]).save_to_disk(
        tmp_path / "saved"
    )
    write_table(tmp_path / "pages.parquet", pa.table({"text": [row["text"] for row in rows]}))
    inputs = {"saved": str(tmp_path / "saved"), "table": str(tmp_path / "pages.parquet")}
    file = write_mix(folder, "kinds", inputs=inputs, sources={"saved": "50%", "table": "50%"}, tokens="40K")
    allocation = mixing(file, tmp_path / "w").plan()
    held = [one.available_tokens for one in allocation.components]
    assert held[0] == held[1] > 20_000


def test_an_artifact_of_documents_is_tokenised(folder, tmp_path, built):
    shutil.copytree(built / "sources" / "debian" / "documents", tmp_path / "sources" / "debian" / "documents")
    inputs = {"all": {"artifact": "sources/debian/documents"}}
    file = write_mix(folder, "documents", inputs=inputs, sources={"debian": "100%"}, tokens="20K")
    _, order = mixing(file, tmp_path).build("documents")
    assert tokens_by_source(Order(order).table()) == {"debian": 20_000}


# ---- scores


def test_the_best_documents_alone_are_read(folder, built, tmp_path):
    workspace = tmp_path / "w"
    shutil.copytree(built / "sources", workspace / "sources")
    score(workspace, "sqlite")
    sources = {"sqlite": {"share": "60%", "keep": {"by": "edu", "top": "25%"}}, "debian": "40%"}
    file = write_mix(folder, "kept", sources=sources, scores={"edu": ["edu_sqlite/edu"]}, tokens="60K")
    _, order = mixing(file, workspace).build("kept")
    table = Order(order).table()
    rows = table.filter(pc.equal(table["source"].cast(pa.string()), "sqlite"))
    docs = read_docs(next((workspace / "sources" / "sqlite" / "tokens").glob("*.npy")))
    best = np.flatnonzero(np.cumsum(docs["length"].to_numpy()) > 0.7 * pc.sum(docs["length"]).as_py())
    assert set(rows["doc"].to_pylist()) <= set(best.tolist())
    assert pc.sum(rows["length"]).as_py() == 36_000


def test_an_order_by_score_stands_in_the_mixtures_settings(folder, built, tmp_path):
    workspace = tmp_path / "w"
    shutil.copytree(built / "sources", workspace / "sources")
    for source in NAMES.values():
        score(workspace, source)
    order = {"anneal": {"kind": "interleaved", "by": "edu"}}
    scores = {"edu": [f"edu_{source}/edu" for source in NAMES.values()]}
    file = write_mix(folder, "climbing", phases=PHASES, scores=scores, order=order)
    mixture, made = mixing(file, workspace).build("climbing")
    table = Order(made).table()
    assert same_visits(table, read_table(mixture.visits))
    last = table.filter(pc.equal(table["phase"].cast(pa.string()), "anneal"))
    sqlite = last.filter(pc.equal(last["source"].cast(pa.string()), "sqlite"))["score"].to_pylist()
    assert sqlite == sorted(sqlite)
    assert check_command(MixOptions(file, workspace)) == 0


def test_a_score_of_some_documents_is_refused_by_an_order_that_needs_all(folder, built, tmp_path, capsys):
    workspace = tmp_path / "w"
    shutil.copytree(built / "sources", workspace / "sources")
    score(workspace, "sqlite")
    order = {"kind": "sorted", "by": "edu"}
    file = write_mix(folder, "holes", scores={"edu": "edu_sqlite/edu"}, order=order)
    assert check_command(MixOptions(file, workspace)) == 1
    assert "have no score 'edu'" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(OrderError, match="have no score 'edu'"):
        mixing(file, workspace).build("holes")


def test_scores_that_are_all_null_are_refused(folder, built, tmp_path):
    workspace = tmp_path / "w"
    shutil.copytree(built / "sources", workspace / "sources")
    score(workspace, "sqlite", [None] * 80)
    sources = {"sqlite": {"share": "60%", "keep": {"by": "edu", "top": "50%"}}, "debian": "40%"}
    file = write_mix(folder, "null", sources=sources, scores={"edu": "edu_sqlite/edu"}, tokens="60K")
    with pytest.raises(MixtureError, match="no document of sqlite has a score 'edu'"):
        mixing(file, workspace).plan()


def test_a_score_that_is_not_there_is_named_with_the_nearest(folder, built, tmp_path):
    workspace = tmp_path / "w"
    shutil.copytree(built / "sources", workspace / "sources")
    score(workspace, "sqlite")
    sources = {"sqlite": {"share": "60%", "keep": {"by": "edo", "top": "50%"}}, "debian": "40%"}
    file = write_mix(folder, "typo", sources=sources, tokens="60K")
    with pytest.raises(ConfigError, match="no input has a score 'edo'; did you mean 'edu'"):
        mixing(file, workspace).plan()


# ---- the command


def test_the_command_as_a_user_runs_it(folder, built, tmp_path):
    shutil.copytree(built, tmp_path / "w")
    done = gradatim("mix", "show", "phased", "-w", tmp_path / "w")
    assert done.returncode == 0, done.stderr
    assert "measured in the order" in done.stdout
    assert (tmp_path / "w" / "mix" / "phased.html").exists()
    failed = gradatim("mix", "plan", folder / "mix.yaml", "-w", tmp_path / "w", "--set", "tokens=100M")
    assert failed.returncode == 2
    assert "needs" in failed.stderr
    assert "Traceback" not in failed.stderr


KILLED = """
import os, signal, sys
from pathlib import Path
import pipelines.mixing as mixing
from tests.pipelines.small_mix import mixing as mix

def killed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

mixing.write_visits = killed
mix(Path(sys.argv[1]), Path(sys.argv[2])).build("mix")
"""


def test_a_killed_build_goes_on_to_the_same_bytes(folder, built, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder / "mix.yaml"), str(tmp_path)], env=environment, check=False
    )
    assert done.returncode == -9
    assert "mixture/mix" not in {artifact.name for artifact in artifacts_in(tmp_path)}
    mixing(folder / "mix.yaml", tmp_path).build("mix")
    ours = (tmp_path / "orders" / "mix" / "manifest.json").read_text()
    assert ours == (built / "orders" / "mix" / "manifest.json").read_text()


def test_show_says_what_a_missing_mixture_is_near(built):
    with pytest.raises(ArtifactError, match="did you mean 'mixture/phased'"):
        show_command(built, "phases")
