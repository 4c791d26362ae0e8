"""Shuffled, sorted and interleaved orders over candidates of token shards; the contract of all kinds stands apart.

See test_order_contract.py for what every kind keeps, and test_order_goldens.py for what each one does.
"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.arrange import arrange, ends_with
from curriculum.order import OrderError, as_order
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted
from curriculum.visits import candidates
from tests.curriculum.making import docs_table, pool, properties, visits_of

few = properties.__class__(parent=properties, max_examples=15)
lengths = st.lists(st.integers(1, 50), min_size=1, max_size=40)
pools = st.dictionaries(st.sampled_from(["web", "code", "books", "wrap/qa"]), lengths, min_size=1)
seeds = st.integers(0, 2**63)


def climbing(sources):
    """Visits of sources whose scores rise with the document number, so that `A0 A1 ...` names ranks."""
    shards = [(name, docs_table(sizes, name)) for name, sizes in sources.items()]
    ids = [id for _, docs in shards for id in docs["id"].to_pylist()]
    ranks = [rank for sizes in sources.values() for rank in range(len(sizes))]
    return visits_of(candidates(shards, pa.table({"id": ids, "edu": pa.array(ranks, pa.float32())})))


def docs_of(order, source):
    """Numbers of a source's documents as they are read."""
    return [row["doc"] for row in order.select(["source", "doc"]).to_pylist() if row["source"] == source]


def named(order):
    return [f"{row['source']}{row['doc']}" for row in order.select(["source", "doc"]).to_pylist()]


@few
@given(pools)
def test_sorted_is_sorted_and_descending_is_its_mirror(sources):
    visits = visits_of(pool(sources))
    up = arrange(visits, Sorted(by="edu"))["score"].to_numpy()
    down = arrange(visits, Sorted(by="edu", ascending=False))["score"].to_numpy()
    assert (np.diff(up) >= 0).all()
    np.testing.assert_array_equal(up[::-1], down)


def test_golden_interleaved_by_documents():
    policy = Interleaved(by="edu", unit="documents")
    assert named(arrange(climbing({"A": [1] * 4, "B": [1] * 2}), policy)) == ["A0", "B0", "A1", "A2", "B1", "A3"]
    got = named(arrange(climbing({"A": [1] * 5, "B": [1] * 3, "C": [1]}), policy))
    assert got[:3] + got[6:] == ["A0", "B0", "A1", "A3", "B2", "A4"]
    assert sorted(got[3:6]) == ["A2", "B1", "C0"]  # all at .5: the hash decides


def test_golden_interleaved_by_tokens():
    order = arrange(climbing({"A": [4, 1, 1, 2], "B": [1, 3]}), Interleaved(by="edu"))
    assert named(order) == ["B0", "A0", "A1", "B1", "A2", "A3"]


@pytest.mark.parametrize(("sizes", "bound"), [((100, 50, 25, 25), 0.5), ((700, 200, 90, 10), 0.8)])
def test_golden_how_far_a_count_strays_from_its_share(sizes, bound):
    """In documents, at prefixes that do not end amid equal places, which the hash decides."""
    sources = {f"s{i}": [1] * n for i, n in enumerate(sizes)}
    order = arrange(climbing(sources), Interleaved(by="edu", unit="documents"))
    source, n = np.array(order["source"].to_pylist()), sum(sizes)
    place = np.sort(np.concatenate([(np.arange(size) + 0.5) / size for size in sizes]))
    ends = np.r_[np.diff(place) > 1e-12, True]
    position = np.arange(1, n + 1)
    stray = [np.abs(np.cumsum(source == f"s{i}") - position * size / n) for i, size in enumerate(sizes)]
    assert np.max(np.array(stray)[:, ends]) == pytest.approx(bound)


def test_the_published_key_delays_small_sources():
    """(j + 1) / n_g instead of (j + 1/2) / n_g: counts stray further, and the golden order is another."""
    for sizes, stray in (((100, 50, 25, 25), 1.5), ((700, 200, 90, 10), 2.1)):
        group = np.repeat(np.arange(len(sizes)), sizes)
        rows = np.argsort(np.concatenate([(np.arange(size) + 1) / size for size in sizes]), kind="stable")
        position, n = np.arange(1, len(rows) + 1), len(rows)
        strayed = [np.abs(np.cumsum(group[rows] == g) - position * size / n).max() for g, size in enumerate(sizes)]
        assert max(strayed) == pytest.approx(stray, abs=0.05)
    four_two = named(arrange(climbing({"A": [1] * 4, "B": [1] * 2}), Interleaved(by="edu", unit="documents")))
    assert four_two != ["A0", "A1", "B0", "A2", "A3", "B1"]


