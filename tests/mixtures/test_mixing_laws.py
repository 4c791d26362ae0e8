"""Laws of mixtures: golden value, planted laws recovered, the two forms are one curve, no worse than L-BFGS."""

import numpy as np
import pytest

from corpus.errors import InputError
from mixtures.learned_shares import LearnSettings
from mixtures.log_linear_mixture import learn_log_linear
from mixtures.mixing_laws import LogLinear, LogLinearLaw, MixingLaw
from mixtures.mixture_search import MixtureProgramme, solve
from mixtures.share_runs import run_table
from mixtures.share_selection import spearman
from mixtures.share_space import ShareSpace


def planted(n, k=6, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    law = LogLinearLaw(2.0, random.normal(-0.5, 1.0, k))
    shares = random.dirichlet(np.full(k, 0.5), n)
    return law, shares, law.predict(shares) + noise * random.normal(size=n)


def test_golden_mixing_law():
    law = MixingLaw(2, 0.8, np.array([-1.5, 0.3]))
    assert law.predict(np.array([[0.6, 0.4]]))[0] == pytest.approx(2.3667, abs=5e-5)


def test_a_planted_law_is_recovered_exactly_without_noise():
    law, shares, losses = planted(60)
    found = LogLinear().fit(shares, losses).law
    assert found.floor == pytest.approx(law.floor, abs=1e-3)
    np.testing.assert_allclose(found.slopes, law.slopes, atol=5e-3)


def test_outliers_do_not_bend_the_law():
    law, shares, losses = planted(120, noise=0.002)
    losses[:6] += 3
    found = LogLinear().fit(shares, losses)
    assert np.abs(found.predict(shares) - law.predict(shares)).max() < 0.02


def test_both_forms_are_one_curve_on_mixtures():
    law, shares, _ = planted(40)
    other = MixingLaw.of(law)
    np.testing.assert_allclose(other.predict(shares), law.predict(shares), rtol=1e-12)
    assert other.t.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_as_low_as_l_bfgs_from_many_starts(seed):
    optimize = pytest.importorskip("scipy.optimize")
    _, shares, losses = planted(80, noise=0.03, seed=seed)

    def error(at):
        size = np.abs(np.exp(at[0]) + np.exp(np.minimum(shares @ at[1:], 600)) - losses)
        return np.where(size <= 0.01, size**2 / 2, 0.01 * (size - 0.005)).sum()

    random = np.random.default_rng(seed)
    starts = [np.append(np.log(losses.min() * f), random.normal(size=6)) for f in (0.3, 0.6, 0.8, 0.9, 0.99)]
    lowest = min(optimize.minimize(error, start, method="L-BFGS-B", options={"maxiter": 5000}).fun for start in starts)
    law = LogLinear().fit(shares, losses).law
    assert error(np.append(np.log(law.floor), law.slopes)) <= 1.01 * lowest


def test_a_resample_of_all_rows_once_is_the_fit_itself_and_weights_count_rows():
    _, shares, losses = planted(50, noise=0.02)
    fitted = LogLinear().fit(shares, losses)
    ones = np.ones((1, 50), np.int64)
    np.testing.assert_allclose(fitted.resampled(ones)(shares)[:, 0], fitted.predict(shares), atol=1e-4)
    counts = np.random.default_rng(1).multinomial(50, np.full(50, 1 / 50), 1)
    rows = np.repeat(np.arange(50), counts[0])
    repeated = LogLinear().fit(shares[rows], losses[rows])
    np.testing.assert_allclose(fitted.resampled(counts)(shares)[:, 0], repeated.predict(shares), atol=0.01)


def test_losses_that_are_no_losses_are_refused():
    with pytest.raises(InputError, match="losses above 0"):
        LogLinear().fit(np.full((3, 2), 0.5), np.array([0.1, -0.2, 0.3]))


def mixture(noise, seed=0, tasks=2, runs=80):
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(4, 0.7), runs)
    laws = {f"task{t}": LogLinearLaw(1.5 + t, random.normal(0, 1.5, 4)) for t in range(tasks)}
    tables = {
        name: run_table(
            [f"r{i:03d}" for i in range(runs)], shares, law.predict(shares) + noise * random.normal(size=runs)
        )
        for name, law in laws.items()
    }
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    return laws, tables, ShareSpace("proportional", prior, prior, np.array([1.0, 0.6, 0.5, 0.3]))


def test_the_learned_mixture_is_the_solution_for_the_true_laws():
    laws, tables, space = mixture(0.002)
    found = learn_log_linear(list("abcd"), tables, space, kl=0.05, settings=LearnSettings(resamples=40))
    slopes = np.array([laws[name].slopes for name in sorted(laws)])
    truth = solve(MixtureProgramme(slopes, np.array([0.5, 0.5]), space.baseline, 0.05, space.caps))
    np.testing.assert_allclose(found.solved.shares, truth.shares, atol=0.03)
    assert np.all(found.solved.shares <= space.caps + 1e-9)
    assert list(found.learned.by_name().values()) == pytest.approx(found.solved.shares.tolist())
    assert found.learned.distinguishable
    assert found.learned.baseline == "proportional"
    assert found.learned.regressor == "log_linear"
    assert found.solved.gap < 1e-8
    for one in found.learned.shares:
        assert one.low <= one.share + 0.02
        assert one.share <= one.high + 0.02


def test_weights_of_losses_decide_and_noise_is_not_called_a_gain():
    laws, tables, space = mixture(0.002)
    settings = LearnSettings(resamples=20)
    one = learn_log_linear(list("abcd"), tables, space, weights={"task0": 1}, settings=settings)
    alone = learn_log_linear(list("abcd"), {"task0": tables["task0"]}, space, settings=settings)
    np.testing.assert_allclose(one.solved.shares, alone.solved.shares, atol=1e-6)
    assert spearman(laws["task0"].slopes, one.laws["task0"].slopes) == 1
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.ones(4), 60)
    nothing = run_table([f"r{i:02d}" for i in range(60)], shares, 2 + 0.1 * random.normal(size=60))
    assert not learn_log_linear(list("abcd"), {"noise": nothing}, space, settings=settings).learned.distinguishable


def test_losses_over_different_runs_or_without_weight_are_refused():
    _, tables, space = mixture(0.01)
    short = run_table([f"r{i:03d}" for i in range(70)], tables["task1"].shares[:70], tables["task1"].losses[:70])
    with pytest.raises(InputError, match="not measured on the same runs"):
        learn_log_linear(list("abcd"), {**tables, "task1": short}, space)
    with pytest.raises(InputError, match="cannot be weighed"):
        learn_log_linear(list("abcd"), tables, space, weights={"task0": 0})
