"""The choice of documents keeps the budget, ignores arrival order, and names what it passed over."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.documents import document_id
from corpus.errors import ConfigError
from rephrase.budget import Allowance, Budget, Candidates, choose, preference

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 90)), min_size=2, max_size=80)


def ids(n):
    return [document_id("t", str(i)) for i in range(n)]


def candidates(pairs, n_styles=2):
    rows = len(pairs) // n_styles
    wanted, requests, n_out = (np.array(column[: rows * n_styles]) for column in zip(*pairs, strict=True))
    shape = (rows, n_styles)
    requests = requests.reshape(shape)
    return Candidates(wanted.reshape(shape), requests, np.where(requests > 0, n_out.reshape(shape), 0))


@settings(deadline=None)
@given(PAIRS, st.integers(0, 30), st.integers(0, 60), st.integers(0, 900), st.integers(0, 9))
def test_the_budget_holds_and_all_documents_are_counted(pairs, documents, requests, tokens, seed):
    given_ = candidates(pairs)
    names = ids(len(given_.wanted))
    budget = Budget(documents=documents, requests=requests, tokens=tokens, max_requests=4)
    chosen = choose(given_, budget, order=preference(names, seed))
    taken = chosen.marks.any(axis=1)
    assert taken.sum() <= documents
    assert given_.requests[chosen.marks].sum() <= requests
    assert given_.n_out[chosen.marks].sum() <= tokens
    assert not (chosen.marks & ~given_.wanted).any()
    assert (given_.requests[chosen.marks] >= 1).all()
    assert (given_.requests[chosen.marks] <= 4).all()
    assert taken.sum() + sum(chosen.passed_over.values()) == len(names)
    left_out = (given_.wanted & ~chosen.marks)[taken].sum()
    assert sum(chosen.styles_left_out.values()) == left_out


@settings(deadline=None)
@given(PAIRS, st.integers(0, 9))
def test_without_a_budget_everything_that_can_be_sent_is_chosen(pairs, seed):
    given_ = candidates(pairs)
    chosen = choose(given_, Budget(), order=preference(ids(len(given_.wanted)), seed))
    assert (chosen.marks == (given_.wanted & (given_.requests > 0))).all()


@settings(deadline=None)
@given(PAIRS, st.randoms(), st.integers(0, 3), st.booleans())
def test_arrival_order_does_not_matter(pairs, random, seed, best):
    given_ = candidates(pairs)
    n = len(given_.wanted)
    names, scores = ids(n), np.array([float(i // 3) for i in range(n)])
    moved = np.array(random.sample(range(n), n))
    shuffled = Candidates(given_.wanted[moved], given_.requests[moved], given_.n_out[moved])
    budget = Budget(documents=4, tokens=200)
    first = choose(given_, budget, order=preference(names, seed, scores if best else None))
    order = preference([names[i] for i in moved], seed, scores[moved] if best else None)
    assert (choose(shuffled, budget, order=order).marks == first.marks[moved]).all()


def test_best_scores_come_first_and_null_last():
    order = preference(ids(4), 0, np.array([np.nan, 0.5, -3.0, 0.9]))
    assert order.tolist() == [3, 1, 2, 0]
    with pytest.raises(ConfigError, match="4 documents came with 1 scores"):
        preference(ids(4), 0, np.array([1.0]))
    assert preference(ids(60), 0).tolist() != preference(ids(60), 1).tolist()


def test_whole_documents_only_and_smaller_ones_fill_what_is_left():
    given_ = Candidates(np.ones((4, 2), bool), np.ones((4, 2), int), np.array([[30, 30], [40, 40], [10, 10], [9, 9]]))
    chosen = choose(given_, Budget(tokens=100), order=np.arange(4))
    assert chosen.marks.all(axis=1).tolist() == [True, False, True, True]
    assert chosen.passed_over == {"over_budget": 1}


def test_each_reason_for_passing_over():
    wanted = np.array([[True], [False], [True], [True], [True], [True]])
    requests = np.array([[1], [1], [0], [9], [1], [1]])
    n_out = np.array([[50], [50], [0], [50], [50], [50]])
    budget = Budget(tokens=60, max_requests=4)
    chosen = choose(Candidates(wanted, requests, n_out), budget, order=np.arange(6))
    assert chosen.marks.ravel().tolist() == [True] + [False] * 5
    assert chosen.passed_over == {"not_wanted": 1, "length": 1, "too_many_requests": 1, "not_reached": 2}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99))
def test_a_quota_holds_a_style_to_its_share_of_the_budget(seed):
    random = np.random.default_rng(seed)
    n_out = random.integers(10, 60, (400, 2))
    given_ = Candidates(np.ones((400, 2), bool), np.ones((400, 2), int), n_out)
    chosen = choose(given_, Budget(tokens=6_000), order=np.arange(400), caps={0: 0.25})
    spent = (chosen.marks * n_out).sum(axis=0)
    assert 1_500 - 60 < spent[0] <= 1_500
    assert 6_000 - 120 < spent.sum() <= 6_000
    assert chosen.styles_left_out["over_quota"] > 0
    by_count = choose(given_, Budget(documents=100), order=np.arange(400), caps={0: 0.1}, of="documents")
    assert by_count.marks[:, 0].sum() == 10
    assert by_count.marks.any(axis=1).sum() == 100


def test_gpu_hours_become_tokens_at_a_rate():
    assert Budget(gpu_hours=2).in_tokens(250.0) == Budget(tokens=1_800_000)
    assert Budget(gpu_hours=2, tokens=9).in_tokens(250.0) == Budget(tokens=9)
    assert Budget(tokens=5).in_tokens(None) == Budget(tokens=5)
    with pytest.raises(ConfigError, match="--rate TOKENS_PER_SECOND"):
        Budget(gpu_hours=2).in_tokens(None)


def test_an_allowance_is_used_at_its_first_limit():
    allowance = Allowance(requests=10, tokens=500)
    allowance.spend(4, 499)
    assert not allowance.is_used
    allowance.spend(1, 1)
    assert allowance.is_used
    allowance = Allowance(requests=10)
    allowance.spend(10, 10**9)
    assert allowance.is_used
    assert not Allowance().is_used
