"""Learned shares: planted ones are found, nothing is claimed where nothing is, same runs give same shares."""

import numpy as np
import pytest

from corpus.errors import ConfigError, InputError
from mixtures.learned_shares import REGRESSORS, LearnedShares, LearnSettings, learn_shares, n_effective
from mixtures.share_design import DesignSettings, draw_design
from mixtures.share_evidence import Interval, doubts, loss_spread, percentile_interval, repeat_noise, statement
from mixtures.share_runs import join_runs, run_table
from mixtures.share_search import SearchSettings
from mixtures.share_selection import spearman

CLOSED = ("ridge", "ridge_sqrt", "gaussian_process")
QUICK = LearnSettings(regressors=CLOSED, search=SearchSettings(candidates=20_000, best=32), resamples=100)


def names(k):
    return [f"score_{i:02d}" for i in range(k)]


def simulated(k, surface, *, runs=128, noise=0.5, seed=0, repeats=4, strata=(0.1, 0.3, 1.0)):
    """Runs of a design whose losses are a surface and noise, in units of the surface's own spread."""
    design = draw_design(k, DesignSettings(runs=runs, repeats=repeats, seed=seed, strata=strata))
    true = surface(design.shares)
    scale = true[:runs].std() or 1.0
    losses = 3 + true + noise * scale * np.random.default_rng(seed).normal(size=len(true))
    return join_runs(design, dict(zip([row.run_id for row in design.rows], losses.tolist(), strict=True)))


def learned(table, settings=QUICK):
    result = learn_shares(names(table.shares.shape[1]), table, settings)
    return result, np.array([one.share for one in result.shares])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_weight_vector_is_recovered_from_128_noisy_runs(seed):
    """Loss falls linearly with 25 shares, by evenly spaced importances; noise is half the spread."""
    importance = np.random.default_rng(seed + 10).permutation(np.linspace(0, 1, 25))
    result, shares = learned(simulated(25, lambda x: -x @ importance, seed=seed))
    assert spearman(importance, shares) >= 0.9
    assert shares.sum() == pytest.approx(1)
    assert result.distinguishable
    assert result.verdict.startswith("The learned shares are predicted to beat equal ones")
    said = [one.statement for one in result.shares]
    assert min(importance[i] for i in range(25) if said[i] == "above equal") > 0.4
    assert max(importance[i] for i in range(25) if said[i] == "below equal") < 0.6
    assert said.count("withheld") <= 15


def test_a_planted_optimum_lies_inside_the_intervals():
    """-sum c_k sqrt(x_k) is lowest at x_k proportional to c_k squared."""
    c = np.array([1.0, 0.8, 0.6, 0.5, 0.4])
    result, _ = learned(simulated(5, lambda x: -np.sqrt(x) @ c, noise=0.5, strata=(1.0, 0.5)))
    for one, best in zip(result.shares, c**2 / (c**2).sum(), strict=True):
        assert one.low - 0.01 <= best <= one.high + 0.01, one
    assert result.n_effective_of_best == pytest.approx(n_effective(c**2 / (c**2).sum()), rel=0.35)


@pytest.mark.parametrize(
    ("surface", "noise"),
    [(lambda x: 0 * x[:, 0], 1.0), (lambda x: -np.sqrt(x).sum(axis=1), 0.2)],
    ids=["noise alone", "equal shares are best"],
)
def test_nothing_is_claimed_where_equal_shares_are_as_good(surface, noise):
    for seed in range(3):
        result, _ = learned(simulated(10, surface, runs=64, noise=noise, seed=seed))
        assert not result.distinguishable
        assert "not distinguishable from equal" in result.verdict
        assert {one.statement for one in result.shares} == {"withheld"}
        assert result.gain.value < result.predicted_gain


def test_permuted_rows_change_nothing_and_another_seed_does():
    table = simulated(6, lambda x: -x @ np.arange(6.0), runs=40)
    order = np.random.default_rng(0).permutation(len(table.losses))
    shuffled = run_table(
        [table.run_ids[i] for i in order],
        table.shares[order],
        table.losses[order],
        kinds=[table.kinds[i] for i in order],
        design_hash=table.design_hash,
    )
    first = learn_shares(names(6), table, QUICK).model_dump_json()
    assert learn_shares(names(6), table, QUICK).model_dump_json() == first
    assert learn_shares(names(6), shuffled, QUICK).model_dump_json() == first
    assert shuffled.hash == table.hash
    other = QUICK.model_copy(update={"search": SearchSettings(candidates=20_000, best=32, seed=1)})
    assert learn_shares(names(6), table, other).by_name() != LearnedShares.model_validate_json(first).by_name()


