"""Candidates carry the right score, and hashes and multisets do what orders rely on."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import SchemaError
from corpus.keyed_random import digests
from curriculum.visits import CANDIDATE_SCHEMA, candidates, canonical_sort, same_visits
from tests.curriculum.making import docs_table, pool, properties, shuffled_rows, visits_of

WEB, WRAP = docs_table([3, 1, 2], "web"), docs_table([2, 2, 2], "wrap/qa")
W, R = WEB["id"].to_pylist(), WRAP["id"].to_pylist()


def test_rows_follow_shards_and_documents():
    table = candidates([("a", WEB), ("b", WRAP)])
    assert table.schema.equals(CANDIDATE_SCHEMA)
    assert table["shard"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["doc"].to_pylist() == [0, 1, 2, 0, 1, 2]
    assert table["start"].to_pylist() == [0, 3, 4, 0, 2, 4]
    assert table["digest"].to_pylist() == digests(pa.array(W + R)).tolist()
    assert table["source"].to_pylist() == ["web"] * 3 + ["wrap/qa"] * 3
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
    with pytest.raises(SchemaError, match=r"expected the columns id(.|\n)*found +edu"):
        candidates([("a", WEB)], pa.table({"edu": [1.0, 2.0, 3.0]}))
    with pytest.raises(SchemaError, match="a score cannot be called 'length'"):
        candidates([("a", WEB)], pa.table({"id": W, "length": [1, 2, 3]}))
    with pytest.raises(SchemaError, match="no token shards"):
        candidates([])
    with pytest.raises(SchemaError, match="documents without tokens"):
        candidates([("a", docs_table([1, 0], "web"))])


def test_several_columns_travel_together_and_are_inherited_together():
    scores = pa.table({"id": [W[0], W[1]], "edu": pa.array([-0.0, None], pa.float32()), "level": ["a", "b"]})
    table = candidates([("a", WEB), ("b", WRAP)], scores, pa.table({"id": [R[0]], "parent_id": [W[1]]}))
    assert table.column_names[-2:] == ["edu", "level"]
    assert table["edu"].to_pylist() == [0.0, None, None, None, None, None]
    assert not np.signbit(table["edu"][0].as_py())
    assert table["level"].to_pylist() == ["a", "b", None, "b", None, None]
    assert table["inherited"].to_pylist() == [False] * 3 + [True] + [False] * 2


def test_a_digest_is_half_an_id():
    ids = ["ffffffffffffffff0000000000000000", "0123456789abcdef" + "f" * 16, "8" + "0" * 31]
    for kind in (pa.string(), pa.large_string()):
        array = pa.array(["x", *ids], kind).slice(1)
        assert digests(array).tolist() == [-1, 0x0123456789ABCDEF, -(2**63)]
        assert digests(pa.chunked_array([array.slice(0, 1), array.slice(1)])).tolist() == digests(array).tolist()
    other = digests(pa.array(["page-1", "page-2", "G" * 32]))
    assert len(set(other.tolist())) == 3
    assert digests(pa.array(["page-2"])).tolist() == other[1:2].tolist()
    assert digests(pa.chunked_array([], pa.string())).shape == (0,)


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
def test_equal_keys_fall_back_to_digest_shard_doc_visit(keys, seed):
    """One document in two shards has one id and one hash: its place must still not depend on the input."""
    same = docs_table([1] * len(keys), "web")
    visits = visits_of(candidates([("a", same), ("b", same)]))
    key = np.array(keys + keys, np.float64)
    mixed = np.random.default_rng(seed).permutation(len(key))
    for order in (np.arange(len(key)), mixed):
        rows = canonical_sort(visits.take(pa.array(order)), [key[order]])
        got = visits.take(pa.array(order[rows])).select(["digest", "shard", "doc", "visit"]).to_pylist()
        assert [tuple(row.values()) for row in got] == sorted(
            (tuple(row.values()) for row in got), key=lambda row: (key[row[2]], *row)
        )
