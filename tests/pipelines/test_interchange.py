"""Artifacts to and from other tables: what datasets reads, and frames of an order that come back as the order."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from corpus.artifacts import begin, describe_part, finish, own_files
from corpus.documents import documents
from corpus.errors import ArtifactError
from corpus.shards import write_table
from corpus.tokens import DOCS_SCHEMA, write_token_shard
from curriculum.order import NAMES, ORDER_SCHEMA, Order, OrderError, write_order
from pipelines.interchange import order_from_frame, to_dataset
from rephrase.attempts import ATTEMPT_SCHEMA

datasets = pytest.importorskip("datasets", reason="datasets is not installed")
LENGTHS = ([5, 2, 9], [1, 4])


def artifact(folder, kind, name):
    return finish(
        folder, kind=kind, name=name, fingerprint="f" * 16, config={}, inputs=[], totals={},
        parts=[describe_part(folder, path) for path in own_files(folder)],
    )  # fmt: skip


@pytest.fixture
def tokens(tmp_path):
    folder, first = tmp_path / "tokens", 0
    begin(folder, "f" * 16)
    for number, lengths in enumerate(LENGTHS):
        n = len(lengths)
        rows = [[f"{number}{i}" for i in range(n)], np.cumsum(lengths) - lengths, lengths, ["web"] * n, lengths]
        arrays = [pa.array(values, field.type) for values, field in zip(rows, DOCS_SCHEMA, strict=True)]
        ids = np.arange(first, first + sum(lengths), dtype=np.uint16)
        write_token_shard(folder / f"web-{number:05d}.npy", ids, pa.Table.from_arrays(arrays, schema=DOCS_SCHEMA))
        first += sum(lengths)
    return artifact(folder, "tokens", "tokens")


@pytest.fixture
def order(tmp_path, tokens):
    n = 40
    rng = np.random.default_rng(3)
    scores = pa.array(rng.random(n, np.float32), mask=rng.random(n) < 0.2)
    table = pa.table(
        {
            "shard": np.repeat([0, 1], n // 2), "doc": np.zeros(n, np.int32), "start": np.zeros(n, np.int64),
            "length": np.repeat([5, 1], n // 2), "source": [f"s{i % 3}" for i in range(n)], "phase": ["all"] * n,
            "visit": np.arange(n) % 5, "score": scores, "rule": [f"because {i % 4}" for i in range(n)],
        }
    )  # fmt: skip
    made = {"name": "orders/a", "fingerprint": "0123456789abcdef", "config": {"seed": 1}, "inputs": [tokens.ref]}
    shards = [f"tokens/web-{number:05d}.npy" for number in range(2)]
    write_order(tmp_path / "order", table, shards=shards, **made)
    return Order.open(tmp_path / "order")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_duckdb(order):
    import duckdb

    return duckdb.connect().sql(f"SELECT * FROM read_parquet('{order.artifact.folder}/order.parquet')")


FRAMES = {
    "arrow": lambda order: order.table(),
    "polars from Arrow": lambda order: pl.from_arrow(order.table()),
    "polars from the file": lambda order: pl.read_parquet(order.artifact.folder / "order.parquet"),
    "polars, lazily": lambda order: pl.scan_parquet(order.artifact.folder / "order.parquet"),
    "columns turned and one more": lambda order: pl.from_arrow(order.table())[
        ORDER_SCHEMA.names[::-1]
    ].with_row_index(),
    "pandas": lambda order: order.table().to_pandas(),
    "duckdb": in_duckdb,
    "datasets": lambda order: to_dataset(order.artifact),
}


@pytest.mark.parametrize("frame", list(FRAMES))
def test_a_frame_of_an_order_comes_back_as_the_same_bytes(order, tmp_path, frame):
    if frame == "pandas":
        pytest.importorskip("pandas", reason="pandas is not installed")
    order_from_frame(FRAMES[frame](order), tmp_path / "again", like=order)
    assert contents(tmp_path / "again") == contents(order.artifact.folder)


def test_an_edited_frame_is_another_order_of_the_same_shards(order, tmp_path):
    kept = pl.from_arrow(order.table()).filter(pl.col("score") > 0.5).sort("score")
    made = order_from_frame(kept, tmp_path / "high", like=order, name="orders/high")
    again = Order.open(tmp_path / "high")
    assert pl.from_arrow(again.table())["score"].to_list() == kept["score"].to_list()
    assert (again.shards, made.name) == (order.shards, "orders/high")
    assert again.fingerprint != order.fingerprint
    assert made.manifest.inputs == (*order.artifact.manifest.inputs, order.artifact.ref)
    assert made.manifest.totals["visits"] == len(kept)
    assert made.differences() == []


def test_the_identity_of_an_edited_frame_is_its_content(order, tmp_path):
    """The same visits from any library have one fingerprint; a null is not a zero, and a name counts."""
    whole = pl.from_arrow(order.table())
    first = whole["score"].is_null().arg_max()
    versions = {
        "polars": whole.head(30),
        "arrow": order.table().slice(0, 30),
        "null to zero": whole.head(30).with_columns(pl.col("score").fill_null(0)),
        "a name": whole.head(30).with_columns(rule=pl.lit("mine")),
        "two rows changed places": pl.concat([whole[1:2], whole[:1], whole[2:30]]),
    }
    assert first is not None
    assert first < 30
    prints = {
        name: order_from_frame(frame, tmp_path / name, like=order).manifest.fingerprint
        for name, frame in versions.items()
    }
    assert prints.pop("arrow") == prints["polars"]
    assert len(set(prints.values())) == len(prints)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("rule"), "no column 'rule'"),
        (lambda frame: frame.with_columns(visit=pl.col("visit") + 0.5), "the column visit of this frame"),
        (lambda frame: frame.with_columns(start=pl.lit("a")), "the column start of this frame"),
        (lambda frame: frame.with_columns(source=pl.lit(None, pl.String)), "have no source"),
        (lambda frame: frame.with_columns(shard=pl.lit(2)), "shards that are not listed"),
        (lambda frame: frame.head(0), "has no visits"),
    ],
)
def test_a_frame_that_is_no_order_is_refused(order, tmp_path, change, message):
    with pytest.raises(OrderError, match=message):
        order_from_frame(change(pl.from_arrow(order.table())), tmp_path / "x", like=order)
    assert not (tmp_path / "x" / "manifest.json").exists()


def test_token_shards_are_a_dataset_of_documents_without_a_copy(tokens):
    data = to_dataset(tokens)
    assert [len(row["input_ids"]) for row in data] == [5, 2, 9, 1, 4]
    assert [i for row in data for i in row["input_ids"]] == list(range(21))
    assert data["id"][:] == ["00", "01", "02", "10", "11"]
    assert data.with_format("numpy")[2]["input_ids"].tolist() == list(range(7, 16))
    with tokens.files(".npy")[1].open("r+b") as file:  # were it a copy, the dataset would not see this
        file.seek(-2, 2)
        file.write(np.uint16(999).tobytes())
    assert data[4]["input_ids"] == [17, 18, 19, 999]


def test_load_dataset_reads_tables_with_names_and_lists(order, tmp_path):
    lists = pa.table({"id": ["a"], "labels": pa.array([["x", "y"]]), "code": pa.array(["n"]).cast(NAMES)})
    write_table(tmp_path / "t" / "a.parquet", lists)
    read = {
        "order": str(order.artifact.folder / "*.parquet"),
        "lists": str(tmp_path / "t" / "*.parquet"),
        "docs": str(tmp_path / "tokens" / "*.docs.parquet"),
    }
    got = {
        name: datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        for name, files in read.items()
    }
    assert got["order"].to_list() == order.table().to_pylist()
    assert got["lists"].to_list() == lists.to_pylist()
    assert got["docs"]["length"][:] == [5, 2, 9, 1, 4]


def test_documents_with_their_meta_are_a_dataset(tmp_path):
    rows = [{"id": "a", "text": "x", "source": "s", "meta": {"k": "v"}}, {"id": "b", "text": "y", "source": "s"}]
    begin(tmp_path / "d", "f" * 16)
    write_table(tmp_path / "d" / "s-00000.parquet", documents(rows))
    write_table(tmp_path / "d" / "s-00001.parquet", documents(rows).slice(0, 0))
    data = to_dataset(artifact(tmp_path / "d", "documents", "documents"))
    assert data["meta"][:] == [[{"key": "k", "value": "v"}], None]
    assert data["text"][:] == ["x", "y"]
    files = str(tmp_path / "d" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == data.to_list()


def test_attempts_with_their_gates_are_a_dataset(tmp_path):
    row = dict.fromkeys(ATTEMPT_SCHEMA.names) | {
        "parent_id": "a",
        "style": "qa",
        "source_text": "x",
        "gates": [("length", 0.5)],
    }
    row |= dict.fromkeys(("n_chunks", "start", "end"), 1)
    row |= {"hard_split": False, "superseded": False, "step": ""}
    write_table(tmp_path / "a.parquet", pa.Table.from_pylist([row], ATTEMPT_SCHEMA))
    files = str(tmp_path / "a.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["gates"][:] == [[{"key": "length", "value": 0.5}]]


def test_an_artifact_without_tables_is_refused(tmp_path):
    begin(tmp_path / "r", "f" * 16)
    (tmp_path / "r" / "model.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="has no table") as caught:
        to_dataset(artifact(tmp_path / "r", "rater", "raters/x"))
    assert "model.bin" in str(caught.value)
