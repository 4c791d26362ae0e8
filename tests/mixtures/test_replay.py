"""Replay: golden splits and stratified counts, and that they hold anywhere along a run."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.replay import (
    CMR_UNIT_TOKENS,
    STRONG_SHIFT,
    WEAK_SHIFT,
    Replay,
    cmr_law,
    stability_gap,
)
from mixtures.shares import MixtureError
from tests.curriculum.making import properties

B = 10**9
shares = st.fractions(0, 1, max_denominator=997)


@pytest.mark.parametrize(("share", "old"), [(0.005, 1.5), (0.01, 3), (0.05, 15), (0.25, 75)])
def test_golden_compute_equivalent_split(share, old):
    assert Replay(share).split(300 * B) == (int(old * B), 300 * B - int(old * B))


def test_golden_stratified_counts():
    counts = Replay(0.05).counts(batch=512, batches=10)
    assert counts.tolist() == [25, 26, 25, 26, 26] * 2
    assert Replay(WEAK_SHIFT).counts(batch=100, batches=1).tolist() == [5]
    assert Replay(STRONG_SHIFT).counts(batch=100, batches=1).tolist() == [25]


@properties
@given(shares, st.integers(1, 4096), st.integers(0, 10**9), st.integers(0, 60))
def test_any_run_of_batches_holds_its_share_to_within_one_place(share, batch, first, batches):
    counts = Replay(share).counts(batch=batch, batches=batches, first=first)
    assert counts.shape == (batches,)
    assert abs(int(counts.sum()) - share * batch * batches) < 1
    assert all(abs(int(count) - share * batch) < 1 for count in counts)
    if first == 0:
        assert counts.sum() == Replay(share).split(batch * batches)[0]


@properties
@given(shares, shares, st.integers(1, 5000), st.integers(1, 64), st.integers(1, 100), st.integers(0, 50))
def test_a_ramp_is_the_integral_of_its_share(start, end, ramp, batch, batches, first):
    replay = Replay(end, start, ramp)
    assert replay.share_at(0) == start
    assert replay.share_at(ramp) == replay.share_at(ramp + 7) == end
    counts = replay.counts(batch=batch, batches=batches, first=first)
    whole = replay.counts(batch=batch, batches=first + batches)
    assert counts.tolist() == whole[first:].tolist()  # a resume counts on
    edges = [t * batch for t in range(first + batches + 1)]
    exact = [_area(replay, edge) for edge in edges]
    assert np.diff([math.floor(area) for area in exact]).tolist() == whole.tolist()
    assert ((whole >= 0) & (whole <= batch)).all()


def _area(replay, place):
    """The area below the share's line, as trapezia."""
    inside = min(place, replay.ramp)
    return (replay.share_at(0) + replay.share_at(inside)) / 2 * inside + replay.share_at(10**9) * (place - inside)


def test_counts_do_not_drift():
    counts = Replay(0.05).counts(batch=512, batches=10_000)
    assert counts.sum() == 0.05 * 512 * 10_000


def test_long_runs_are_exact():
    replay = Replay(Fraction(1, 3), 0.1, 10**13 + 1)
    total = 15 * 10**13
    assert replay.split(total)[0] == math.floor(_area(replay, 10**13 + 1) + Fraction(1, 3) * (total - 10**13 - 1))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((math.nan,), "replay.share cannot be used"),
        ((-0.1,), "replay.share cannot be used"),
        ((1.1,), "replay.share cannot be used"),
        ((0.1, 2, 5), "replay.ramp_from cannot be used"),
        ((0.1, 0.2), "ramp needs"),
        ((0.1, None, 5), "ramp needs"),
    ],
)
def test_shares_that_cannot_be_replayed(asked, said):
    with pytest.raises(MixtureError, match=said):
        Replay(*asked)


def test_batches_that_cannot_be_counted():
    with pytest.raises(MixtureError, match="batches cannot be counted"):
        Replay(0.1).counts(batch=0, batches=1)


def test_the_stability_gap_recipe_in_numbers():
    recipe = stability_gap("medicine", 50 * B, {"web": 0.82, "code": 0.1, "books": 0.08})
    assert recipe.subset_tokens == 5 * B
    assert recipe.shares == {"medicine": Fraction(82, 100), "code": Fraction(1, 10), "books": Fraction(8, 100)}
    assert recipe.tokens == int(4 * 5 * B / Fraction(82, 100))
    assert recipe.shares["medicine"] * recipe.tokens / recipe.subset_tokens == pytest.approx(4, abs=1e-8)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"replaced": "wep"}, "no share of 'wep'; did you mean 'web'"),
        ({"domain": "code"}, "already in the pretraining mixture"),
        ({"subset": 2}, "subset cannot be read"),
        ({"epochs": 0}, "subset cannot be read"),
        ({"domain_tokens": 0}, "subset cannot be read"),
    ],
)
def test_stability_gaps_that_cannot_be_had(asked, said):
    plain = {"domain": "medicine", "domain_tokens": 10**6, "pretraining": {"web": 0.8, "code": 0.2}}
    with pytest.raises(MixtureError, match=said):
        stability_gap(**{**plain, **asked})


def test_the_cmr_law_is_its_formula():
    assert cmr_law(CMR_UNIT_TOKENS, [(2.0, -0.5), (3.0, 0.25)], 0.125) == 5.125
    assert cmr_law(16 * CMR_UNIT_TOKENS, [(2.0, -0.5), (3.0, 0.25)], 0.125) == pytest.approx(0.5 + 6 + 0.125)
    with pytest.raises(MixtureError, match="needs tokens"):
        cmr_law(0, [(1.0, 1.0)], 0.0)
