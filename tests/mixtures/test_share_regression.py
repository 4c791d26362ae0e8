"""Regressors against oracles (scikit-learn, brute force), honest cross-validation, refusals, and RegMix's data."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import EnvironmentProblem, InputError
from mixtures.share_regression import (
    PENALTIES,
    GaussianProcess,
    Ridge,
    log_likelihoods,
    matern,
    root_features,
)
from mixtures.share_runs import run_table
from mixtures.share_selection import collapsed, select_regressor, spearman
from mixtures.share_trees import TreeBag
from tests.curriculum.making import properties

DATA = Path(os.environ.get("GRADATIM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "regmix"
CLOSED = (Ridge(), Ridge("ridge_sqrt", root_features), GaussianProcess())


def runs(n, k, seed, noise=0.2):
    """Share vectors and losses of a concave surface with noise."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(k, 0.4), n)
    losses = 3 - np.sqrt(shares) @ np.linspace(0, 1, k) + noise * 0.2 * random.normal(size=n)
    return shares, losses


def table(shares, losses):
    return run_table([f"r{i:03d}" for i in range(len(losses))], shares, losses)


def test_ridge_equals_scikit_learn_and_its_penalty_is_the_best_left_out_one():
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    shares, losses = runs(24, 6, 0)
    features = preprocessing.StandardScaler().fit_transform(root_features(shares))

    def left_out(penalty):
        centre = [np.delete(np.arange(24), i) for i in range(24)]
        model = linear_model.Ridge(alpha=penalty * 24)
        guesses = [model.fit(features[at], losses[at]).predict(features[i : i + 1])[0] for i, at in enumerate(centre)]
        return np.mean((losses - guesses) ** 2)

    ours = Ridge("ridge_sqrt", root_features).fit(shares, losses)
    oracle = linear_model.Ridge(alpha=ours.penalty * 24).fit(features, losses)
    np.testing.assert_allclose(ours.predict(shares), oracle.predict(features), atol=1e-10)
    penalties = PENALTIES[10:]  # below, the left-out fits are not determined
    assert ours.penalty == pytest.approx(penalties[np.argmin([left_out(p) for p in penalties])], rel=1e-9)


def test_the_gaussian_process_equals_scikit_learn():
    process = pytest.importorskip("sklearn.gaussian_process")
    kernels = process.kernels
    shares, losses = runs(40, 6, 1, noise=1.0)
    ours = GaussianProcess().fit(shares, losses)
    roots, scaled = np.sqrt(shares), (losses - losses.mean()) / losses.std()
    amplitude = np.mean(scaled * np.linalg.solve(ours.kernel + ours.noise * np.eye(40), scaled))
    kernel = amplitude * kernels.Matern(ours.length, nu=2.5) + kernels.WhiteKernel(amplitude * ours.noise)
    oracle = process.GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(roots, losses)
    fresh = np.random.default_rng(2).dirichlet(np.ones(6), 50)
    np.testing.assert_allclose(ours.predict(fresh), oracle.predict(np.sqrt(fresh)), atol=1e-8)
    likelihood = log_likelihoods(ours.kernel, scaled, np.array([ours.noise]))[0] - 20 * (1 + np.log(2 * np.pi))
    assert likelihood == pytest.approx(oracle.log_marginal_likelihood_value_, abs=1e-6)

    free = kernels.ConstantKernel(1.0) * kernels.Matern(1.0, nu=2.5) + kernels.WhiteKernel(1.0)
    best = process.GaussianProcessRegressor(free, normalize_y=True, n_restarts_optimizer=3, random_state=0)
    best.fit(roots, losses)
    assert likelihood > best.log_marginal_likelihood_value_ - 0.3


def test_the_matern_correlation():
    assert matern(np.array([0.0]))[0] == 1.0
    assert matern(np.array([1.0]))[0] == pytest.approx((1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5)))


@pytest.mark.parametrize("regressor", [*CLOSED, TreeBag(rounds=50)], ids=lambda one: one.name)
def test_a_resample_is_a_fit_to_repeated_rows_with_the_settings_kept(regressor):
    if regressor.name == "lightgbm":
        pytest.importorskip("lightgbm")
    shares, losses = runs(30, 5, 3)
    fitted = regressor.fit(shares, losses)
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), 3)
    together = fitted.resampled(counts)(shares)
    assert together.shape == (30, 3)
    for b in range(3):
        np.testing.assert_allclose(fitted.resampled(counts[b : b + 1])(shares)[:, 0], together[:, b], atol=1e-10)
    if regressor.name == "lightgbm":
        return
    np.testing.assert_allclose(fitted.resampled(np.ones((1, 30), int))(shares)[:, 0], fitted.predict(shares))
    twice = fitted.resampled(2 * counts[:1])(shares)[:, 0]
    if regressor.name.startswith("ridge"):
        np.testing.assert_allclose(twice, together[:, 0], atol=1e-10)
    else:
        rows = np.repeat(np.arange(30), counts[0])
        kernel = fitted.kernel[np.ix_(rows, rows)] + fitted.noise * np.eye(30)
        mean = losses[rows].mean()
        expected = fitted.kernel[:, rows] @ np.linalg.solve(kernel, losses[rows] - mean) + mean
        np.testing.assert_allclose(together[:, 0], expected, atol=1e-8)


@pytest.mark.parametrize("surface", ["linear", "concave"])
def test_a_planted_surface_is_recovered(surface):
    random = np.random.default_rng(4)
    shares = random.dirichlet(np.full(10, 0.3), 128)
    slopes = np.linspace(-1, 1, 10)
    true = (lambda x: x @ slopes) if surface == "linear" else (lambda x: -np.sqrt(x) @ np.abs(slopes))
    losses = true(shares) + 0.5 * true(shares).std() * random.normal(size=128)
    selection = select_regressor(table(shares, losses), CLOSED, 5, 0)
    fresh = random.dirichlet(np.full(10, 0.3), 500)
    assert spearman(selection.fitted.predict(fresh), true(fresh)) > 0.93


