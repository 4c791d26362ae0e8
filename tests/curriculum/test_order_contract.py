"""The contract of every order, proved for every kind: permutation, ties, polarity, nulls, any partition of input."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.arrange import arrange, ends_with, stream
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import ORDER_SCHEMA, OrderError, as_order
from curriculum.policies.base import MergedPolicy, ScorePolicy
from curriculum.visits import same_visits
from tests.curriculum.making import properties, shuffled_rows
from tests.curriculum.policy_cases import KINDS, policies, policy_of, visits_table

few = properties.__class__(parent=properties, max_examples=3)
pytestmark = pytest.mark.filterwarnings("error")
SCORED = [kind for kind, model in KINDS.items() if issubclass(model, ScorePolicy)]
# Kinds that cut the line and shuffle, each with settings that cut it in the middle of equal scores.
CUT = {
    "banded": {"bands": 2}, "curriculum_warmup": {"tokens": 0.3}, "segment": {"front": 0.3, "back": 0},
    "two_phase": {"last_tokens": 0.5},
}  # fmt: skip


def keys_of(table):
    return list(zip(*(table[name].to_pylist() for name in ("shard", "doc", "start", "length", "visit")), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=st.data(), n=st.integers(60, 120), seed=st.integers(0, 99))
def test_exact_permutation_whatever_the_order_of_the_input(kind, data, n, seed):
    policy = data.draw(policies([kind]))
    visits = visits_table(n, seed=seed)
    first = arrange(visits, policy)
    assert first.schema.equals(ORDER_SCHEMA)
    assert sorted(keys_of(first)) == sorted(keys_of(visits))
    assert same_visits(first, visits)
    assert arrange(shuffled_rows(visits, seed), policy).equals(first)


@pytest.mark.parametrize("kind", KINDS)
def test_same_table_for_any_threads_and_any_number_of_files(kind, tmp_path):
    """Enough rows for several row groups and threads; memory is bounded as well."""
    visits, policy = visits_table(1000, seed=3), policy_of(kind, jitter=7, noise={"scale": 0.02})
    visits = visits.set_column(2, "doc", pa.array(np.arange(visits.num_rows, dtype=np.int32)))
    first = arrange(visits, policy)
    for parts, threads in ((1, 1), (3, 2), (7, 4)):
        rows = np.array_split(np.random.default_rng(parts).permutation(visits.num_rows), parts)
        paths = [tmp_path / f"{parts}-{i}.parquet" for i in range(parts)]
        for path, own in zip(paths, rows, strict=True):
            pq.write_table(visits.take(pa.array(own)), path, row_group_size=100)
        batches = stream(paths, policy, engine=DuckDBEngine(threads=threads, memory="1GB"))
        assert as_order(pa.Table.from_batches(list(batches))).equals(first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 2, 10])
def test_jitter_moves_no_visit_further_than_its_window(kind, window):
    visits = visits_table(80)
    plain = {key: i for i, key in enumerate(keys_of(arrange(visits, policy_of(kind))))}
    moved = [abs(i - plain[key]) for i, key in enumerate(keys_of(arrange(visits, policy_of(kind, jitter=window))))]
    assert max(moved) < window
    assert window == 1 or max(moved) > 0 or kind == "two_phase"


@few
@given(seed=st.integers(0, 2**64))
def test_equal_scores_leave_the_shuffle_of_the_seed(seed):
    visits = visits_table(60, scores=np.ones(60))
    by_score = arrange(visits, policy_of("sorted", seed=seed))
    assert keys_of(by_score) == keys_of(arrange(visits, policy_of("shuffled", seed=seed)))


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("seed", [0, 5])
def test_a_cut_through_equal_scores_does_not_show_in_the_shuffle_behind_it(kind, seed):
    """Two scores only: those of the low one that the cut leaves to the rest are read neither early nor late in it."""
    scores = np.r_[np.zeros(2400), np.ones(1600)].astype(np.float32)
    visits = visits_table(4000, scores=scores, lengths=np.full(4000, 5))
    order = arrange(visits, policy_of(kind, seed=seed, **CUT[kind]))["score"].to_numpy()
    cut = 2000 if kind in ("banded", "two_phase") else 1200
    rest = order[cut:]
    low = np.flatnonzero(rest == 0) / len(rest)
    assert len(low) == 2400 - cut
    assert abs(low.mean() - 0.5) < 4 / np.sqrt(12 * len(low))


@pytest.mark.parametrize("kind", SCORED)
def test_polarity_is_explicit(kind):
    """A reversed column is the other direction, and what the last visits are is said as it is."""
    visits = visits_table(400, scores=np.arange(400), level=np.arange(400) // 20)
    labels = {"by": ["level"]} if "subject" in KINDS[kind].model_fields else {}
    reverse = {"by": ["-level"]} if labels else {"by": "-edu"}
    up, down = (policy_of(kind, **labels, ascending=way) for way in (True, False))
    turned = policy_of(kind, **reverse)
    if kind != "token_gumbel":  # there -name changes the score and not the direction of leaving
        assert keys_of(arrange(visits, turned)) == keys_of(arrange(visits, down))
        assert turned.end == down.end
    if up.end == "mixed":
        assert down.end == "mixed"
        assert ends_with(up, "high") == "documents of every score"
        return
    assert (up.end, down.end) == ("high", "low")
    assert ends_with(up, "high") == ends_with(down, "low") == "the best"
    assert ends_with(up, "low") == ends_with(down, "high") == "the worst"
    score = "level" if labels else "edu"
    shown = {key: value for key, value in zip(keys_of(visits), visits[score].to_pylist(), strict=True)}
    means = [np.mean([shown[key] for key in keys_of(arrange(visits, policy))[-40:]]) for policy in (up, down)]
    half = np.mean(visits[score].to_numpy())
    assert means[0] > 1.2 * half
    assert means[1] < 0.8 * half


@pytest.mark.parametrize("kind", [kind for kind, model in KINDS.items() if issubclass(model, MergedPolicy)])
def test_visits_without_a_score_are_refused_or_placed(kind):
    """Null is never 0: the scores are below and above it."""
    n, holes = 60, 7
    name = {"taxonomy_dfs": "taxonomy_path"}.get(kind, "level" if "subject" in KINDS[kind].model_fields else "edu")
    values = [f"p/{i}" for i in range(n)] if kind == "taxonomy_dfs" else [i - 30.0 for i in range(n)]
    values[:holes] = [None] * holes
    visits = visits_table(n, **{"source": visits_table(n, scores=np.zeros(n))["component"], name: values})
    visits = visits.set_column(visits.column_names.index(name), name, pa.array(values))
    with pytest.raises(OrderError, match=rf"{holes} of {n} visits have no(.|\n)*order.missing: first"):
        arrange(visits, policy_of(kind))
    if kind in (
        "folding",
        "zigzag",
        "stair",
        "saw",
        "segment",
        "gauss_key",
        "gumbel_key",
        "paced",
        "curriculum_warmup",
    ):
        return  # they deal the line out again, in which the unscored have the first or the last ranks
    without = {key for key, value in zip(keys_of(visits), values, strict=True) if value is None}
    if kind != "two_phase":
        first, last = (keys_of(arrange(visits, policy_of(kind, missing=end))) for end in ("first", "last"))
        if kind == "banded":
            first, last = first[:20], last[-20:]
            assert without <= set(first)
            assert without <= set(last)
        else:
            assert set(first[:holes]) == set(last[-holes:]) == without


def test_unscored_have_the_ranks_of_their_end():
    """Of the kinds that deal the line out again: in each fold the unscored come first, or last."""
    scores = pa.array([None] * 6 + [float(i) for i in range(-6, 6)])
    visits = visits_table(18, edu=scores)
    for end, place in (("first", slice(0, 2)), ("last", slice(-2, None))):
        order = arrange(visits, policy_of("folding", missing=end, folds=3))["score"].to_pylist()
        for fold in (order[:6], order[6:12], order[12:]):
            assert fold[place] == [None, None]
            assert None not in (fold[2:] if end == "first" else fold[:-2])


@pytest.mark.parametrize("kind", [kind for kind, model in KINDS.items() if issubclass(model, MergedPolicy)])
@few
@given(seed=st.integers(0, 99))
def test_within_keeps_the_shares_of_sources_at_every_prefix(kind, seed):
    if kind == "two_phase":
        return  # its parts say how they merge; see test_two_phase
    order = arrange(visits_table(90, seed=seed), policy_of(kind, within="source", unit="tokens"))
    source, sizes = np.array(order["source"].to_pylist()), order["length"].to_numpy()
    progress = []
    for name in set(source.tolist()):
        own = np.where(source == name, sizes, 0)
        progress.append((np.cumsum(own) / own.sum(), own.max() / (2 * own.sum())))
    for done_a, half_a in progress:
        for done_b, half_b in progress:
            assert np.abs(done_a - done_b).max() <= half_a + half_b + 1e-9


@pytest.mark.parametrize("kind", [kind for kind, model in KINDS.items() if issubclass(model, MergedPolicy)])
def test_within_arranges_each_source_as_if_it_were_alone(kind):
    if kind in ("two_phase", "token_gumbel"):
        return  # parts; a spread of the score over everything
    visits = visits_table(120, seed=4)
    merged = arrange(visits, policy_of(kind, within="source"))
    alone = {"within": "source"} if kind == "interleaved" else {}
    for source in ("web", "code", "books"):
        own = visits.filter(pa.array([name == source for name in visits["source"].to_pylist()]))
        theirs = merged.filter(pa.array([name == source for name in merged["source"].to_pylist()]))
        if kind == "taxonomy_dfs":  # siblings stand in the order of their first document in all sources
            continue
        assert keys_of(theirs) == keys_of(arrange(own, policy_of(kind, **alone)))


def test_phases_are_read_in_turn_each_by_its_policy():
    one, two = (visits_table(50, seed=seed) for seed in (1, 2))
    phases = [pa.array([name] * table.num_rows) for name, table in (("b", one), ("a", two))]
    at = one.column_names.index("phase")
    both = pa.concat_tables(
        table.set_column(at, one.schema.field("phase"), phase.dictionary_encode())
        for table, phase in zip((one, two), phases, strict=True)
    ).unify_dictionaries()
    orders = {"b": policy_of("folding"), "a": policy_of("paced")}
    got = as_order(pa.Table.from_batches(list(stream(both, orders, phases=("b", "a"), engine=DuckDBEngine()))))
    expected = keys_of(arrange(one, orders["b"])) + keys_of(arrange(two, orders["a"]))
    assert keys_of(got) == expected
    assert got["phase"].to_pylist() == ["b"] * one.num_rows + ["a"] * two.num_rows
