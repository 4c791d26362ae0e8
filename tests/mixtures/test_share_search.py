"""The search: golden means, ties, one pass for many predictors, and where the mean of the best lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mixtures.share_search import CHUNK, SearchSettings, draw_candidates, search
from mixtures.share_space import ShareSpace
from tests.curriculum.making import properties


def surface(slopes):
    return lambda shares: shares @ slopes


@properties
@given(st.integers(1, 400), st.integers(1, 40), st.integers(2, 6), st.integers(0, 1000))
def test_the_result_is_the_mean_of_the_best_candidates(candidates, best, k, seed):
    settings = SearchSettings(candidates=candidates, best=min(best, candidates), seed=seed)
    slopes = np.random.default_rng(seed).normal(size=(k, 3))
    drawn, found = (
        draw_candidates(ShareSpace.equal(k), settings),
        search(surface(slopes), ShareSpace.equal(k), settings),
    )
    for b in range(3):
        order = np.argsort(drawn @ slopes[:, b], kind="stable")
        np.testing.assert_allclose(found.shares[b], drawn[order[: settings.best]].mean(axis=0), atol=1e-12)
        assert found.lowest[b].tolist() == drawn[order[0]].tolist()


def test_chunks_change_nothing_and_equal_predictions_are_taken_in_the_order_of_the_draws():
    settings = SearchSettings(candidates=2 * CHUNK + 100, best=50)
    drawn = draw_candidates(ShareSpace.equal(3), settings)
    steps = np.round(drawn[:, :1] * 4)
    order = np.argsort(steps[:, 0], kind="stable")
    found = search(lambda shares: np.round(shares[:, :1] * 4), ShareSpace.equal(3), settings)
    np.testing.assert_allclose(found.shares[0], drawn[order[:50]].mean(axis=0), atol=1e-12)
    assert found.lowest[0].tolist() == drawn[order[0]].tolist()
    constant = search(lambda shares: np.zeros((len(shares), 1)), ShareSpace.equal(3), settings)
    np.testing.assert_allclose(constant.shares[0], drawn[:50].mean(axis=0), atol=1e-12)


def test_concentrations_take_turns():
    settings = SearchSettings(candidates=3000, concentrations=(0.05, 5.0))
    squares = (draw_candidates(ShareSpace.equal(10), settings) ** 2).sum(axis=1)
    assert squares[0::2].mean() > 0.6
    assert squares[1::2].mean() < 0.15


def test_the_same_settings_draw_the_same_and_another_seed_does_not():
    first = draw_candidates(ShareSpace.equal(4), SearchSettings(candidates=100, best=9))
    assert first.tolist() == draw_candidates(ShareSpace.equal(4), SearchSettings(candidates=100, best=9)).tolist()
    assert (
        first.tolist() != draw_candidates(ShareSpace.equal(4), SearchSettings(candidates=100, best=9, seed=1)).tolist()
    )


def test_a_perfect_predictor_of_a_linear_loss_gives_the_figures_of_the_reference():
    """25 shares, mean of the best 128 of 200,000: largest share about .178 and 13.9 effective shares."""
    slopes = np.random.default_rng(0).normal(size=(25, 12))
    shares = search(surface(-slopes), ShareSpace.equal(25), SearchSettings()).shares
    assert np.mean(shares.max(axis=1)) == pytest.approx(0.178, abs=0.02)
    assert np.mean(1 / (shares**2).sum(axis=1)) == pytest.approx(13.9, abs=1)


def test_a_predictor_that_knows_nothing_gives_nearly_equal_shares():
    noise = np.random.default_rng(0)
    found = search(
        lambda shares: noise.normal(size=(len(shares), 4)), ShareSpace.equal(25), SearchSettings(candidates=20_000)
    )
    assert (1 / (found.shares**2).sum(axis=1)).min() > 24
    assert found.shares.max() < 0.06


def test_more_best_than_candidates_is_refused_and_thinning_keeps_the_proportion():
    with pytest.raises(ValidationError, match="more than the 100 candidates"):
        SearchSettings(candidates=100)
    thinned = SearchSettings().thinned(10)
    assert (thinned.candidates, thinned.best) == (20_000, 12)