@few
@given(pools, seeds)
def test_a_source_without_scores_is_shuffled_in_proportion(sources, seed):
    """Beside one that has scores; where nothing has any, there is nothing to order by."""
    unscored, scored = visits_of(pool(sources, scored=False)), visits_of(pool({"rated": [1, 2, 3]}))
    order = arrange(pa.concat_tables([unscored, scored]).unify_dictionaries(), Interleaved(by="edu", seed=seed))
    alone = arrange(unscored, Shuffled(seed=seed))
    rules = {source: set() for source in [*sources, "rated"]}
    for row in order.to_pylist():
        rules[row["source"]].add(row["rule"])
    for name in sources:
        assert docs_of(order, name) == docs_of(alone, name)
        assert rules[name] == {"no scores: shuffled within each source, paced by tokens"}
    assert rules["rated"] == {"ascending by edu within each source, paced by tokens"}
    with pytest.raises(OrderError, match="no visit has a score 'edu'"):
        arrange(unscored, Interleaved(by="edu", seed=seed))


def half_scored():
    docs = docs_table([1, 1, 1, 1], "web")
    scores = pa.table({"id": docs["id"].slice(0, 2), "edu": pa.array([2, 1], pa.float32())})
    return visits_of(candidates([("a", docs)], scores))


@pytest.mark.parametrize("kind", [Sorted, Interleaved])
def test_missing_scores_are_refused_or_placed(kind):
    with pytest.raises(OrderError, match=r"2 of 4 visits have no score 'edu'(.|\n)*order.missing: first"):
        arrange(half_scored(), kind(by="edu"))
    for ascending in (True, False):
        first = arrange(half_scored(), kind(by="edu", missing="first", ascending=ascending))["score"].to_pylist()
        last = arrange(half_scored(), kind(by="edu", missing="last", ascending=ascending))["score"].to_pylist()
        scores = [1.0, 2.0] if ascending else [2.0, 1.0]
        assert first == [None, None, *scores]
        assert last == [*scores, None, None]


def test_rephrasings_are_not_ranked_against_originals():
    web, wrap = docs_table([1, 1], "web"), docs_table([1, 1], "wrap/qa")
    ids = web["id"].to_pylist() + wrap["id"].to_pylist()
    parents = pa.table({"id": ids[2:], "parent_id": ids[:2]})
    own = pa.table({"id": ids, "edu": pa.array([1, 2, 3, 4], pa.float32())})
    rated = visits_of(candidates([("a", web), ("b", wrap)], own, parents))
    with pytest.raises(OrderError, match=r"rank rephrasings against originals(.|\n)*kind: interleaved"):
        arrange(rated, Sorted(by="edu"))
    assert arrange(rated, Interleaved(by="edu")).num_rows == 4
    inherited = visits_of(candidates([("a", web), ("b", wrap)], own.slice(0, 2), parents))
    assert arrange(inherited, Sorted(by="edu"))["score"].to_pylist() == [1, 1, 2, 2]
    only = visits_of(candidates([("b", wrap)], own, parents))
    assert arrange(only, Sorted(by="edu"))["score"].to_pylist() == [3, 4]


def test_each_visit_says_why_it_is_there():
    visits = visits_of(pool({"web": [1, 2], "code": [3]}))
    down = arrange(visits, Sorted(by="edu", ascending=False))
    assert set(down["rule"].to_pylist()) == {"descending by edu over all sources"}
    merged = set(arrange(visits, Interleaved(by="edu"))["rule"].to_pylist())
    assert merged == {"ascending by edu within each source, paced by tokens"}
    assert set(arrange(visits, Shuffled(seed=3))["rule"].to_pylist()) == {"shuffled, seed 3"}
    assert as_order(arrange(visits, Shuffled())).num_columns == 9


def test_ends_with():
    up, down = Sorted(by="edu"), Interleaved(by="edu", ascending=False)
    assert [ends_with(up, "high"), ends_with(up, "low")] == ["the best", "the worst"]
    assert [ends_with(down, "high"), ends_with(down, "low")] == ["the worst", "the best"]
    assert ends_with(down, "middle").startswith("the lowest")
    assert ends_with(Shuffled(), "high") == "documents of every score"


def test_the_shuffle_of_a_document_does_not_depend_on_the_others():
    few, many = (docs_of(arrange(visits_of(pool({"web": [1] * n})), Shuffled(seed=4)), "web") for n in (50, 80))
    assert [doc for doc in many if doc < 50] == few
