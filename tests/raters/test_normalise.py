"""Normalisers: golden values, monotone, exact through JSON, and unmoved by one outlier."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import InputError
from corpus.rank_correlation import spearman
from raters.normalise import (
    MIN_GROUP,
    Normaliser,
    aligned,
    apply_within,
    clipped_z,
    fit,
    fit_groups,
    floats,
    length_band,
    length_edges,
)

KINDS = ("quantile", "robust_z", "z", "min_max")
GOLDEN = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
finite = st.floats(-1e6, 1e6, width=32)
samples = st.lists(finite, min_size=1, max_size=60).map(np.array)


def test_golden_values_of_five_numbers():
    np.testing.assert_allclose(fit(GOLDEN, "quantile").apply(GOLDEN), [0.1, 0.3, 0.5, 0.7, 0.9])
    z = clipped_z(GOLDEN, *fit(GOLDEN, "robust_z").table)
    np.testing.assert_allclose(z, [-1.3490, -0.6745, 0, 0.6745, 5], atol=5e-5)
    np.testing.assert_allclose(5 * fit(GOLDEN, "min_max").apply(GOLDEN), [0, 0.0505, 0.1010, 0.1515, 5], atol=5e-5)


def test_ties_share_their_middle_rank():
    values = np.array([0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(fit(values, "quantile").apply(values), [0.375, 0.375, 0.375, 0.875])


def test_outside_the_sample_and_not_scored():
    u = fit(GOLDEN, "quantile").apply(np.array([-7.0, 1e9, np.nan, np.inf]))
    np.testing.assert_array_equal(u, [0.0, 1.0, np.nan, np.nan])


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_sample_maps_to_the_middle(kind):
    assert fit(np.full(7, 3.0), kind).apply(np.array([3.0])) == 0.5


def test_robust_z_survives_a_sample_that_is_mostly_one_value():
    values = np.array([0.0] * 9 + [10.0])
    z = clipped_z(values, *fit(values, "robust_z").table)
    assert z[0] == 0
    assert 0 < z[-1] <= 5


@given(samples, st.lists(finite, min_size=2, max_size=60).map(np.array), st.sampled_from(KINDS))
def test_monotone_and_inside_the_unit_range(sample, values, kind):
    u = fit(sample, kind).apply(np.sort(values))
    assert (np.diff(u) >= 0).all()
    assert ((u >= 0) & (u <= 1)).all()


@given(samples, st.sampled_from(KINDS))
def test_json_and_row_order_change_nothing(sample, kind):
    fitted = fit(sample, kind)
    assert Normaliser.model_validate_json(fitted.model_dump_json()) == fitted == fit(sample[::-1], kind)


@given(samples, st.floats(-1e30, 1e30))
def test_one_outlier_moves_no_other_value_by_more_than_one_rank(sample, outlier):
    before = fit(sample, "quantile").apply(sample)
    after = fit(np.append(sample, outlier), "quantile").apply(sample)
    assert np.abs(before - after).max() <= 1 / len(sample) + 1e-12


@pytest.mark.parametrize("zeros", [0, 30_000])
def test_a_large_sample_is_known_to_a_thousandth(zeros):
    values = np.append(np.random.default_rng(1).lognormal(size=70_000), np.zeros(zeros))
    ordered = np.sort(values)
    exact = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2 / len(values)
    fitted = fit(values, "quantile")
    assert len(fitted.table) == 1001
    assert np.abs(fitted.apply(values) - exact).max() < 1e-3
    outlier = fit(np.append(values, 1e12), "quantile").apply(values)
    assert np.abs(outlier - fitted.apply(values)).max() < 1e-3 + 1 / len(values)


def test_directions():
    u = np.array([0.0, 0.25, 0.5, 1.0, np.nan])
    np.testing.assert_array_equal(aligned(u, "high"), u)
    np.testing.assert_array_equal(aligned(u, "low"), [1.0, 0.75, 0.5, 0.0, np.nan])
    np.testing.assert_array_equal(aligned(u, "middle"), [0.0, 0.5, 1.0, 0.0, np.nan])


def test_nulls_are_left_out_of_the_fit():
    column = pa.chunked_array([pa.array([1.0, None], pa.float32()), pa.array([3.0], pa.float32())])
    fitted = fit(floats(column), "quantile")
    assert fitted.n == 2
    np.testing.assert_array_equal(fitted.apply(floats(column)), [0.25, np.nan, 0.75])


def test_a_score_without_values_is_refused_by_name():
    with pytest.raises(InputError, match="'prose' has no value"):
        fit(np.array([np.nan]), "quantile", "prose")


def test_z_has_mean_0_and_sd_1_on_its_sample():
    values = np.random.default_rng(1).normal(3, 2, 500)
    z = clipped_z(values, *fit(values, "z").table)
    assert (z.mean(), z.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert fit(np.full(7, 0.1), "z").table == (0.1, 0.0)


def test_a_group_has_its_own_table_only_where_it_is_large_enough():
    groups = np.array(["web"] * MIN_GROUP + ["old"] * (MIN_GROUP - 1))
    values = np.append(np.arange(MIN_GROUP), 1000.0 + np.arange(MIN_GROUP - 1))
    tables, overall = fit_groups(values, groups, "quantile"), fit(values, "quantile")
    assert set(tables) == {"web"}
    unit = apply_within(np.array([50.0, 1000.0, 50.0]), np.array(["web", "old", "new"]), tables, overall)
    np.testing.assert_allclose(unit, [0.505, 100.5 / 199, 50.5 / 199])


def test_ranks_within_bands_of_length_do_not_follow_length():
    rng = np.random.default_rng(8)
    lengths = np.round(rng.lognormal(7, 1.2, 20_000))
    quality = rng.normal(size=20_000)
    score = np.log(lengths) ** 2 + 0.5 * quality  # nearly all of it is length

    def rank_correlation(x, y):
        return spearman(x, y)

    edges = length_edges(lengths)
    bands = length_band(lengths, edges)
    unit = apply_within(score, bands, fit_groups(score, bands, "quantile"), fit(score, "quantile"))
    assert len(edges) == 49
    assert rank_correlation(lengths, score) > 0.98
    assert abs(rank_correlation(lengths, unit)) < 0.02
    assert rank_correlation(quality, unit) > 0.7 > 2 * rank_correlation(quality, score)


def test_too_few_lengths_make_one_band():
    assert length_edges(np.arange(199.0)).tolist() == []
    assert length_edges(np.arange(200.0)).tolist() == [100.0]
    assert length_band(np.array([99.0, 100.0]), np.array([100.0])).tolist() == ["0", "1"]
    assert length_edges(np.full(5_000, 3.0)).tolist() == [3.0]
