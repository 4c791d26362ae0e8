"""Composites and selection: refused settings, missing scores, direction, row order, and nested budgets."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.fingerprints import fingerprint
from corpus.scores import Score, scores_of
from raters.base import sidecar_rows
from raters.composite import Composite, CompositeRater, CompositeSettings, fit_composite, read_composite
from raters.select import take_budget

SCORES = (
    Score("good", 0.0, None, "high"),
    Score("noise", 0.0, None, "low"),
    Score("length", 0.0, None, "middle"),
)


def table(n: int = 200) -> pa.Table:
    rng = np.random.default_rng(5)
    columns = {score.name: pa.array(rng.lognormal(size=n), pa.float32()) for score in SCORES}
    return pa.table({"id": [f"{i:032x}" for i in range(n)], **columns})


def rate(fitted: Composite, rows: dict) -> list:
    arrays = {name: pa.array(values, pa.float32()) for name, values in rows.items()}
    return CompositeRater(fitted).rate(pa.record_batch(arrays)).column("composite").to_pylist()


def test_better_means_higher_for_every_direction():
    fitted = fit_composite(table(), SCORES, CompositeSettings())
    middle = float(np.median(table()["length"]))
    best, worst = rate(fitted, {"good": [99, 0], "noise": [0, 99], "length": [middle, 99]})
    assert best > 0.98
    assert worst == 0.0


def test_row_order_and_batches_change_no_bit():
    whole = table()
    fitted = fit_composite(whole, SCORES, CompositeSettings())
    shuffled = whole.take(np.random.default_rng(2).permutation(len(whole)))
    assert fit_composite(shuffled, SCORES, CompositeSettings()).model_dump_json() == fitted.model_dump_json()
    rater = pickle.loads(pickle.dumps(CompositeRater(fitted)))
    batches = [rater.rate(batch) for batch in whole.to_batches(max_chunksize=7)]
    assert pa.Table.from_batches(batches).combine_chunks() == pa.Table.from_batches(
        [CompositeRater(fitted).rate(whole.combine_chunks().to_batches()[0])]
    )
    assert fingerprint(rater.identity()) == fingerprint(CompositeRater(fitted).identity())


def test_json_round_trip_is_exact(tmp_path):
    fitted = fit_composite(table(), SCORES, CompositeSettings(normaliser="robust_z"))
    (tmp_path / "normaliser.json").write_text(fitted.model_dump_json(indent=1))
    assert read_composite(tmp_path / "normaliser.json") == fitted
    (tmp_path / "normaliser.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no composite"):
        read_composite(tmp_path / "normaliser.json")


def test_weights_are_shares_and_the_effective_ones_follow_the_spread():
    rows = pa.table({"good": pa.array([0.0, 1.0] * 50), "noise": pa.array([1.0] * 100), "length": pa.array(range(100))})
    fitted = fit_composite(rows, SCORES, CompositeSettings(scores={"good": 3, "noise": 1, "length": 0}))
    assert {part.name: part.weight for part in fitted.components} == {"good": 0.75, "noise": 0.25}
    assert [part.effective for part in fitted.components] == [1.0, 0.0]
    assert fitted.evidence == "weights set by hand"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"missing": "neutral"}, 0.745), ({"missing": "renormalise"}, 0.99), ({"missing": "drop"}, None),
     ({"missing": "neutral", "max_missing": 0}, None)],
)  # fmt: skip
def test_each_policy_for_a_missing_score(settings, expected):
    chosen = CompositeSettings(scores=("good", "noise"), **settings)
    rows = pa.table({"good": pa.array(range(50)), "noise": pa.array(range(50))})
    (value,) = rate(fit_composite(rows, SCORES, chosen), {"good": [49.0], "noise": [None]})
    assert value == (None if expected is None else pytest.approx(expected))


def test_a_document_without_any_score_is_never_ranked():
    rater = CompositeRater(fit_composite(table(), SCORES, CompositeSettings()))
    nothing = pa.record_batch({name: pa.array([None], pa.float32()) for name in rater.needs})
    assert rater.rate(nothing).to_pylist() == [{"composite": None, "n_missing": 3.0}]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"god": 1.0}, "unknown score 'god'; did you mean 'good'"), ({"good": 0, "noise": 0}, "weight above 0"),
     ({}, "weight above 0"), (("good", "good"), "named twice"), ({"good": 1e308, "noise": 1e308}, "add up")],
)  # fmt: skip
def test_weights_that_cannot_be_used_are_refused(chosen, message):
    with pytest.raises(ConfigError, match=message):
        fit_composite(table(), SCORES, CompositeSettings(scores=chosen))


def test_more_refusals():
    with pytest.raises(ConfigError, match="named twice"):
        fit_composite(table(), (*SCORES, SCORES[0]), CompositeSettings())
    with pytest.raises(ConfigError, match="no column"):
        fit_composite(table().drop(["noise"]), SCORES, CompositeSettings())
    with pytest.raises(ConfigError, match="greater than or equal to 0"):
        validated(CompositeSettings, {"scores": {"good": -1}}, "recipe")


def test_sidecar_rows_carry_their_definitions():
    rater = CompositeRater(fit_composite(table(), SCORES, CompositeSettings()))
    rows = sidecar_rows(rater, table().to_batches()[0])
    assert rows.schema.names == ["id", "composite", "n_missing"]
    assert scores_of(rows.schema) == rater.scores
    assert json.loads(rows.schema.field("composite").metadata[b"score"])["better"] == "high"


def golden(budget: int, seed: int) -> list[int]:
    ids = ["d1", "d2", "d3", "d4"]
    return take_budget([0.9, 0.9, 0.8, 0.7], [400, 300, 500, 200], budget, seed=seed, ids=ids).rows.tolist()


def test_golden_selection_stops_at_the_document_that_does_not_fit():
    seed = next(seed for seed in range(100) if golden(10_000, seed)[0] == 0)
    assert golden(1_000, seed) == [0, 1]
    chosen = take_budget([0.9, 0.9, 0.8, 0.7], [400, 300, 500, 200], 1_000, seed=seed, ids=["d1", "d2", "d3", "d4"])
    assert (chosen.tokens, chosen.shortfall, chosen.lowest, chosen.unscored) == (700, 300, 0.9, 0)


documents = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9, np.nan]), st.integers(0, 50)), max_size=40)


@given(documents, st.integers(0, 900), st.integers(0, 900), st.randoms(use_true_random=False))
def test_selections_fit_are_nested_and_do_not_depend_on_row_order(rows, budget, other, random):
    named = [(f"{i}", score, tokens) for i, (score, tokens) in enumerate(rows)]

    def take(part: list, limit: int) -> list[str]:
        ids, scores, tokens = ([row[i] for row in part] for i in range(3))
        chosen = take_budget(scores, tokens, limit, seed=3, ids=ids)
        assert sum(tokens[i] for i in chosen.rows) == chosen.tokens <= limit
        assert chosen.unscored == sum(np.isnan(score) for score in scores)
        return [ids[i] for i in chosen.rows]

    small, large = sorted((budget, other))
    best = take(named, large)
    assert best[: len(take(named, small))] == take(named, small)
    assert take(random.sample(named, len(named)), large) == best


def test_selection_refuses_columns_that_do_not_fit_together():
    with pytest.raises(InputError, match="same documents"):
        take_budget([0.1], [1, 2], 5, seed=0, ids=["a"])
    with pytest.raises(InputError, match="have an id"):
        take_budget([0.1, 0.2], [1, 2], 5, seed=0, ids=["a", "a"])
    with pytest.raises(InputError, match="negative"):
        take_budget([0.1], [-1], 5, seed=0, ids=["a"])
