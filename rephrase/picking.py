"""Choose which documents to rephrase when the budget does not reach all of them.

The choice depends on the seed and each document's id, or on a score with the id breaking ties; never on the
order in which documents arrive. Only whole documents are chosen: half a document teaches half a thought.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import Field

from corpus.config import Config
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes


class Budget(Config):
    """How much to rephrase with one style."""

    max_documents: int = Field(ge=0, description="at most this many documents")
    max_total_chunks: int = Field(ge=0, description="most requests to the generator, all documents together")
    max_chunks: int = Field(4, ge=1, description="longer documents are not chosen")


@dataclass(frozen=True, slots=True)
class Picked:
    """Rows chosen, ascending, their number of chunks, and why the documents looked at were passed over."""

    rows: list[int]
    n_chunks: int
    passed_over: Counter[str] = field(default_factory=Counter)


def pick_documents(
    documents: pa.RecordBatch | pa.Table,
    count_chunks: Callable[[str], int],
    budget: Budget,
    *,
    seed: int,
    scores: Sequence[float | None] | None = None,
) -> Picked:
    """Choose documents until the budget is used: best scores first, or in keyed random order without scores.

    Args:
        documents: a batch of documents.
        count_chunks: number of chunks a text would be sent as; 0 means it would not be sent.
        scores: one a document, higher is better; a null score comes last.

    `passed_over` counts `no_chunk`, `too_many_chunks` and `over_budget` among the documents looked at, and
    `not_reached` for the rest. Raises ConfigError when scores and documents differ in number.
    """
    ids, texts = documents.column("id").to_pylist(), documents.column("text")
    if scores is not None and len(scores) != len(ids):
        raise ConfigError(f"{len(ids):,} documents came with {len(scores):,} scores", expected="one score a document")
    rows: list[int] = []
    total, looked_at = 0, 0
    passed_over: Counter[str] = Counter()
    for row in _ranking(ids, seed, scores):
        if len(rows) >= budget.max_documents or total >= budget.max_total_chunks:
            break
        looked_at += 1
        n_chunks = count_chunks(texts[row].as_py())
        reason = _refused(n_chunks, total, budget)
        if reason:
            passed_over[reason] += 1
        else:
            rows.append(row)
            total += n_chunks
    if looked_at < len(ids):
        passed_over["not_reached"] = len(ids) - looked_at
    return Picked(sorted(rows), total, passed_over)


def _ranking(ids: list[str], seed: int, scores: Sequence[float | None] | None) -> list[int]:
    draws = keyed_hashes(seed, ids).tolist()
    if scores is None:
        return sorted(range(len(ids)), key=lambda row: (draws[row], ids[row]))
    known = [-float("inf") if score is None else score for score in scores]
    return sorted(range(len(ids)), key=lambda row: (-known[row], draws[row], ids[row]))


def _refused(n_chunks: int, total: int, budget: Budget) -> str | None:
    if n_chunks == 0:
        return "no_chunk"
    if n_chunks > budget.max_chunks:
        return "too_many_chunks"
    return "over_budget" if total + n_chunks > budget.max_total_chunks else None
