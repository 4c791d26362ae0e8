"""Online mixtures: golden steps of every rule, shares rebuilt from logs to the bit, phases, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError, InputError
from mixtures.loss_curves import LossCurve, fit_curve
from mixtures.online_policies import (
    ADO,
    Aioli,
    DoGE,
    DoReMi,
    ShearedLoading,
    SkillIt,
    ado_preference,
    doge_scores,
    interactions,
    probe_mixtures,
)
from mixtures.online_shares import (
    MILLION,
    OnlineLog,
    OnlineShares,
    mean_shares,
    phases,
    read_log,
    replayed,
    write_log,
)
from tests.curriculum.making import properties

THIRDS, HALVES = np.full(3, 1 / 3), np.full(2, 0.5)


def stepped(policy, shares, signal):
    return policy.step(shares, np.array(signal), policy.begin(shares), 1000)[0]


def test_golden_steps():
    excess = (0.5, 0.1, -0.2)
    np.testing.assert_allclose(stepped(DoReMi(), THIRDS, excess), (0.4392, 0.2944, 0.2664), atol=5e-5)
    sheared = ShearedLoading(targets=(2.0, 2.0, 2.0))
    np.testing.assert_allclose(stepped(sheared, THIRDS, np.add(excess, 2)), (0.4615, 0.3093, 0.2292), atol=5e-5)
    gradients = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]])
    scores = doge_scores(gradients @ gradients.T, 0.1)
    np.testing.assert_allclose(stepped(DoGE(), THIRDS, scores), (0.4292, 0.4292, 0.1417), atol=1e-4)
    skill_it = SkillIt(graph=((1, 0.5), (0, 1)), eta=0.5)
    np.testing.assert_allclose(stepped(skill_it, HALVES, (2, 1)), (0.6792, 0.3208), atol=5e-5)
    for ema in (None, 0.1):
        found = stepped(Aioli(ema=ema), HALVES, ((0.4, 0.1), (0.2, 0.3)))
        np.testing.assert_allclose(found, (0.51, 0.49), atol=5e-5)


def test_golden_preference_of_ado_and_the_credit_of_the_released_code():
    curves, mu = [LossCurve(2, 8, 0.3), LossCurve(2.5, 5, 0.2)], np.array([0.7, 0.3])
    found = ado_preference(curves, np.array([1000, 500]), mu, mu)
    np.testing.assert_allclose(found, (0.6511, 0.3489), atol=5e-5)
    variance = ado_preference(curves, np.array([1000, 500]), mu, mu, "variance")
    slopes = np.array([curves[0].slope(1000), curves[1].slope(500)])
    np.testing.assert_allclose(variance, mu * slopes / (mu @ slopes), rtol=1e-12)  # sqrt(h (1 - h)) is equal for two


def test_doge_scores_are_clipped_and_a_source_against_the_others_is_not_punished():
    products = np.array([[1.0, -5.0, 0], [-5.0, 100.0, 90.0], [0, 90.0, 100.0]])
    scores = doge_scores(products, 0.1)
    assert scores[0] == 0
    assert np.all(scores <= 0.5)


def test_skill_it_sums_the_last_losses_and_starts_over_from_the_first_shares():
    policy = SkillIt(graph=((1, 0.5), (0, 1)), eta=0.1, window=2)
    memory, shares = policy.begin(HALVES), HALVES
    for losses in ((9, 9), (2, 1), (1, 1)):
        shares, memory = policy.step(shares, np.array(losses, float), memory, 0)
    raised = np.exp(0.1 * np.array([[1, 0.5], [0, 1]]) @ np.array([3.0, 2.0]))
    np.testing.assert_allclose(shares, raised / raised.sum())


def test_aioli_averages_matrices_or_goes_on_from_the_last_shares():
    first, second = np.array([[0.4, 0.1], [0.2, 0.3]]), np.array([[0.0, 1.0], [0.0, 2.0]])
    for ema in (0.1, None):
        policy = Aioli(ema=ema)
        shares, memory = policy.step(HALVES, first, policy.begin(HALVES), 0)
        shares, memory = policy.step(shares, second, memory, 1)
        total = 0.9 * second + 0.1 * first if ema else first + second
        raised = np.exp(0.2 * total.sum(axis=0))
        np.testing.assert_allclose(shares, raised / raised.sum())


def test_interactions_are_found_from_probes_of_a_linear_world():
    truth = np.array([[0.4, 0.1, 0.0], [0.2, 0.3, -0.1], [0.0, 0.1, 0.5]])
    drops = truth @ probe_mixtures(3).T
    np.testing.assert_allclose(interactions(drops), truth, atol=1e-12)
    np.testing.assert_allclose(probe_mixtures(3).sum(axis=1), 1)


def test_a_power_law_is_recovered_and_its_slope_is_its_derivative():
    tokens = np.linspace(1e4, 1e7, 60)
    curve = fit_curve(tokens, 2 + 30 * tokens**-0.3)
    assert (curve.e, curve.b, curve.a) == (pytest.approx(2, abs=1e-6), pytest.approx(30, rel=1e-5), pytest.approx(0.3))
    assert curve.slope(1e6) == pytest.approx((curve.loss(1e6 - 50) - curve.loss(1e6 + 50)) / 100, rel=1e-6)
    flat = fit_curve(tokens, np.linspace(2, 3, 60))
    assert flat.b == 0
    assert flat.slope(1e6) == 0


def test_ado_waits_then_prefers_the_source_that_still_falls():
    policy = ADO(start=60, refit=40, thin=5)
    online = OnlineShares(["flat", "falling"], policy, [0.5, 0.5])
    for step in range(1, 201):
        tokens = 10_000 * step
        online.update(tokens, [2.0 + 0.1 * tokens**-0.3, 2.0 + 60 * tokens**-0.3])
        if step < 60:
            assert online.shares == {"flat": 0.5, "falling": 0.5}
    assert online.shares["falling"] > 0.8
    assert min(row.shares[0] for row in online.log.rows) >= 0.01


def test_an_ado_of_losses_that_do_not_fall_keeps_the_prior():
    online = OnlineShares(["a", "b"], ADO(start=30, refit=10, thin=3), [0.7, 0.3])
    for step in range(1, 61):
        online.update(step * 100, [2.0 + step / 100, 3.0 + step / 100])
    assert online.shares["a"] == pytest.approx(0.7)


POLICIES = [
    DoReMi(),
    ShearedLoading(targets=(2.0, 2.1, 2.2)),
    DoGE(),
    SkillIt(graph=((1, 0.5, 0), (0, 1, 0.5), (0, 0, 1)), eta=0.3),
    Aioli(),
    Aioli(ema=None),
    ADO(start=9, refit=4, thin=2),
]


def signals(policy, n, seed):
    random = np.random.default_rng(seed)
    size = (n, 3, 3) if policy.kind == "aioli" else (n, 3)
    return random.uniform(0.5, 3, size) / (1 if policy.kind != "doge" else 100)


def followed(policy, n, seed=0):
    online = OnlineShares(["web", "books", "code"], policy, [0.6, 0.3, 0.1])
    for step, signal in enumerate(signals(policy, n, seed)):
        online.update(1000 * (step + 1), signal)
    return online


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_shares_are_rebuilt_from_a_log_to_the_bit(policy, tmp_path):
    online = followed(policy, 40)
    write_log(tmp_path / "shares.jsonl", online.log)
    read = read_log(tmp_path / "shares.jsonl")
    assert read == online.log
    assert replayed(read).state_dict() == online.state_dict()
    for row in read.rows:
        assert sum(row.shares) == pytest.approx(1, abs=1e-12)
        assert min(row.shares) >= 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_a_run_that_resumes_ends_with_the_same_shares(policy):
    whole = followed(policy, 30)
    part = followed(policy, 0)
    given = signals(policy, 30, 0)
    for step in range(13):
        part.update(1000 * (step + 1), given[step])
    state = json.loads(json.dumps(part.state_dict()))
    again = followed(policy, 0)
    again.load_state_dict(state)
    for step in range(13, 30):
        again.update(1000 * (step + 1), given[step])
    assert again.log == whole.log


def test_an_edited_log_is_noticed_and_a_foreign_state_refused():
    online = followed(DoReMi(), 5)
    rows = list(online.log.rows)
    rows[3] = rows[3].model_copy(update={"shares": (0.5, 0.3, 0.2)})
    with pytest.raises(InputError, match="update 3 of this log does not follow"):
        replayed(online.log.model_copy(update={"rows": tuple(rows)}))
    with pytest.raises(ConfigError, match="another online mixture"):
        followed(DoReMi(eta=2), 0).load_state_dict(online.state_dict())


def test_the_log_says_which_shares_hold_at_a_token():
    online = followed(DoReMi(), 3)
    assert online.log.at(0) == online.log.at(999) == {"web": 0.6, "books": 0.3, "code": 0.1}
    assert tuple(online.log.at(2000).values()) == online.log.rows[1].shares
    assert online.log.at(10**9) == online.shares


@properties
@given(st.lists(st.integers(1, 500), max_size=25), st.integers(1, 3000), st.integers(1, 800), st.integers(0, 99))
def test_phases_tile_the_run_and_keep_its_tokens_of_every_source(gaps, total, least, seed):
    random = np.random.default_rng(seed)
    online = OnlineShares(["a", "b", "c"], DoReMi(), [0.5, 0.3, 0.2])
    for tokens in np.cumsum(gaps).tolist():
        online.update(tokens, random.uniform(-1, 1, 3))
    found = phases(online.log, total, least)
    assert found[0].start_token == 0
    starts = [phase.start_token for phase in found]
    lengths = np.diff([*starts, total])
    assert np.all(lengths >= min(least, total))
    for phase in found:
        assert sum(round(share * MILLION) for share in phase.shares.values()) == MILLION
    given = np.sum([list(online.log.at(token).values()) for token in range(total)], axis=0)
    asked = np.sum(
        [length * np.array(list(phase.shares.values())) for length, phase in zip(lengths, found, strict=True)], 0
    )
    np.testing.assert_allclose(asked, given, atol=total * 1.1e-6)


def test_the_mixture_doremi_hands_over_is_the_mean_of_its_updates():
    online = followed(DoReMi(), 7)
    mean = np.mean([row.shares for row in online.log.rows], axis=0)
    np.testing.assert_allclose(list(mean_shares(online.log).values()), mean)
    with pytest.raises(InputError, match="no updates"):
        mean_shares(OnlineLog(policy=DoReMi(), names=("a", "b"), first=(0.5, 0.5)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OnlineShares(["a", "a"], DoReMi(), [0.5, 0.5]), "two or more different sources"),
        (lambda: OnlineShares(["a", "b"], DoReMi(), [0.5, 0.6]), "sum to one"),
        (lambda: OnlineShares(["a", "b"], ShearedLoading(targets=(1.0,)), [0.5, 0.5]), "targets of an online mixture"),
        (lambda: OnlineShares(["a", "b"], SkillIt(graph=((1, 1), (1, 1))), [0.5, 0.5]), "every source helps the same"),
        (lambda: OnlineShares(["a", "b"], SkillIt(graph=((1, 0),)), [0.5, 0.5]), "graph of an online mixture"),
        (lambda: probe_mixtures(2, 0.4), "above an equal one"),
    ],
)
def test_what_cannot_begin_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    ("policy", "tokens", "signal", "message"),
    [
        (DoReMi(), 1000, [0.1, 0.2, 0.3], "in the order of the run"),
        (DoReMi(), 2000, [0.1, float("nan"), 0.3], "finite numbers"),
        (DoReMi(), 2000, [0.1, 0.2], "does not fit the sources"),
        (Aioli(), 2000, [0.1, 0.2, 0.3], "wrong shape"),
    ],
)
def test_a_signal_that_cannot_be_followed_changes_nothing(policy, tokens, signal, message):
    online = followed(policy, 1)
    before = json.dumps(online.state_dict())
    with pytest.raises(InputError, match=message):
        online.update(tokens, signal)
    assert json.dumps(online.state_dict()) == before


def test_a_file_that_is_no_log_is_named(tmp_path):
    (tmp_path / "log").write_text("{}\n")
    with pytest.raises(InputError, match="not a log of online shares"):
        read_log(tmp_path / "log")