def test_the_report_holds_what_a_reader_needs():
    table = simulated(6, lambda x: -x @ np.arange(6.0), runs=40)
    result, shares = learned(table)
    assert LearnedShares.model_validate_json(result.model_dump_json()) == result
    assert list(result.by_name()) == names(6)
    assert result.equal == 1 / 6
    assert result.n_effective == pytest.approx(1 / np.sum(shares**2))
    assert [one.name for one in result.candidates] == list(CLOSED)
    assert result.regressor in CLOSED
    assert (result.runs, result.vectors, result.failed) == (44, 41, 0)
    assert result.table_hash == table.hash
    assert result.repeat_noise == pytest.approx(np.std(table.losses[table.is_repeat], ddof=1))
    assert result.loss_spread == pytest.approx(np.std(table.losses[~table.is_repeat], ddof=1))
    assert result.predicted_gain_of_best >= result.predicted_gain
    assert result.held_out.low <= result.held_out.value <= result.held_out.high
    assert any("only 41 distinct vectors" in said for said in result.warnings)


def test_warnings_name_failures_noise_and_missing_repeats():
    noisy = simulated(4, lambda x: 0.1 * x[:, 0], runs=30, noise=3.0, seed=1)
    assert any("worth more than new vectors" in said for said in learned(noisy)[0].warnings)
    design = draw_design(4, DesignSettings(runs=30, repeats=0))
    losses = {row.run_id: 3 - row.shares[0] for row in design.rows[1:]}
    result, _ = learned(join_runs(design, losses))
    assert result.repeat_noise is None
    assert result.failed == 1
    assert any("1 runs have no loss: d000" in said for said in result.warnings)
    assert any("noise between runs is unknown" in said for said in result.warnings)


@pytest.mark.slow
def test_trees_learn_too():
    pytest.importorskip("lightgbm")
    trees = LearnSettings(regressors=("lightgbm",), search=SearchSettings(candidates=2000, best=16))
    table = simulated(3, lambda x: -x @ np.arange(3.0), runs=32, noise=0.1)
    result, shares = learned(table, trees)
    assert np.argsort(shares).tolist() == [0, 1, 2]
    assert learn_shares(names(3), table, trees) == result


def test_names_and_regressors_must_exist_and_fit():
    table = simulated(3, lambda x: x[:, 0], runs=20)
    with pytest.raises(InputError, match="names do not fit"):
        learn_shares(["a", "b"], table, QUICK)
    with pytest.raises(InputError, match="names do not fit"):
        learn_shares(["a", "b", "b"], table, QUICK)
    with pytest.raises(ConfigError, match="did you mean 'ridge_sqrt'"):
        learn_shares(names(3), table, LearnSettings(regressors=("ridge_sqr",)))
    assert set(CLOSED) < set(REGRESSORS)


def test_spread_and_noise_leave_out_what_they_must():
    shares = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]]
    table = run_table("abcde", shares, [1.0, 3.0, 6.0, 4.0, 4.5], kinds=["vertex"] * 3 + ["uniform"] * 2)
    assert loss_spread(table) == pytest.approx(np.std([2.0, 6.0], ddof=1))
    assert repeat_noise(table) == pytest.approx(np.std([4.0, 4.5], ddof=1))
    assert repeat_noise(run_table("a", [[0.5, 0.5]], [1.0], kinds=["uniform"])) is None


def test_rules_of_the_verdict():
    sure, unsure = Interval(value=0.5, low=0.1, high=0.9), Interval(value=0.5, low=0.0, high=0.9)
    nothing = Interval(value=None, low=None, high=None)
    assert doubts(sure, sure, 0.4) == []
    assert doubts(sure, sure, None) == []
    for gain, rank, noise in ((unsure, sure, 0.1), (sure, unsure, 0.1), (sure, nothing, 0.1), (sure, sure, 0.5)):
        assert len(doubts(gain, rank, noise)) == 1
    assert statement(0.2, 0.3, 0.1, []) == "above equal"
    assert statement(0.02, 0.03, 0.1, []) == "below equal"
    assert statement(0.02, 0.3, 0.1, []) == statement(0.2, 0.3, 0.1, ["a doubt"]) == "withheld"
    assert percentile_interval(0.5, np.array([0.1] * 8 + [np.nan] * 2), 0.9) == nothing
    assert percentile_interval(2.0, np.linspace(0, 1, 101), 0.9).model_dump() == pytest.approx(
        {"value": 2.0, "low": 0.05, "high": 2.0}
    )
