"""Duplicates: the same documents are found, and the same member is kept, in whatever order they come."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.documents import document_id, documents
from corpus.shards import read_table, write_table
from pipelines.runtime import LocalRuntime
from pipelines.stages.deduplicate import PAIR_SCHEMA, PAIRS_SQL, MinHashSettings, SketchWork, duplicate_table
from pipelines.tally import Tally


def pairs(rows):
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 5
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, PAIR_SCHEMA, strict=True)], PAIR_SCHEMA
    )


def test_a_chain_is_one_group_and_keeps_its_best():
    table = duplicate_table(pairs([("a", "b", False, 0.1, 0.5), ("b", "c", True, 0.5, 0.9)]))
    assert table.to_pylist() == [
        {"id": "a", "keep_id": "c", "kind": "near"},
        {"id": "b", "keep_id": "c", "kind": "exact"},
    ]


def test_ties_go_to_the_first_id_and_nulls_lose():
    assert duplicate_table(pairs([("b", "a", True, 0.5, 0.5)])).to_pylist()[0]["keep_id"] == "a"
    assert duplicate_table(pairs([("a", "b", True, None, 0.0)])).to_pylist()[0]["keep_id"] == "b"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.randoms())
def test_row_order_does_not_matter_and_one_of_each_group_stays(edges, shuffler):
    scores = {i: (i * 7 % 10) / 10 for i in range(10)}
    rows = [(str(a), str(b), False, scores[a], scores[b]) for a, b in edges if a != b]
    expected = duplicate_table(pairs(rows))
    shuffler.shuffle(rows)
    found = duplicate_table(pairs(rows))
    assert found.equals(expected)
    removed = set(found.column("id").to_pylist())
    assert removed.isdisjoint(found.column("keep_id").to_pylist())
    for row in found.to_pylist():
        assert scores[int(row["keep_id"])] >= scores[int(row["id"])]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Originals, exact copies and near copies (a few words of 400 changed), with scores; sketched in two shards."""
    folder = tmp_path_factory.mktemp("dedup")
    draw = random.Random(3)
    words = [f"w{i}" for i in range(500)]
    rows, truth = [], {}
    for i in range(30):
        text = [draw.choice(words) for _ in range(400)]
        rows.append((f"original {i}", " ".join(text)))
        if i % 3 == 0:
            rows.append((f"exact {i}", " ".join(text)))
            truth[f"exact {i}"] = "exact"
        if i % 5 == 0:
            near = list(text)
            near[200] = "changed"
            rows.append((f"near {i}", " ".join(near)))
            truth[f"near {i}"] = "near"
    draw.shuffle(rows)
    ids = {name: document_id("t", name) for name, _ in rows}
    table = pa.Table.from_batches([documents([{"id": ids[name], "text": text, "source": "t"} for name, text in rows])])
    best = {name: 0.9 if name.startswith("original") else 0.1 for name, _ in rows}
    scores = pa.table(
        {"id": [ids[n] for n, _ in rows], "composite": pa.array([best[n] for n, _ in rows], pa.float32())}
    )
    half = len(rows) // 2
    for i, piece in enumerate((table.slice(0, half), table.slice(half))):
        write_table(folder / "docs" / f"t-{i}.parquet", piece)
        list(SketchWork(folder / "docs" / f"t-{i}.parquet", MinHashSettings()).run(folder / "sketches", Tally()))
    write_table(folder / "scores.parquet", scores)
    views = {"sketches": sorted((folder / "sketches").glob("*.parquet")), "scores": [folder / "scores.parquet"]}
    return views, {ids[name]: kind for name, kind in truth.items()}


def test_planted_duplicates_are_found_and_originals_stay(corpus):
    views, truth = corpus
    table = duplicate_table(LocalRuntime(1).sql(PAIRS_SQL, views, PAIR_SCHEMA))
    assert dict(zip(table.column("id").to_pylist(), table.column("kind").to_pylist(), strict=True)) == truth


def test_the_query_does_not_depend_on_the_order_of_files(corpus):
    views, _ = corpus
    backwards = {name: list(reversed(paths)) for name, paths in views.items()}
    runtime = LocalRuntime(2)
    assert runtime.sql(PAIRS_SQL, views, PAIR_SCHEMA).equals(runtime.sql(PAIRS_SQL, backwards, PAIR_SCHEMA))


def test_an_empty_shard_gives_an_empty_sketch(tmp_path):
    write_table(tmp_path / "e.parquet", documents([]))
    (path,) = SketchWork(tmp_path / "e.parquet", MinHashSettings()).run(tmp_path / "out", Tally())
    assert read_table(path).num_rows == 0
