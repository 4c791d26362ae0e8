"""Take the best documents up to a token budget: the longest prefix of the ranking that fits.

The ranking is by score, best first, ties by a seeded hash of the id, so it depends neither on the order of
arrival nor on partitions. A prefix never skips a document to fit a smaller one in: selections of rising budgets
are nested, at the price of a shortfall of less than one document, which is reported.

Run it:  chosen = take_budget(scores, tokens, 1_000_000, seed=0, ids=ids)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.errors import InputError
from corpus.keyed_random import keyed_hashes


@dataclass(frozen=True)
class Selection:
    """What was taken.

    Args:
        rows: row numbers, best first.
        tokens: their tokens, at most the budget.
        shortfall: budget - tokens.
        lowest: the lowest score taken; None when nothing was.
        unscored: documents that could not take part, because their score is NaN.
    """

    rows: npt.NDArray[np.int64]
    tokens: int
    shortfall: int
    lowest: float | None
    unscored: int


def take_budget(
    scores: npt.ArrayLike, tokens: npt.ArrayLike, budget: int, *, seed: int, ids: Sequence[str]
) -> Selection:
    """Select the largest prefix of the ranking whose tokens sum to at most `budget`.

    Args:
        scores: shape (n,), higher is better, NaN for not scored.
        tokens: shape (n,), whole numbers >= 0.
        budget: tokens, >= 0.
        seed, ids: break ties; ids are unique.

    Raises InputError for columns of unlike length, a negative count or budget, or an id that occurs twice.
    """
    values = np.asarray(scores, dtype=np.float64) + 0.0
    counts = np.asarray(tokens, dtype=np.int64)
    if not len(values) == len(counts) == len(ids):
        found = f"{len(values):,} scores, {len(counts):,} token counts, {len(ids):,} ids"
        raise InputError("scores, tokens and ids do not describe the same documents", found=found)
    if budget < 0 or (counts < 0).any():
        raise InputError(
            "tokens cannot be negative", found=f"budget {budget:,}, lowest count {counts.min(initial=0):,}"
        )
    if len(set(ids)) != len(ids):
        twice = len(ids) - len(set(ids))
        raise InputError(f"{twice:,} documents have an id that another one has", fix="remove duplicates first")
    scored = np.flatnonzero(~np.isnan(values))
    names = [ids[i] for i in scored]
    ranking = pa.table({"score": values[scored], "hash": keyed_hashes(seed, names), "id": pa.array(names, pa.string())})
    order = pc.sort_indices(ranking, sort_keys=[("score", "descending"), ("hash", "ascending"), ("id", "ascending")])
    rows = scored[order.to_numpy()]
    sums = np.cumsum(counts[rows])
    n = int(np.searchsorted(sums, budget, side="right"))
    total = int(sums[n - 1]) if n else 0
    lowest = float(values[rows[n - 1]]) if n else None
    return Selection(rows[:n], total, budget - total, lowest, len(values) - len(scored))
