"""The measures of an order agree with their definitions."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.arrange import arrange, stream
from curriculum.describe import describe
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted
from tests.curriculum.making import pool, properties, visits_of

BIG = {"web": [3] * 2000, "code": [7, 5] * 500}


def test_sorted_shuffled_and_descending():
    visits = visits_of(pool(BIG))
    up = describe(arrange(visits, Sorted(by="edu")))
    assert up["spearman"] == pytest.approx(1, abs=0.03)  # five values only: positions within a tie are not correlated
    assert (up["displacement_mean"], up["displacement_p95"], up["score_last_1_percent"]) == (0, 0, 4)
    down = describe(arrange(visits, Sorted(by="edu", ascending=False)))
    assert down["spearman"] == pytest.approx(-up["spearman"])
    assert (down["displacement_mean"], down["score_last_1_percent"]) == (0, 0)
    none = describe(arrange(visits, Shuffled(by="edu")))
    assert abs(none["spearman"]) < 0.06
    assert none["score_last_1_percent"] == pytest.approx(none["score_mean"], abs=0.8)
    json.dumps(up)


def test_interleaved_keeps_shares_in_every_band():
    report = describe(arrange(visits_of(pool(BIG)), Interleaved(by="edu")), bands=20)
    assert len(report["edges"]) == 21
    for name, tokens in (("web", 6000), ("code", 6000)):
        shares = report["source_share_by_position"][name]
        np.testing.assert_allclose(shares, tokens / 12_000, atol=0.02)
    assert (np.diff(report["score_by_position"]) >= -1e-9).all()


@properties
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_bands_split_visits_at_their_borders(web, code):
    """Against a count token by token, with bands that are whole tokens."""
    order = arrange(visits_of(pool({"web": web, "code": code})), Shuffled(by="edu"))
    sizes = order["length"].to_numpy()
    token_source = np.repeat(np.array(order["source"].to_pylist()), sizes)
    token_score = np.repeat(order["score"].to_numpy(), sizes)
    report = describe(order, bands=len(token_source))
    np.testing.assert_allclose(report["source_share_by_position"]["web"], token_source == "web", atol=1e-6)
    np.testing.assert_allclose(report["score_by_position"], token_score, atol=1e-6)


def test_orders_without_scores_have_no_measures_of_them():
    report = describe(arrange(visits_of(pool({"web": [1, 2, 3]}, scored=False)), Shuffled()))
    assert report["scored_visits"] == 0
    absent = ("spearman", "displacement_mean", "displacement_p95", "displacement_by_position", "score_mean")
    for name in (*absent, "score_last_1_percent"):
        assert report[name] is None
    assert report["score_by_position"] == [None] * 20


def test_a_table_read_back_has_the_same_report(tmp_path):
    order = arrange(visits_of(pool(BIG)), Interleaved(by="edu"))
    assert describe(order) == describe(pa.concat_tables([order.slice(0, 100), order.slice(100)]))


def test_displacement_along_the_order():
    """A sort whose second half is turned round: the first half is where it belongs, the second is not."""
    visits = visits_of(pool({"web": [1] * 100}))
    order = arrange(visits, Sorted(by="edu"))
    at = order.column_names.index("score")
    ranks = pa.array(np.arange(100), pa.float32())
    turned = order.set_column(at, "score", ranks).take(pa.array([*range(50), *reversed(range(50, 100))]))
    moved = describe(turned, bands=2)["displacement_by_position"]
    assert moved == [0, pytest.approx(np.abs(np.arange(49, -50, -2)).mean() / 100)]


@properties
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 4), st.integers(0, 99))
def test_repeats_and_their_distance_by_counting(lengths, epochs, seed):
    table = pool({"web": lengths})
    order = arrange(pa.concat_tables([visits_of(table, n) for n in range(epochs)]), Shuffled(seed=seed))
    report, end, seen, distances = describe(order), 0, {}, []
    for row in order.to_pylist():
        if row["doc"] in seen:
            distances.append(end - seen[row["doc"]])
        end += row["length"]
        seen[row["doc"]] = end
    assert report["repeated_visits"] == len(distances) == (epochs - 1) * len(lengths)
    if distances:
        np.testing.assert_allclose(report["repeat_distance"], np.quantile(distances, np.linspace(0, 1, 21)))
    else:
        assert report["repeat_distance"] is None


def test_phases_are_listed_as_they_are_read():
    visits = pa.concat_tables(visits_of(pool({"web": sizes}), 0, phase) for phase, sizes in (("b", [3]), ("a", [2, 2])))
    order = pa.Table.from_batches(stream(visits, Shuffled(), phases=("b", "a"), engine=DuckDBEngine()))
    assert describe(order)["phases"] == [{"name": "b", "tokens": 3}, {"name": "a", "tokens": 4}]
