"""Whole counts and turns: goldens, bounds, and the laws their docstrings state."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.shares import MixtureError, block_turns, deadline_turns, largest_remainder, normalised
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


LAGGING = [0.6, 0.3, *[0.01] * 10]


def by_the_rule(exact, n):
    """The deadline rule as Tijdeman states it, on fractions: an oracle."""
    counts, e, turns = [0] * len(exact), Fraction(1, 2 * len(exact) - 2), []
    for m in range(1, n + 1):
        behind = [share * m - count for share, count in zip(exact, counts, strict=True)]
        turn = min((i for i in range(len(exact)) if behind[i] >= e), key=lambda i: (1 - e - behind[i]) / exact[i])
        counts[turn] += 1
        turns.append(turn)
    return turns


def by_deficit(exact, n):
    """The greedy rule: whoever is furthest behind."""
    counts, turns = [0] * len(exact), []
    for m in range(1, n + 1):
        turn = max(range(len(exact)), key=lambda i: (exact[i] * m - counts[i], -i))
        counts[turn] += 1
        turns.append(turn)
    return turns


def strays(exact, turns):
    """The largest distance of a count from its share after m places, shape (n,), as floats of exact fractions."""
    after = np.arange(1, len(turns) + 1)
    turns = np.asarray(turns)
    return np.max([abs(np.cumsum(turns == i) - float(share) * after) for i, share in enumerate(exact)], axis=0)


@properties
@given(st.lists(st.integers(1, 60), min_size=2, max_size=9), st.integers(1, 150))
def test_turns_are_those_of_the_rule_as_stated(shares, n):
    exact = [Fraction(share, sum(shares)) for share in shares]
    assert deadline_turns(exact, n).tolist() == by_the_rule(exact, n)


@properties
@given(st.lists(st.integers(1, 60), min_size=2, max_size=9), st.integers(1, 150))
def test_compiled_and_plain_turns_are_the_same(shares, n):
    tiny = Fraction(1, 10**40)  # moves no turn of the first 150, and does not fit 64 bits
    exact = [Fraction(share, sum(shares)) for share in shares]
    moved = [exact[0] - tiny, *exact[1:-1], exact[-1] + tiny]
    expected = by_the_rule(moved, n)
    assert deadline_turns(moved, n).tolist() == expected


def test_a_share_of_zero_has_no_turn_and_changes_none():
    turns = deadline_turns([0.5, 0, 0.3, 0.2, 0], 40)
    assert turns.tolist() == np.array([0, 2, 3])[deadline_turns([0.5, 0.3, 0.2], 40)].tolist()
    assert deadline_turns([0, 1, 0], 3).tolist() == [1, 1, 1]
    assert deadline_turns([0.5, 0.5], 0).tolist() == []


def test_greedy_falls_behind_by_more_than_one_where_turns_do_not():
    exact, _ = normalised(LAGGING)
    assert by_deficit([Fraction(5, 10), Fraction(3, 10), Fraction(2, 10)], 10) == [0, 1, 2, 0, 0, 1, 0, 2, 1, 0]
    greedy = strays(exact, by_deficit(exact, 200))
    assert greedy.max() == pytest.approx(1.10)
    assert greedy[86] == pytest.approx(1.10)
    ours = strays(exact, deadline_turns(LAGGING, 20_000))
    assert ours.max() <= 1 - 1 / 22 + 1e-9
    assert ours[:200].max() == pytest.approx(0.94)


def test_long_turns_stay_within_the_bound_and_only_add_places():
    drawn = np.random.default_rng(0).dirichlet(np.full(20, 0.3))
    shares = [round(float(share), 6) for share in drawn]
    exact, _ = normalised(shares)
    turns = deadline_turns(shares, 300_000)
    assert strays(exact, turns).max() <= 1 - 1 / 38 + 1e-6
    assert deadline_turns(shares, 123_457).tolist() == turns[:123_457].tolist()


def test_tokens_of_a_large_corpus_are_shares():
    tokens = [8_140_000_000_001, 972_000_000_003, 137_000_000_007, 3_690_000_011]
    exact = [Fraction(held, sum(tokens)) for held in tokens]
    assert deadline_turns(tokens, 3000).tolist() == by_the_rule(exact, 3000)


@properties
@given(weights, st.integers(0, 200), st.integers(1, 30), st.integers(0, 5))
def test_blocks_hold_the_turns_of_the_rule_in_keyed_order(shares, n, block, seed):
    exact = [Fraction(share, sum(shares)) for share in shares]
    names = [f"s{i}" for i in range(len(shares))]
    turns = block_turns(exact, n, block=block, names=names, seed=seed)
    assert turns.shape == (n,)
    plain = deadline_turns(exact, n)
    for end in range(block, n + 1, block):
        assert sorted(turns[end - block : end].tolist()) == sorted(plain[end - block : end].tolist())
        for i, share in enumerate(exact):
            if (share * block).denominator == 1:
                assert (turns[end - block : end] == i).sum() == share * block
    longer = block_turns(exact, n + 17, block=block, names=names, seed=seed)
    assert longer[:n].tolist() == turns.tolist()


def test_the_order_inside_blocks_has_no_rhythm_and_follows_the_seed():
    made = [block_turns([0.5, 0.5], 4096, block=64, names=["a", "b"], seed=seed) for seed in (1, 1, 2)]
    assert made[0].tolist() == made[1].tolist() != made[2].tolist()
    changes = np.mean(made[0][1:] != made[0][:-1])
    assert changes == pytest.approx(64 / 126, abs=0.03)  # as in a shuffle; deadline turns alternate, 1.0
    assert made[0].reshape(-1, 64)[:, :32].mean() == pytest.approx(0.5, abs=0.05)
    assert made[0].reshape(-1, 64).mean(axis=0).std() == pytest.approx(0.5 / 8, abs=0.02)  # no place has its source


def test_blocks_that_cannot_be_made():
    with pytest.raises(MixtureError, match="holds no place"):
        block_turns([0.5, 0.5], 4, block=0, names=["a", "b"], seed=0)
    with pytest.raises(MixtureError, match="a name a share"):
        block_turns([0.5, 0.5], 4, block=2, names=["a"], seed=0)
    with pytest.raises(MixtureError, match="'a' is named twice"):
        block_turns([0.5, 0.5], 4, block=2, names=["a", "a"], seed=0)


def test_normalising_says_so():
    assert normalised([0.1, 0.2, 0.7]) == ([Fraction(1, 10), Fraction(2, 10), Fraction(7, 10)], "")
    exact, said = normalised([0.5, 0.50565])
    assert sum(exact) == 1
    assert said == "the shares sum to 1.00565 and were divided by it"


def test_published_weights_that_do_not_sum_to_one():
    for total, said in (("1.00005", "1.00005"), ("1.00565", "1.00565")):
        exact, sentence = normalised([0.5, float(Fraction(total) - Fraction(1, 2))])
        assert sum(exact) == 1
        assert said in sentence


@pytest.mark.parametrize("shares", [[], [0.0, 0.0], [0.5, -0.1], [0.5, float("nan")], [0.5, float("inf")], [0, 0]])
def test_shares_that_cannot_be_used(shares):
    with pytest.raises(MixtureError, match="cannot be used"):
        normalised(shares)
    with pytest.raises(MixtureError, match="cannot be used"):
        deadline_turns(shares, 5)
    with pytest.raises(MixtureError, match="cannot be used"):
        largest_remainder(shares, 5)


def test_an_error_names_the_source_the_value_and_the_setting():
    with pytest.raises(MixtureError) as caught:
        normalised([0.5, float("nan"), -2], ["web", "math", "code"], where="mixture.sources")
    assert "math: nan, code: -2" in str(caught.value)
    assert "mixture.sources" in str(caught.value)
    with pytest.raises(MixtureError, match="'web' is named twice") as caught:
        normalised([0.5, 0.5], ["web", "web"])