@properties
@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-5, 5)), min_size=3, max_size=30))
def test_spearman_equals_scipy(pairs):
    stats = pytest.importorskip("scipy.stats")
    a, b = np.array(pairs, np.float64).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


@dataclass(frozen=True)
class Lookup:
    """Knows exactly the vectors it has seen and is wrong about all others: perfect only where a row leaks."""

    name: str = "lookup"

    def fit(self, shares, losses):
        return LookedUp({tuple(row): loss for row, loss in zip(shares.tolist(), losses.tolist(), strict=True)})


@dataclass(frozen=True)
class LookedUp:
    seen: dict

    def predict(self, shares):
        return np.array([self.seen.get(tuple(row), 0.0) for row in shares.tolist()])

    def resampled(self, counts):
        raise NotImplementedError


def test_held_out_vectors_never_reach_a_fit_even_when_they_are_repeated():
    shares, losses = runs(20, 4, 5)
    twice = table(np.vstack([shares, shares]), np.concatenate([losses, losses + 0.01]))
    judged = select_regressor(twice, [Lookup(), Ridge()], 5, 0)
    assert np.isnan(judged.judged[0].spearman)
    assert "same loss" in judged.judged[0].refused
    assert judged.chosen == "ridge"
    assert len(judged.predictions) == len(judged.losses) == 20


def test_selection_does_not_depend_on_the_order_of_rows_and_repeats_itself():
    shares, losses = runs(30, 4, 6)
    ids = [f"r{i:03d}" for i in range(30)]
    shuffled = np.random.default_rng(0).permutation(30)
    first = select_regressor(run_table(ids, shares, losses), CLOSED, 5, 0)
    other = select_regressor(run_table([ids[i] for i in shuffled], shares[shuffled], losses[shuffled]), CLOSED, 5, 0)
    assert first.judged == other.judged
    assert first.predictions.tolist() == other.predictions.tolist()
    assert (
        first.predictions.tolist()
        != select_regressor(run_table(ids, shares, losses), CLOSED, 5, 1).predictions.tolist()
    )


def test_lightgbm_with_its_own_leaf_size_is_refused_at_32_runs_and_ours_is_not():
    pytest.importorskip("lightgbm")
    shares, losses = runs(32, 5, 7)
    default = TreeBag("default", min_data_in_leaf=20)
    assert collapsed(default.fit(shares, losses).predict(shares), losses)
    judged = select_regressor(table(shares, losses), [default, TreeBag()], 5, 0)
    assert "constant" in judged.judged[0].refused
    assert judged.chosen == "lightgbm"
    with pytest.raises(InputError, match="no regressor finds anything") as caught:
        select_regressor(table(shares, losses), [default], 5, 0)
    assert "default predicts a constant in 6 of 6 fits" in str(caught.value)


def test_equal_losses_and_too_few_runs_are_refused():
    shares, losses = runs(30, 4, 8)
    with pytest.raises(InputError, match="same loss"):
        select_regressor(table(shares, np.full(30, 2.5)), CLOSED, 5, 0)
    with pytest.raises(InputError, match="too few") as caught:
        select_regressor(table(shares[:14], losses[:14]), CLOSED, 5, 0)
    assert "14 vectors" in str(caught.value)


def test_a_missing_lightgbm_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(EnvironmentProblem, match=r"gradatim\[learn\]"):
        TreeBag().fit(*runs(20, 3, 0))


def regmix(part, scale):
    """Shares and Pile-CC losses of RegMix's tables, joined by index."""
    if not DATA.is_dir():
        pytest.skip(f"RegMix's tables are not in {DATA}")
    mixtures = pl.read_csv(DATA / f"{part}_mixture_{scale}.csv")
    losses = pl.read_csv(DATA / f"{part}_pile_loss_{scale}.csv")
    joined = mixtures.join(losses, on="index", validate="1:1")
    ids = [f"m{i:03d}" for i in joined["index"]]
    columns = [name for name in mixtures.columns if name != "index"]
    return run_table(ids, joined.select(columns).to_numpy(), joined["metric/the_pile_pile_cc_val_loss"].to_numpy())


def regmix_rank(n, seed, regressors):
    """Spearman on the 60M test of the regressor chosen on a random subset of n runs at 1M."""
    train, test = regmix("train", "1m"), regmix("test", "60m")
    rows = np.random.default_rng(seed).permutation(len(train.losses))[:n]
    subset = run_table([train.run_ids[i] for i in rows], train.shares[rows], train.losses[rows])
    chosen = select_regressor(subset, regressors, 5, 0)
    predicted = chosen.fitted.predict(test.shares)
    assert not collapsed(predicted, test.losses)
    return spearman(predicted, test.losses)


def test_regmix_with_32_runs_is_no_constant():
    assert regmix_rank(32, 0, CLOSED) > 0.85


def test_regmix_with_64_runs():
    assert np.mean([regmix_rank(64, seed, CLOSED) for seed in range(3)]) >= 0.94


def test_regmix_with_256_runs():
    assert regmix_rank(256, 0, CLOSED) >= 0.97


@pytest.mark.slow
def test_regmix_with_512_runs():
    assert regmix_rank(512, 1, CLOSED) >= 0.97


@pytest.mark.slow
def test_regmix_with_64_runs_and_trees_among_the_candidates():
    pytest.importorskip("lightgbm")
    assert regmix_rank(64, 1, [*CLOSED, TreeBag()]) >= 0.94
