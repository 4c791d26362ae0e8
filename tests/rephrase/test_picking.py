"""The choice of documents keeps the budget, ignores arrival order, and names what it passed over."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.documents import document_id, documents
from corpus.errors import ConfigError
from rephrase.picking import Budget, pick_documents


def a_batch(sizes):
    return documents(
        [{"id": document_id("t", str(i)), "text": "x" * (n + 1), "source": "s"} for i, n in enumerate(sizes)]
    )


def chunks(text: str) -> int:
    return len(text) - 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 20), st.integers(0, 30), st.integers(0, 9))
def test_the_budget_holds_and_all_documents_are_counted(sizes, most, total, seed):
    picked = pick_documents(a_batch(sizes), chunks, Budget(max_documents=most, max_total_chunks=total), seed=seed)
    assert len(picked.rows) <= most
    assert picked.n_chunks == sum(sizes[row] for row in picked.rows) <= total
    assert all(1 <= sizes[row] <= 4 for row in picked.rows)
    assert picked.rows == sorted(picked.rows)
    assert len(picked.rows) + sum(picked.passed_over.values()) == len(sizes)


@settings(deadline=None)
@given(st.permutations(range(12)), st.integers(0, 3))
def test_arrival_order_does_not_matter(order, seed):
    batch, budget = a_batch([i % 6 for i in range(12)]), Budget(max_documents=4, max_total_chunks=9)
    shuffled = batch.take(order)
    for scores in (None, [float(i // 3) for i in range(12)]):
        moved = None if scores is None else [scores[i] for i in order]
        first = pick_documents(batch, chunks, budget, seed=seed, scores=scores)
        second = pick_documents(shuffled, chunks, budget, seed=seed, scores=moved)
        assert {batch["id"][i] for i in first.rows} == {shuffled["id"][i] for i in second.rows}


def test_best_scores_come_first_and_null_last():
    budget = Budget(max_documents=2, max_total_chunks=9)
    assert pick_documents(a_batch([1] * 4), chunks, budget, seed=0, scores=[None, 0.5, -3.0, 0.9]).rows == [1, 3]
    with pytest.raises(ConfigError, match="4 documents came with 1 scores"):
        pick_documents(a_batch([1] * 4), chunks, budget, seed=0, scores=[1.0])


def test_another_seed_chooses_others():
    batch, budget = a_batch([1] * 60), Budget(max_documents=9, max_total_chunks=99)
    assert pick_documents(batch, chunks, budget, seed=0).rows != pick_documents(batch, chunks, budget, seed=1).rows
