"""Candidates carry the right score, and hashes and multisets do what orders rely on."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import SchemaError
from curriculum.order import OrderError
from curriculum.visits import CANDIDATE_SCHEMA, candidates, canonical_sort, check_visits, same_visits, visit_hashes
from tests.curriculum.making import docs_table, pool, properties, shuffled_rows, visits_of

WEB, WRAP = docs_table([3, 1, 2], "web"), docs_table([2, 2, 2], "wrap/qa")
W, R = WEB["id"].to_pylist(), WRAP["id"].to_pylist()


def test_rows_follow_shards_and_documents():
    table = candidates([("a", WEB), ("b", WRAP)])
    assert table.schema.equals(CANDIDATE_SCHEMA)
    assert table["shard"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["doc"].to_pylist() == [0, 1, 2, 0, 1, 2]
    assert table["start"].to_pylist() == [0, 3, 4, 0, 2, 4]
    assert table["id"].to_pylist() == W + R
    assert table["source"].to_pylist() == ["web"] * 3 + ["wrap/qa"] * 3
    assert table["score"].null_count == 6
    assert not any(table["rephrased"].to_pylist())


def test_a_rephrasing_inherits_from_its_nearest_rated_ancestor():
    scores = pa.table({"id": [W[0], W[1], R[1], "absent"], "score": pa.array([0.5, None, 2.0, 9.0], pa.float32())})
    # R0 from W0; R1 from W0 but rated itself; R2 from R1, which is rated itself
    parents = pa.table({"id": [R[0], R[1], R[2], W[2]], "parent_id": [W[0], W[0], R[1], None]})
    table = candidates([("a", WEB), ("b", WRAP)], scores, parents)
    assert table["score"].to_pylist() == [0.5, None, None, 0.5, 2.0, 2.0]
    assert table["rephrased"].to_pylist() == [False] * 3 + [True] * 3
    assert table["inherited"].to_pylist() == [False] * 3 + [True, False, True]
    grand = pa.table({"id": [R[0], R[1]], "parent_id": [R[1], W[0]]})
    two_steps = candidates([("a", WEB), ("b", WRAP)], scores.slice(0, 1), grand)
    assert two_steps["score"].to_pylist() == [0.5, None, None, 0.5, 0.5, None]


def test_the_same_score_twice_counts_once_and_two_scores_are_refused():
    twice = pa.table({"id": [W[0], W[0]], "score": pa.array([1.0, 1.0], pa.float32())})
    assert candidates([("a", WEB)], twice)["score"].to_pylist() == [1.0, None, None]
    other = pa.table({"id": [W[0], W[0]], "score": pa.array([1.0, 2.0], pa.float32())})
    with pytest.raises(SchemaError, match=f"1 documents have more than one score(.|\n)*{W[0]}"):
        candidates([("a", WEB)], other)


def test_bad_tables_are_named():
    with pytest.raises(SchemaError, match=r"not the document table of a token shard(.|\n)*where .*web-00000"):
        candidates([("web-00000", pa.table({"id": ["x"]}))])
    with pytest.raises(SchemaError, match="not finite"):
        candidates([("a", WEB)], pa.table({"id": [W[0]], "score": pa.array([float("nan")], pa.float32())}))
    with pytest.raises(SchemaError, match="round in a circle"):
        candidates([("a", WEB)], None, pa.table({"id": W[:2], "parent_id": [W[1], W[0]]}))
    with pytest.raises(SchemaError, match="columns id and score"):
        candidates([("a", WEB)], pa.table({"id": W, "edu": [1.0, 2.0, 3.0]}))
    with pytest.raises(SchemaError, match="no token shards"):
        candidates([])
    with pytest.raises(SchemaError, match="documents without tokens"):
        candidates([("a", docs_table([1, 0], "web"))])
    with pytest.raises(OrderError, match="does not hold visits"):
        check_visits(pool({"web": [1, 2]}))


def test_hashes_depend_on_seed_id_and_visit_alone():
    ids = pa.array([f"{i:032x}" for i in range(500)], pa.large_string())
    base = visit_hashes(7, ids, np.zeros(500, np.int32))
    assert (visit_hashes(7, ids, 0) == base).all()
    assert (visit_hashes(7, ids.slice(100), 0) == base[100:]).all()
    assert (visit_hashes(7, ids, 1) != base).all()
    assert (visit_hashes(8, ids, 0) != base).all()
    assert len(set(base.tolist())) == 500


@properties
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(0, 99))
def test_the_sum_of_hashes_tells_multisets_apart(lengths, seed):
    visits = visits_of(pool({"web": lengths}))
    assert same_visits(visits, shuffled_rows(visits, seed))
    assert not same_visits(visits, visits.slice(1))
    assert not same_visits(visits, pa.concat_tables([visits, visits.slice(0, 1)]))
    first = seed % len(lengths)
    for name in ("length", "visit", "doc", "shard", "start"):
        values = visits[name].to_numpy().copy()
        values[first] += 1
        column = pa.array(values, visits.schema.field(name).type)
        changed = visits.set_column(visits.column_names.index(name), visits.schema.field(name), column)
        assert not same_visits(visits, changed)


@properties
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 99))
def test_equal_keys_fall_back_to_id_shard_doc_visit(keys, seed):
    """One document in two shards has one id and one hash: its place must still not depend on the input."""
    same = docs_table([1] * len(keys), "web")
    visits = visits_of(candidates([("a", same), ("b", same)]))
    key = np.array(keys + keys, np.float64)
    mixed = np.random.default_rng(seed).permutation(len(key))
    for order in (np.arange(len(key)), mixed):
        rows = canonical_sort(visits.take(pa.array(order)), [key[order]])
        got = visits.take(pa.array(order[rows])).select(["id", "shard", "doc", "visit"]).to_pylist()
        assert [tuple(row.values()) for row in got] == sorted(
            (tuple(row.values()) for row in got), key=lambda row: (key[row[2]], *row)
        )
