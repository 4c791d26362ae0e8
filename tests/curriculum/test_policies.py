"""Every policy is an exact permutation, total, and independent of how its input arrived; goldens of the reference."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from corpus.config import Config, validated
from corpus.documents import document_id
from corpus.errors import ConfigError
from curriculum.order import OrderError, as_order
from curriculum.arrange import arrange, ends_with
from curriculum.kinds import Policy
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted
from curriculum.visits import candidates, same_visits
from tests.curriculum.making import docs_table, pool, properties, shuffled_rows, visits_of

lengths = st.lists(st.integers(1, 50), min_size=1, max_size=40)
pools = st.dictionaries(st.sampled_from(["web", "code", "books", "wrap/qa"]), lengths, min_size=1)
seeds = st.integers(0, 2**63)
policies = st.one_of(
    st.builds(Shuffled, seed=seeds),
    st.builds(Sorted, by=st.just("edu"), ascending=st.booleans(), seed=seeds),
    st.builds(Interleaved, by=st.just("edu"), ascending=st.booleans(), unit=st.sampled_from(["tokens", "documents"])),
)


def climbing(sources):
    """Visits of sources whose scores rise with the document number, so that `A0 A1 ...` names ranks."""
    shards = [(name, docs_table(sizes, name)) for name, sizes in sources.items()]
    ids = [id for _, docs in shards for id in docs["id"].to_pylist()]
    ranks = [rank for sizes in sources.values() for rank in range(len(sizes))]
    return visits_of(candidates(shards, pa.table({"id": ids, "edu": pa.array(ranks, pa.float32())})))


def ids_of(visits, source):
    return visits.filter(pc.equal(visits["source"].cast(pa.string()), source))["id"].to_pylist()


def named(order):
    return [f"{row['source']}{row['doc']}" for row in order.select(["source", "doc"]).to_pylist()]


@properties
@given(pools, policies, st.integers(0, 99))
def test_exact_permutation_whatever_the_order_of_the_input(sources, policy, shuffle):
    visits = pa.concat_tables([visits_of(pool(sources), visit) for visit in (0, 1)])
    first = arrange(visits, policy)
    assert same_visits(first, visits)
    assert arrange(shuffled_rows(visits, shuffle), policy).equals(first)
    key = ["id", "visit"]
    assert sorted(map(tuple, (r.values() for r in first.select(key).to_pylist()))) == sorted(
        map(tuple, (r.values() for r in visits.select(key).to_pylist()))
    )


@properties
@given(pools, seeds)
def test_equal_places_are_decided_by_the_seed_alone(sources, seed):
    """All scores equal: a sort is the shuffle of the same seed."""
    table = pool(sources)
    flat = table.set_column(6, table.schema.field("score"), pa.array(np.ones(table.num_rows, np.float32)))
    by_score, by_hash = (arrange(visits_of(flat), p) for p in (Sorted(by="edu", seed=seed), Shuffled(seed=seed)))
    assert by_score["id"].equals(by_hash["id"])


@properties
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
    groups, sizes = np.array([0, 0, 0, 0, 1, 1], np.int32), np.array([4, 1, 1, 2, 1, 3])
    assert centred_places(groups, sizes).tolist() == [0.25, 0.5625, 0.6875, 0.875, 0.125, 0.625]
    order = arrange(climbing({"A": [4, 1, 1, 2], "B": [1, 3]}), Interleaved(by="edu"))
    assert named(order) == ["B0", "A0", "A1", "B1", "A2", "A3"]


@properties
@given(pools)
def test_every_prefix_keeps_the_shares(sources):
    """By the definition of the centred place, a source's tokens before a visit at place R are R of its tokens, give
    or take half of its visit at the border; so at any prefix two sources differ by half a visit each at most."""
    order = arrange(climbing(sources), Interleaved(by="edu"))
    source = np.array(order["source"].to_pylist())
    sizes = order["length"].to_numpy()
    progress = []
    for name, own in sources.items():
        progress.append((np.cumsum(np.where(source == name, sizes, 0)) / sum(own), max(own) / (2 * sum(own))))
    for done_a, half_a in progress:
        for done_b, half_b in progress:
            assert np.abs(done_a - done_b).max() <= half_a + half_b + 1e-9


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


@properties
@given(pools, seeds)
def test_a_source_without_scores_is_shuffled_in_proportion(sources, seed):
    order = arrange(visits_of(pool(sources, scored=False)), Interleaved(by="edu", seed=seed))
    alone = arrange(visits_of(pool(sources, scored=False)), Shuffled(seed=seed))
    for name in sources:
        assert ids_of(order, name) == ids_of(alone, name)
    assert all(rule.startswith("no scores: shuffled within source") for rule in order["rule"].to_pylist())


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
    own = pa.table({"id": ids, "score": pa.array([1, 2, 3, 4], pa.float32())})
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
    assert sorted(set(arrange(visits, Interleaved(by="edu"))["rule"].to_pylist())) == [
        "ascending by edu within source code, paced by tokens",
        "ascending by edu within source web, paced by tokens",
    ]
    assert set(arrange(visits, Shuffled(seed=3))["rule"].to_pylist()) == {"shuffled, seed 3"}
    assert as_order(arrange(visits, Shuffled())).num_columns == 9


def test_ends_with():
    up, down = Sorted(by="edu"), Interleaved(by="edu", ascending=False)
    assert [ends_with(up, "high"), ends_with(up, "low")] == ["the best", "the worst"]
    assert [ends_with(down, "high"), ends_with(down, "low")] == ["the worst", "the best"]
    assert ends_with(down, "middle").startswith("the lowest")
    assert ends_with(Shuffled(), "high") == "documents of every score"


class Recipe(Config):
    order: Policy


def test_policies_are_chosen_by_kind():
    assert TypeAdapter(Policy).validate_python({"kind": "interleaved", "by": "edu"}) == Interleaved(by="edu")
    shuffled = {"kind": "shuffled", "by": "edu", "seed": 2}
    assert validated(Recipe, {"order": shuffled}, "recipe.yaml").order == Shuffled(by="edu", seed=2)
    with pytest.raises(ConfigError, match="did you mean 'ascending'"):
        validated(Recipe, {"order": {"kind": "sorted", "by": "edu", "ascendin": True}}, "recipe.yaml")


def test_the_shuffle_of_a_document_does_not_depend_on_the_others():
    few, many = (arrange(visits_of(pool({"web": [1] * n})), Shuffled(seed=4))["id"].to_pylist() for n in (50, 80))
    kept = {document_id("web", str(i)) for i in range(50)}
    assert [id for id in many if id in kept] == few
