"""The convex programme of a mixture: golden solutions, a proof for each, caps, and an independent solver's answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.mixture_search import MixtureProgramme, gap, solve
from mixtures.shares import MixtureError
from tests.curriculum.making import properties

SLOPES = np.array([[-1, 0.2, 0.1], [0.3, -0.2, -1.2]])
HALVES, PRIOR = np.array([0.5, 0.5]), np.array([0.6, 0.3, 0.1])


def programme(kl, caps=(1, 1, 1), prior=PRIOR, slopes=SLOPES, weights=HALVES):
    return MixtureProgramme(slopes, weights, prior, kl, np.array(caps, np.float64))


@pytest.mark.parametrize(
    ("kl", "cap", "shares"),
    [
        (0, 1, (0.3807, 0, 0.6193)),
        (0.05, 1, (0.4700, 0.0018, 0.5282)),
        (0.1, 1, (0.5193, 0.0330, 0.4477)),
        (1, 1, (0.5916, 0.2631, 0.1454)),
        (0.05, 0.25, (0.6898, 0.0602, 0.25)),
        (0.1, 0.25, (0.6433, 0.1067, 0.25)),
    ],
)
def test_golden_solutions(kl, cap, shares):
    found = solve(programme(kl, (1, 1, cap)))
    np.testing.assert_allclose(found.shares, shares, atol=5.1e-5)
    assert found.gap <= 1e-9


def random_programme(seed):
    random = np.random.default_rng(seed)
    k, t = int(random.integers(2, 25)), int(random.integers(1, 12))
    prior = random.dirichlet(np.full(k, 0.5)) + 1e-6
    prior /= prior.sum()
    caps = np.minimum(1, prior * random.uniform(1.001, 6)) if seed % 2 else np.ones(k)
    slopes = random.normal(size=(t, k)) * random.choice([0.1, 1, 5, 20])
    return MixtureProgramme(slopes, random.dirichlet(np.ones(t)), prior, float(random.choice([0, 1e-3, 0.05, 1])), caps)


@properties
@given(st.integers(0, 10**6))
def test_the_solution_is_a_mixture_under_its_caps_and_none_is_better(seed):
    asked = random_programme(seed)
    found = solve(asked)
    assert found.shares.sum() == pytest.approx(1, abs=1e-12)
    assert np.all(found.shares >= 0)
    assert np.all(found.shares <= asked.caps + 1e-12)
    assert found.gap <= 1e-9 * (1 + abs(found.value))
    others = np.random.default_rng(seed).dirichlet(np.full(len(asked.caps), 0.5), 300)
    for other in others[np.all(others <= asked.caps, axis=1)]:
        assert asked.value(other) >= found.value - found.gap


@pytest.mark.parametrize("seed", range(12))
def test_it_agrees_with_an_independent_solver(seed):
    optimize = pytest.importorskip("scipy.optimize")
    asked = random_programme(seed)
    start = asked.caps / asked.caps.sum()
    bounds = [(1e-12, cap) for cap in asked.caps]
    sums = {"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(len(x))}
    other = optimize.minimize(asked.value, start, jac=asked.gradient, bounds=bounds, constraints=sums, method="SLSQP",
                              options={"maxiter": 2000, "ftol": 1e-14})  # fmt: skip
    found = solve(asked)
    assert found.value <= other.fun + 1e-7 * (1 + abs(other.fun))
    assert found.value >= asked.value(np.clip(other.x, 0, None) / np.clip(other.x, 0, None).sum()) - 1e-4 * (
        1 + abs(found.value)
    )


def test_the_gap_of_a_poor_mixture_bounds_what_it_loses():
    asked = programme(0.1)
    poor = np.array([0.2, 0.5, 0.3])
    lost = asked.value(poor) - solve(asked).value
    assert 0 < lost <= gap(asked, poor)


def test_without_divergence_a_source_vanishes_and_with_much_the_prior_stays():
    assert solve(programme(0)).shares[1] < 1e-9
    np.testing.assert_allclose(solve(programme(1e4)).shares, PRIOR, atol=1e-3)


def test_a_source_outside_the_prior_gets_nothing_unless_nothing_holds_the_mixture_there():
    prior = np.array([0.6, 0.4, 0])
    assert solve(programme(0.1, prior=prior)).shares[2] == 0
    assert solve(programme(0, prior=prior)).shares[2] > 0.5


def test_caps_that_leave_one_mixture_give_it():
    np.testing.assert_allclose(solve(programme(0.1, (0.5, 0.3, 0.2))).shares, (0.5, 0.3, 0.2), atol=1e-12)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (programme(0.1, (0.3, 0.3, 0.3)), "leave no room"),
        (programme(0.1, prior=np.array([0.5, 0.2, 0.1])), "prior that sums to one"),
        (programme(-1), "kl of 0 or more"),
        (programme(0.1, slopes=SLOPES[:, :2]), "do not fit"),
        (programme(0.1, weights=np.array([1.0, -1.0])), "weights, prior and caps of 0 or more"),
        (programme(float("nan")), "finite numbers"),
    ],
)
def test_what_cannot_be_solved_is_refused(asked, message):
    with pytest.raises(MixtureError, match=message):
        solve(asked)
