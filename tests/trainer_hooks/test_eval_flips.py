"""Flips, McNemar's test and the bootstrap: golden values, identities on random answers, and levels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from trainer_hooks.evals.flips import (
    NOT_DISTINGUISHABLE,
    bootstrap,
    compare_choices,
    compare_scores,
    mcnemar,
    paired_error,
)

letters = st.lists(st.tuples(*[st.sampled_from("ABCD")] * 3), min_size=1, max_size=60)


def test_the_golden_comparison():
    found = compare_choices("AABBCCDD", "AABBCADA", "AABCCCDB")
    assert (found.old_accuracy, found.new_accuracy) == (0.75, 0.75)
    assert (found.negative, found.positive, found.negative_any) == (0.125, 0.125, 0.25)
    assert found.trust == pytest.approx(0.8333, abs=5e-5)
    moved = compare_scores([0.0] * 8, [0.1, -0.05, 0, 0.2, -0.15, 0, 0.05, -0.1])
    assert (moved.gained, moved.lost) == (0.375, 0.375)
    assert (moved.mean_gain, moved.mean_loss) == (pytest.approx(0.1167, abs=5e-5), pytest.approx(0.10))
    assert moved.mean == pytest.approx(0.00625)


def test_the_golden_standard_errors():
    assert 100 * paired_error(0.05, 0.06, 1_000) == pytest.approx(1.05, abs=5e-3)
    assert 100 * paired_error(0.05, 0.06, 10_000) == pytest.approx(0.33, abs=5e-3)


@given(letters)
def test_identities_hold_for_any_answers(rows):
    found = compare_choices(*zip(*rows, strict=True))
    difference = found.new_accuracy - found.old_accuracy
    assert difference == pytest.approx(found.positive - found.negative, abs=1e-12)
    assert found.negative <= found.negative_any + 1e-12
    if found.trust is not None:
        assert found.trust == pytest.approx(1 - found.negative / found.old_accuracy, abs=1e-12)
    right = [((y == b) - (y == a)) for y, a, b in rows]
    assert found.standard_error == pytest.approx(np.std(right) / np.sqrt(len(rows)), abs=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_the_mean_change_is_gains_less_losses(moved):
    found = compare_scores([0.0] * len(moved), moved)
    assert found.mean == pytest.approx(found.gained * found.mean_gain - found.lost * found.mean_loss, abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(lost, won):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_takes_counts_that_floats_do_not():
    assert mcnemar(5_000, 5_000) == 1.0
    assert 0 < mcnemar(4_900, 5_100) < 0.05
    assert mcnemar(0, 2_000) == 0.0


def test_the_bootstrap_is_seeded_and_agrees_with_the_normal_interval():
    values = np.random.default_rng(1).normal(0.1, 1, 2_000)
    found = bootstrap(values, range(2_000), seed=3)
    assert found == bootstrap(values, range(2_000), seed=3) != bootstrap(values, range(2_000), seed=4)
    half = 1.96 * values.std() / np.sqrt(2_000)
    assert (found.low, found.high) == (
        pytest.approx(values.mean() - half, abs=0.1 * half),
        pytest.approx(values.mean() + half, abs=0.1 * half),
    )


def test_questions_of_one_document_count_once():
    """Twenty copies of each of 100 values are no more evidence than the 100."""
    values = np.random.default_rng(2).normal(0, 1, 100)
    alone = bootstrap(values, range(100))
    copies = bootstrap(np.repeat(values, 20), np.repeat(np.arange(100), 20).tolist())
    assert copies.clusters == 100
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.05)
    naive = bootstrap(np.repeat(values, 20), range(2_000))
    assert naive.high - naive.low < 0.3 * (alone.high - alone.low)


def test_an_interval_with_zero_in_it_says_so():
    assert bootstrap([0.0] * 5, range(5)).verdict == NOT_DISTINGUISHABLE
    assert bootstrap([1.0, -1.0, 1.0, -1.0], range(4)).verdict == NOT_DISTINGUISHABLE
    assert bootstrap([0.5, 1.0, 1.5, 0.7], range(4)).verdict == "better"
    assert bootstrap([-0.5, -1.0, -1.5, -0.7], range(4)).verdict == "worse"
    assert bootstrap([1.0, 1.0], ["page", "page"]).verdict == NOT_DISTINGUISHABLE  # one document is no sample


def test_unequal_or_no_questions_are_refused():
    with pytest.raises(ConfigError, match="the same questions"):
        compare_choices("AB", "A", "AB")
    with pytest.raises(ConfigError, match="the same questions"):
        compare_scores([], [])
    with pytest.raises(ConfigError, match="the cluster of each value"):
        bootstrap([1.0], [])
