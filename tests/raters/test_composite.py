"""Composites: refused settings, missing scores, directions, groups, weights files, and row order."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from corpus.config import validated
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.fingerprints import fingerprint
from corpus.scores import Score, scores_of
from raters.base import counts_of, sidecar_rows
from raters.composite import FELL_BACK, Composite, CompositeRater, CompositeSettings, fit_composite, read_composite
from raters.token_count import N_TOKENS
from raters.weights_file import Evidence, WeightsFile

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
     ({"missing": "neutral", "max_missing": 0}, None), ({"missing": "median"}, 0.745),
     ({"missing": "median", "normaliser": "min_max"}, 0.75)],
)  # fmt: skip
def test_each_policy_for_a_missing_score(settings, expected):
    chosen = CompositeSettings(scores=("good", "noise"), **settings)
    rows = pa.table({"good": pa.array(range(50)), "noise": pa.array(range(50))})
    (value,) = rate(fit_composite(rows, SCORES, chosen), {"good": [49.0], "noise": [None]})
    assert value == (None if expected is None else pytest.approx(expected))


def test_the_median_of_a_skewed_score_is_where_documents_are_and_not_the_middle_of_its_range():
    rows = pa.table({"good": pa.array([0.0, 1.0, 2.0, 100.0]), "noise": pa.array([1.0, 2.0, 3.0, 4.0])})
    settings = CompositeSettings(scores=("good", "noise"), normaliser="min_max", missing="median")
    fitted = fit_composite(rows, SCORES, settings)
    assert {part.name: part.median for part in fitted.components} == {"good": pytest.approx(0.015), "noise": 0.5}
    (value,) = rate(fitted, {"good": [None], "noise": [1.0]})
    assert value == pytest.approx((0.015 + 1.0) / 2)
    middle = fit_composite(table(), SCORES, CompositeSettings(scores=("length",), missing="median"))
    assert middle.components[0].median == pytest.approx(0.5, abs=0.01)  # not 1, the value of the median document


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


def test_directions_can_be_overridden():
    rows = table()
    plain = fit_composite(rows, SCORES, CompositeSettings(scores=("noise",)))
    turned = fit_composite(rows, SCORES, CompositeSettings(scores=("noise",), directions={"noise": "high"}))
    low, high = plain.combined(rows)[0], turned.combined(rows)[0]
    np.testing.assert_allclose(low, 1 - high, atol=1e-15)
    assert turned.components[0].better == "high"
    with pytest.raises(ConfigError, match="unknown score 'nose'; did you mean 'noise'"):
        fit_composite(rows, SCORES, CompositeSettings(directions={"nose": "high"}))


def test_a_constant_score_has_no_influence_and_is_noted_and_an_empty_one_is_refused():
    rows = pa.table(
        {"good": pa.array([0.1] * 9), "noise": pa.array(range(9)), "length": pa.array([None] * 9, pa.float32())}
    )
    fitted = fit_composite(rows, SCORES, CompositeSettings(exclude=("length",)))
    assert [part.effective for part in fitted.components] == [0.0, 1.0]
    assert fitted.notes == ("constant over the reference sample, so without influence: good",)
    (alone,) = fit_composite(rows, SCORES, CompositeSettings(scores=("good",))).notes
    assert "ranks nothing" in alone
    with pytest.raises(InputError, match="'length' has no value"):
        fit_composite(rows, SCORES, CompositeSettings())
    with pytest.raises(ConfigError, match="did you mean 'length'"):
        fit_composite(rows, SCORES, CompositeSettings(exclude=("lengh",)))


def test_equal_weights_leave_out_the_token_count_unless_it_is_named():
    rows = table().append_column(N_TOKENS, pa.array(range(200), pa.float32()))
    scores = (*SCORES, Score(N_TOKENS, 1.0, None, "middle"))
    assert N_TOKENS not in [part.name for part in fit_composite(rows, scores, CompositeSettings()).components]
    named = fit_composite(rows, scores, CompositeSettings(scores=(N_TOKENS,)))
    assert [part.name for part in named.components] == [N_TOKENS]


def test_within_sources_every_source_is_ranked_by_itself():
    n = 200
    rows = table(n).append_column("source", pa.array(["web"] * 120 + ["old"] * 80))
    rows = rows.set_column(1, "good", pa.array([1000.0] * 120 + [0.0] * 80 + np.arange(n), pa.float32()))
    settings = CompositeSettings(scores=("good",), within="source")
    fitted = fit_composite(rows, SCORES, settings)
    assert set(fitted.components[0].groups) == {"web"}  # 80 documents are too few for a table of their own
    rater = CompositeRater(fitted)
    rated = rater.rate(rows.combine_chunks().to_batches()[0])
    assert counts_of(rated) == {FELL_BACK: 80}
    values = rated.column("composite").to_numpy()
    np.testing.assert_allclose(values[:120], (np.arange(120) + 0.5) / 120, rtol=1e-6)
    np.testing.assert_allclose(values[120:], (np.arange(80) + 0.5) / 200, rtol=1e-6)
    assert rater.needs == ("good", "source")
    with pytest.raises(ConfigError, match="'source' has no column"):
        fit_composite(rows.drop(["source"]), SCORES, settings)


def test_within_lengths_the_composite_does_not_follow_length():
    rng = np.random.default_rng(0)
    n_bytes = rng.lognormal(8, 1, 10_000)
    good = np.sqrt(n_bytes) + rng.normal(size=10_000)
    rows = pa.table({"good": pa.array(good, pa.float32()), "n_bytes": pa.array(n_bytes.astype(np.int32))})
    free = fit_composite(rows, SCORES, CompositeSettings(scores=("good",), within="length")).combined(rows)[0]
    plain = fit_composite(rows, SCORES, CompositeSettings(scores=("good",))).combined(rows)[0]
    order = np.argsort(n_bytes)
    assert abs(np.corrcoef(np.arange(10_000), free[order])[0, 1]) < 0.05
    assert np.corrcoef(np.arange(10_000), plain[order])[0, 1] > 0.95


def test_a_weights_file_says_all_and_leaves_no_second_say():
    file = WeightsFile(
        scores=("noise", "good"), weights=(3, 1), directions={"noise": "high"}, normaliser="min_max", missing="drop",
        evidence=Evidence(summary="64 proxies, ridge"),
    )  # fmt: skip
    settings = CompositeSettings(weights="w.json", sample=50, max_missing=1)
    fitted = fit_composite(table(), SCORES, settings.following(file))
    assert {part.name: (part.weight, part.better) for part in fitted.components} == {
        "good": (0.25, "high"), "noise": (0.75, "high"),
    }  # fmt: skip
    assert (fitted.missing, fitted.evidence) == ("drop", "64 proxies, ridge")
    assert "weights" not in settings.model_dump()  # a path is not identity
    with pytest.raises(ConfigError, match="'goood'; did you mean 'good'"):
        fit_composite(table(), SCORES, settings.following(file.model_copy(update={"scores": ("noise", "goood")})))
    with pytest.raises(ConfigError, match="a weights file says what scores would say"):
        validated(CompositeSettings, {"weights": "w.json", "scores": ["good"]}, "recipe")


def test_other_weights_on_the_same_normalisers_equal_a_fit_with_them():
    rows = table()
    equal = fit_composite(rows, SCORES, CompositeSettings())
    for weights in ((3, 1, 0), (0.2, 0.3, 0.5)):
        names = [part.name for part in equal.components]
        fitted = fit_composite(rows, SCORES, CompositeSettings(scores=dict(zip(names, weights, strict=True))))
        assert equal.weighted(weights).components == fitted.components
        assert equal.weighted(weights).max_missing == fitted.max_missing
    for wrong, message in (((1, 2), "2 weights"), ((0, 0, 0), "above 0"), ((1, -1, 1), "above 0")):
        with pytest.raises(ConfigError, match=message):
            equal.weighted(wrong)
