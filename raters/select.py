"""Take the best documents up to a token budget.

The ranking is by score, best first, ties by a seeded hash of the id and then by the id, so it depends neither on the
order of arrival nor on partitions. Three rules say where it is cut:

- prefix (default): the longest prefix of the ranking that fits. Selections of rising budgets are nested; the price is
  a shortfall of less than one document, which is reported.
- crossing: the document that crosses the budget is taken too (QuRating's rule): nested, never short, a little over.
- fill: what does not fit is skipped and smaller documents further down are taken: nearly no shortfall, not nested.

At a temperature above 0 documents are drawn instead: the ranking is by z(score) / temperature + Gumbel noise keyed by
the id, which samples without replacement in proportion to exp(z / temperature) (QuRating, arXiv 2402.09739).

This file holds the columns in memory; `budget_cut.py` gives the same selection for a corpus that does not fit.

Run it:  chosen = take_budget(scores, tokens, 1_000_000, seed=0, ids=ids)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.errors import InputError
from corpus.keyed_random import keyed_hashes, keyed_uniforms
from raters.normalise import Floats, fit

Ints = npt.NDArray[np.int64]
Rule = Literal["prefix", "crossing", "fill"]
_GUMBEL = 0x67756D62656C  # parts the noise from the hash that breaks ties


@dataclass(frozen=True)
class Selection:
    """What was taken.

    Args:
        rows: row numbers, best first.
        tokens: their tokens; at most the budget, except under the rule `crossing`.
        shortfall: budget - tokens; negative where `crossing` went over.
        lowest: the lowest score taken; None when nothing was.
        unscored: documents that could not take part, because their score is NaN.
    """

    rows: npt.NDArray[np.int64]
    tokens: int
    shortfall: int
    lowest: float | None
    unscored: int


def take_budget(
    scores: npt.ArrayLike,
    tokens: npt.ArrayLike,
    budget: int,
    *,
    seed: int,
    ids: Sequence[str],
    rule: Rule = "prefix",
    temperature: float = 0.0,
) -> Selection:
    """Select documents in the order of the ranking, up to `budget` tokens.

    Args:
        scores: shape (n,), higher is better, NaN for not scored.
        tokens: shape (n,), whole numbers >= 0.
        budget: tokens, >= 0.
        seed, ids: break ties and key the noise; ids are unique.
        rule, temperature: see above; at temperature 0 the best are taken.

    Raises InputError for columns of unlike length, a negative count or budget, or an id that occurs twice.
    """
    values = np.asarray(scores, dtype=np.float64) + 0.0
    counts = np.asarray(tokens, dtype=np.int64)
    _check(values, counts, budget, ids)
    scored = np.flatnonzero(~np.isnan(values))
    names = [ids[i] for i in scored]
    keys = values[scored]
    if temperature > 0 and len(keys):
        keys = drawn_keys(keys, names, seed, temperature, fit(keys, "z").table)
    ranking = pa.table({"key": keys, "hash": keyed_hashes(seed, names), "id": pa.array(names, pa.string())})
    order = pc.sort_indices(ranking, sort_keys=[("key", "descending"), ("hash", "ascending"), ("id", "ascending")])
    rows = scored[order.to_numpy()]
    rows = rows[taken(counts[rows], budget, rule)]
    total = int(counts[rows].sum())
    lowest = float(values[rows].min()) if len(rows) else None
    return Selection(rows, total, budget - total, lowest, len(values) - len(scored))


def taken(tokens: Ints, budget: int, rule: Rule) -> npt.NDArray[np.bool_]:
    """Which documents are taken; tokens of shape (n,) in the order of the ranking, a mask of shape (n,)."""
    sums = np.cumsum(tokens)
    if rule == "crossing":
        n = int(np.searchsorted(sums, budget, side="left")) + 1 if budget > 0 else 0
    else:
        n = int(np.searchsorted(sums, budget, side="right"))
    mask = np.arange(len(tokens)) < n
    if rule == "fill" and n < len(tokens):
        gap = budget - (int(sums[n - 1]) if n else 0)
        mask[n + np.array(fitting(tokens[n:], gap), np.int64)] = True
    return mask


def fitting(tokens: Ints, gap: int) -> list[int]:
    """Walk through documents in order and take each that fits into what is left of `gap`; their positions."""
    found = []
    for i in np.flatnonzero(tokens <= gap).tolist():
        if gap <= 0:
            break
        if tokens[i] <= gap:
            found.append(i)
            gap -= int(tokens[i])
    return found


def drawn_keys(scores: Floats, ids: Sequence[str], seed: int, temperature: float, table: Sequence[float]) -> Floats:
    """z / temperature + Gumbel(0, 1) keyed by id, shape (n,); `table` is the mean and standard deviation of scores.

    The noise is rounded to float32, so that the last bit of a machine's logarithm does not decide.
    """
    mean, deviation = table
    z = (scores - mean) / deviation if deviation > 0 else np.zeros_like(scores)
    uniform = np.maximum(keyed_uniforms(seed ^ _GUMBEL, ids), 2.0**-54)
    noise = -np.log(-np.log1p(-uniform))
    return np.asarray(z / temperature + noise.astype(np.float32).astype(np.float64))


def _check(values: Floats, counts: Ints, budget: int, ids: Sequence[str]) -> None:
    if not len(values) == len(counts) == len(ids):
        found = f"{len(values):,} scores, {len(counts):,} token counts, {len(ids):,} ids"
        raise InputError("scores, tokens and ids do not describe the same documents", found=found)
    if budget < 0 or (counts < 0).any():
        found = f"budget {budget:,}, lowest count {counts.min(initial=0):,}"
        raise InputError("tokens cannot be negative", found=found)
    if len(set(ids)) != len(ids):
        twice = len(ids) - len(set(ids))
        raise InputError(f"{twice:,} documents have an id that another one has", fix="remove duplicates first")
