"""RegMix: its design keeps the bounds of the released code, and on the published runs its mixture beats all 512."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.errors import ConfigError
from mixtures.learned_shares import LearnSettings, learn_shares
from mixtures.log_linear_mixture import learn_log_linear
from mixtures.regmix import SEARCH, MixtureDesign, draw_mixtures, flattened, mixture_space, natural_shares
from mixtures.share_regression import GaussianProcess
from mixtures.share_runs import run_table
from mixtures.share_selection import select_regressor, spearman
from tests.curriculum.making import properties

DATA = Path(os.environ.get("GRADATIM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "regmix"
published = pytest.mark.skipif(not DATA.exists(), reason="RegMix's published runs are not here (GRADATIM_DATA)")
CLOSED = ("ridge", "ridge_sqrt", "gaussian_process")


@properties
@given(st.integers(2, 20), st.integers(0, 10**6))
def test_every_draw_is_a_mixture_within_its_bounds_and_a_larger_design_keeps_it(k, seed):
    prior = np.random.default_rng(seed).dirichlet(np.full(k, 2.0)) + 1e-3
    prior /= prior.sum()
    settings = MixtureDesign(runs=12, repeats=2, seed=seed % 1000)
    design = draw_mixtures(prior, settings)
    drawn = design.shares[:12]
    np.testing.assert_allclose(design.shares.sum(axis=1), 1, atol=1e-12)
    assert np.all(drawn <= np.minimum(1, 15 * prior) * 1.02 + 2e-3)  # the bound is checked before rounding
    multiples = drawn / drawn.min(axis=1, where=drawn > 0, initial=1, keepdims=True)
    assert np.all((drawn == 0) | (drawn >= 1.9e-4))
    assert multiples.min() >= 0
    assert len({row.shares for row in design.rows[:12]}) == 12
    np.testing.assert_allclose(design.shares[12:], np.tile(prior, (2, 1)))
    assert [row.seed for row in design.rows[12:]] == [settings.seed, settings.seed + 1]
    assert draw_mixtures(prior, settings.model_copy(update={"runs": 15})).rows[:12] == design.rows[:12]


def test_strengths_reach_from_sparse_to_dense_around_the_flattened_prior():
    prior = natural_shares({"web": 900, "books": 90, "code": 10})
    assert prior.tolist() == [0.9, 0.09, 0.01]
    np.testing.assert_allclose(flattened(prior, 0.5), np.sqrt(prior) / np.sqrt(prior).sum())
    rows = draw_mixtures(prior, MixtureDesign(runs=300, repeats=0, most=1e6)).rows
    shares = np.array([row.shares for row in rows])
    np.testing.assert_allclose(shares.mean(axis=0), flattened(prior, 0.5), atol=0.06)
    steps = sorted({row.alpha for row in rows})
    assert len(steps) == 15
    assert (steps[0], steps[-1]) == (pytest.approx(0.1), pytest.approx(5.0))
    largest = shares.max(axis=1)
    sparse, dense = ([x for x, row in zip(largest, rows, strict=True) if (row.alpha < 0.5) == s] for s in (True, False))
    assert np.mean(sparse) > np.mean(dense) + 0.1


def test_caps_hold_and_bounds_that_no_draw_keeps_are_named():
    prior = np.full(4, 0.25)
    caps = np.array([0.5, 0.5, 0.5, 0.5])
    assert draw_mixtures(prior, MixtureDesign(runs=20), caps).shares.max() <= 0.501
    with pytest.raises(ConfigError, match="no draw of 10,000 keeps every share"):
        draw_mixtures(np.full(200, 1 / 200), MixtureDesign(runs=1, most=1.5))
    with pytest.raises(ConfigError, match="cannot be learned for these sources"):
        natural_shares({"web": 10, "empty": 0})
    with pytest.raises(ValidationError, match="above highest_strength"):
        MixtureDesign(lowest_strength=6)
    with pytest.raises(ValidationError, match="no runs"):
        MixtureDesign(runs=0, repeats=0)


def published_runs(part, scale):
    mixtures, losses = (pl.read_csv(DATA / f"{part}_{what}_{scale}.csv") for what in ("mixture", "pile_loss"))
    names = [name for name in mixtures.columns if name != "index"]
    joined = mixtures.join(losses, on="index", validate="1:1")
    ids = [f"m{i:03d}" for i in joined["index"]]
    return names, run_table(ids, joined.select(names).to_numpy(), joined["metric/the_pile_pile_cc_val_loss"].to_numpy())


@pytest.mark.slow
@published
def test_the_learned_mixture_beats_the_best_of_the_512_by_predicted_loss_at_60m():
    """The judge knows the 60M runs only; the mixture is learned from the 1M runs only."""
    names, train = published_runs("train", "1m")
    _, test = published_runs("test", "60m")
    judge = GaussianProcess().fit(test.shares, test.losses)
    prior = train.shares.mean(axis=0) ** 2  # the design's centre is the square root of the natural mixture
    space = mixture_space(prior / prior.sum(), MixtureDesign(), np.ones(len(names)))
    settings = LearnSettings(regressors=CLOSED, search=SEARCH, resamples=20)
    learned = learn_shares(names, train, settings, space)
    mixture = np.array(list(learned.by_name().values()))
    predicted = judge.predict(np.vstack([mixture, train.shares]))
    assert predicted[0] < predicted[1:].min() - 0.02, "better than any of the 512, not only than the best by its loss"
    assert predicted[0] < test.losses.min() - 0.02, "and than the best that was measured at 60M"
    assert learned.distinguishable


@published
def test_the_exact_mixture_is_level_with_the_best_of_the_512_and_ahead_with_little_divergence():
    names, train = published_runs("train", "1m")
    _, test = published_runs("test", "60m")
    judge = GaussianProcess().fit(test.shares, test.losses)
    prior = train.shares.mean(axis=0) ** 2
    space = mixture_space(prior / prior.sum(), MixtureDesign(), np.ones(len(names)))
    settings = LearnSettings(resamples=20)
    near, far = (
        learn_log_linear(names, {"pile_cc": train}, space, kl=kl, settings=settings).solved.shares
        for kl in (0.05, 0.01)
    )
    best = judge.predict(train.shares[[np.argmin(train.losses)]])[0]
    assert judge.predict(near[None])[0] == pytest.approx(best, abs=0.02)
    assert judge.predict(far[None])[0] < best - 0.02


@published
@pytest.mark.parametrize(("size", "floor"), [(64, 0.94), (256, 0.97)])
def test_predictions_rank_the_60m_runs_through_this_path(size, floor):
    _, train = published_runs("train", "1m")
    _, test = published_runs("test", "60m")
    from mixtures.learned_shares import REGRESSORS

    ranks = []
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(512)[:size]
        some = run_table([train.run_ids[i] for i in rows], train.shares[rows], train.losses[rows])
        fitted = select_regressor(some, [REGRESSORS[name] for name in CLOSED], 5, 0).fitted
        ranks.append(spearman(fitted.predict(test.shares), test.losses))
    assert np.mean(ranks) >= floor
