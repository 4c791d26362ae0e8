"""Whole counts and turns: goldens, bounds, and the laws their docstrings state."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.shares import MixtureError, deadline_turns, largest_remainder, normalised
from tests.curriculum.making import properties

weights = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


def test_golden_largest_remainder():
    assert largest_remainder([0.575, 0.345, 0.08], 7) == [4, 2, 1]
    shares = [Fraction(6, 14), Fraction(6, 14), Fraction(2, 14)]
    assert largest_remainder(shares, 10) == [4, 4, 2]
    assert largest_remainder(shares, 11) == [5, 5, 1]
    assert largest_remainder([0.1, 0.2, 0.7], 10**15) == [10**14, 2 * 10**14, 7 * 10**14]
    assert largest_remainder([0.5, 0.5], 3) == [2, 1]


@properties
@given(weights, st.integers(0, 10**13))
def test_counts_sum_to_the_total_and_are_within_one_of_their_share(shares, total):
    counts = largest_remainder([float(share) for share in shares], total)
    assert sum(counts) == total
    for share, count in zip(shares, counts, strict=True):
        assert abs(count - Fraction(share * total, sum(shares))) < 1


def test_golden_turns():
    assert deadline_turns([0.5, 0.3, 0.2], 10).tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
    assert deadline_turns([1.0], 3).tolist() == [0, 0, 0]


@properties
@given(weights, st.integers(1, 120))
def test_turns_stay_within_the_bound_and_only_add_places(shares, n):
    total, k = sum(shares), len(shares)
    exact = [Fraction(share, total) for share in shares]
    turns = deadline_turns(exact, n)
    if k == 1:
        return
    bound = 1 - Fraction(1, 2 * k - 2)
    for i, share in enumerate(exact):
        counts = np.cumsum(turns == i)
        assert all(abs(int(count) - share * (m + 1)) <= bound for m, count in enumerate(counts))
    assert deadline_turns(exact, n // 2).tolist() == turns[: n // 2].tolist()


def test_the_case_where_greedy_falls_behind_by_more_than_one():
    shares = [0.6, 0.3, *[0.01] * 10]
    turns = deadline_turns(shares, 200)
    stray = max(abs(np.cumsum(turns == i)[m - 1] - share * m) for i, share in enumerate(shares) for m in range(1, 201))
    assert stray <= 1 - 1 / 22 + 1e-9


def test_normalising_says_so():
    assert normalised([0.1, 0.2, 0.7]) == ([Fraction(1, 10), Fraction(2, 10), Fraction(7, 10)], "")
    exact, said = normalised([0.5, 0.50565])
    assert sum(exact) == 1
    assert said == "the shares sum to 1.00565 and were divided by it"


@pytest.mark.parametrize("shares", [[], [0.0, 0.0], [0.5, -0.1]])
def test_shares_that_cannot_be_used(shares):
    with pytest.raises(MixtureError, match="cannot be used"):
        normalised(shares)
