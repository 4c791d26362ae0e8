"""Caps of shares: the golden repetition cap, and the laws of clipping."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from mixtures.share_search import SearchSettings, draw_candidates, search
from mixtures.share_space import ShareSpace, rounded_shares, under_caps, visit_caps
from mixtures.shares import MixtureError
from tests.curriculum.making import properties


def test_golden_repetition_cap():
    caps = visit_caps([1000, 40, 10], 500, 4)
    np.testing.assert_allclose(under_caps(np.array([[0.5, 0.3, 0.2]]), caps), [[0.60, 0.32, 0.08]], atol=1e-12)


def test_a_budget_that_no_shares_can_fill_is_refused():
    with pytest.raises(MixtureError, match="cannot fill the budget"):
        visit_caps([100, 20], 500, 4)
    assert visit_caps([100, 20], None, 4).tolist() == [1, 1]
    with pytest.raises(ConfigError, match="leave no room"):
        under_caps(np.array([[0.5, 0.5]]), np.array([0.3, 0.3]))


@properties
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_capped_shares_are_mixtures_under_their_caps_and_keep_the_proportions_of_the_free(k, seed):
    random = np.random.default_rng(seed)
    caps = np.minimum(1, random.uniform(0, 2, k))
    caps = caps if caps.sum() > 1 else np.minimum(1, caps + 1 / k)
    shares = random.dirichlet(np.full(k, random.choice([0.05, 0.5, 5])), 20)
    found = under_caps(shares, caps)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert np.all(found <= caps + 1e-9)
    assert np.all(found >= 0)
    fits = np.all(shares <= caps, axis=1)
    np.testing.assert_allclose(found[fits], shares[fits], atol=1e-12)
    for before, after in zip(shares, found, strict=True):
        free = (after < caps - 1e-9) & (before > 1e-12)
        ratios = after[free] / before[free]
        np.testing.assert_allclose(ratios, ratios[0] if len(ratios) else 1, rtol=1e-6)


@properties
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_rounded_shares_sum_to_one_exactly_and_no_cap_is_broken(k, seed):
    random = np.random.default_rng(seed)
    caps = visit_caps(random.integers(100, 10_000, k).tolist(), 100 * k, float(random.uniform(1, 4)))
    shares = under_caps(random.dirichlet(np.full(k, 0.3), 1), caps)[0]
    found = rounded_shares(shares, caps)
    assert sum(round(share * 10**6) for share in found) == 10**6
    assert np.all(np.array(found) <= caps)
    np.testing.assert_allclose(found, shares, atol=k * 1e-6)


def test_a_search_lies_around_the_centre_and_under_the_caps():
    prior = np.array([0.6, 0.3, 0.1])
    space = ShareSpace("proportional", prior, prior, np.array([0.5, 1.0, 0.2]))
    settings = SearchSettings(candidates=20_000, best=50, concentrations=(1.0,))
    free = ShareSpace("proportional", prior, prior, np.ones(3))
    np.testing.assert_allclose(draw_candidates(free, settings).mean(axis=0), prior, atol=0.01)
    assert np.all(draw_candidates(space, settings) <= space.caps + 1e-12)
    found = search(lambda shares: -shares[:, 2:] - 0.1 * shares[:, :1], space, settings)
    assert np.all(found.shares <= space.caps + 1e-12)
    assert found.shares[0, 2] == pytest.approx(0.2, abs=1e-6)


def test_equal_shares_are_the_default_space():
    space = ShareSpace.equal(4)
    assert space.alphas(0.3).tolist() == [0.3] * 4
    assert space.baseline.tolist() == [0.25] * 4
