"""Choose which documents to rephrase when the budget does not reach all of them.

A budget limits documents, requests, generated tokens or GPU-hours. What a document will cost is an estimate, since
nobody knows an output's length before it is there; the run itself counts what it really spends (`Allowance`) and stops
at its limit. The choice depends on the seed and each document's id, or on a score with the draw breaking ties; never on
the order in which documents arrive. Only whole documents are chosen: half a document teaches half a thought.

How it is used:  chosen = choose(candidates, budget, order=preference(ids, seed, scores))
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import Field

from corpus.config import Config, Count
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
SECONDS = 3600


class Budget(Config):
    """How much to rephrase, all styles together; the first limit that is met ends it. Null: no limit."""

    documents: Count | None = Field(None, description="at most this many documents")
    requests: Count | None = Field(None, description="at most this many requests to the model, retries apart")
    tokens: Count | None = Field(None, description="at most this many generated tokens")
    gpu_hours: float | None = Field(None, gt=0, description="at most these GPU-hours, at the rate given or measured")
    max_requests: int | None = Field(None, ge=1, description="a style skips documents that need more requests each")

    @property
    def is_open(self) -> bool:
        """Whether nothing limits the total."""
        return self.documents is None and self.requests is None and self.tokens is None and self.gpu_hours is None

    def in_tokens(self, rate: float | None) -> "Budget":
        """The budget with its GPU-hours as tokens. `rate`: generated tokens per second and GPU.

        Raises ConfigError when there are GPU-hours and no rate.
        """
        if self.gpu_hours is None:
            return self
        if rate is None:
            raise ConfigError(
                f"a budget of {self.gpu_hours:g} GPU-hours needs to know how many tokens a GPU makes in one",
                fix="give --rate TOKENS_PER_SECOND, or --measure it first",
            )
        tokens = int(self.gpu_hours * SECONDS * rate)
        return self.model_copy(update={"gpu_hours": None, "tokens": min(tokens, self.tokens or tokens)})


@dataclass(frozen=True)
class Candidates:
    """Documents and what each style would cost.

    Args:
        wanted: which styles each document should get, shape (n, n styles).
        requests: requests each would take, shape (n, n styles); 0 where the document is too short or too long for it.
        n_out: output tokens each is expected to take, shape (n, n styles).
    """

    wanted: Marks
    requests: Ints
    n_out: Ints


@dataclass(frozen=True)
class Chosen:
    """What is rephrased, shape (n, n styles), and why documents are not.

    `passed_over` counts documents that get nothing: `not_wanted` (no style for it), `length` (too short or too long for
    its styles), `too_many_requests`, `over_quota`, `over_budget` (it did not fit any more) and `not_reached`.
    `styles_left_out` counts, by the same reasons, styles that chosen documents do not get.
    """

    marks: Marks
    passed_over: Counter[str] = field(default_factory=Counter)
    styles_left_out: Counter[str] = field(default_factory=Counter)


def preference(ids: Sequence[str], seed: int, scores: Floats | None = None) -> Ints:
    """Rows in the order in which they are chosen: by falling score, a missing one (NaN) last, ties by keyed draw.

    Without scores by the draw alone. Raises ConfigError when scores and documents differ in number.
    """
    if scores is not None and len(scores) != len(ids):
        raise ConfigError(f"{len(ids):,} documents came with {len(scores):,} scores", expected="one score a document")
    draws = keyed_hashes(seed, ids)
    keys = np.zeros(len(ids)) if scores is None else np.where(np.isnan(scores), np.inf, -scores)
    order: Ints = np.lexsort((np.array(ids, dtype=np.str_), draws, keys)).astype(np.int64)
    return order


def choose(
    candidates: Candidates, budget: Budget, *, order: Ints, caps: Mapping[int, float] | None = None, of: str = "tokens"
) -> Chosen:
    """Choose documents in `order` until the budget is used; where one does not fit any more the next ones are tried.

    Args:
        budget: without GPU-hours; see `Budget.in_tokens`.
        order: all rows, those to choose first first.
        caps: the most that a style, by its column, may have of the budget's tokens or documents, in [0, 1].
        of: "tokens" or "documents": what the caps are shares of; without that limit they hold nothing back.
    """
    assert budget.gpu_hours is None, "GPU-hours are turned into tokens first"
    long = candidates.wanted & (candidates.requests > (budget.max_requests or np.iinfo(np.int64).max))
    short = candidates.wanted & (candidates.requests == 0)
    open_pairs = candidates.wanted & ~long & ~short
    reasons = np.where(open_pairs, "", np.where(long, "too_many_requests", np.where(short, "length", "not_wanted")))
    if budget.is_open:
        return _chosen(open_pairs, reasons, candidates.wanted)
    return _spend(candidates, open_pairs, reasons, budget, order, _limits(budget, caps or {}, of), of)


def _spend(
    candidates: Candidates, open_pairs: Marks, reasons: npt.NDArray[np.str_], budget: Budget, order: Ints,
    limits: dict[int, float], of: str,
) -> Chosen:  # fmt: skip
    marks = np.zeros_like(open_pairs)
    reasons = reasons.astype("<U20")
    rows = order[open_pairs[order].any(axis=1)]
    requests = np.where(open_pairs, candidates.requests, 0)
    n_out = np.where(open_pairs, candidates.n_out, 0)
    left = _Left(budget)
    most = np.iinfo(np.int64).max
    smallest = (int(requests[open_pairs].min(initial=most)), int(n_out[open_pairs].min(initial=most)))
    spent = np.zeros(open_pairs.shape[1])
    for place, row in enumerate(rows.tolist()):
        if not left.fits(*smallest):
            rest = rows[place:]
            reasons[rest] = np.where(open_pairs[rest], "not_reached", reasons[rest])
            break
        mine = open_pairs[row].copy()
        costs = n_out[row] if of == "tokens" else np.ones(len(mine))
        for at, limit in limits.items():
            if mine[at] and spent[at] + costs[at] > limit:
                mine[at], reasons[row, at] = False, "over_quota"
        if not mine.any():
            continue
        if left.take(int(requests[row, mine].sum()), int(n_out[row, mine].sum())):
            marks[row] = mine
            spent += np.where(mine, costs, 0)
        else:
            reasons[row, mine] = "over_budget"
    return _chosen(marks, reasons, candidates.wanted)


class _Left:
    """What is left of a budget."""

    def __init__(self, budget: Budget) -> None:
        most = float("inf")
        self.documents = most if budget.documents is None else budget.documents
        self.requests = most if budget.requests is None else budget.requests
        self.tokens = most if budget.tokens is None else budget.tokens

    def fits(self, requests: int, tokens: int) -> bool:
        """Whether one more document of this cost may be taken."""
        return self.documents >= 1 and self.requests >= max(1, requests) and self.tokens >= max(1, tokens)

    def take(self, requests: int, tokens: int) -> bool:
        """Take one document if it fits."""
        if not self.fits(requests, tokens):
            return False
        self.documents -= 1
        self.requests -= requests
        self.tokens -= tokens
        return True


def _limits(budget: Budget, caps: Mapping[int, float], of: str) -> dict[int, float]:
    total = budget.tokens if of == "tokens" else budget.documents
    return {} if total is None else {at: share * total for at, share in caps.items()}


def _chosen(marks: Marks, reasons: npt.NDArray[np.str_], wanted: Marks) -> Chosen:
    """Count why rows have no mark: the first reason of a row, in the order of styles, that is not `not_wanted`."""
    passed, partly = Counter[str](), Counter[str]()
    for row in np.flatnonzero((wanted & ~marks).any(axis=1) | ~marks.any(axis=1)).tolist():
        said = [str(reason) for reason in reasons[row][wanted[row] & ~marks[row]]]
        if marks[row].any():
            partly.update(said)
        else:
            passed[said[0] if said else "not_wanted"] += 1
    return Chosen(marks, passed, partly)


@dataclass
class Allowance:
    """What a part of the run may spend, and what it has spent: the budget as the run itself keeps it.

    A part stops before the next group of documents once either limit is met, so it may exceed it by one group.
    """

    requests: int | None = None
    tokens: int | None = None
    spent_requests: int = 0
    spent_tokens: int = 0

    def spend(self, requests: int, tokens: int) -> None:
        """Count requests that were answered and the tokens that were generated for them, stored ones included."""
        self.spent_requests += requests
        self.spent_tokens += tokens

    @property
    def is_used(self) -> bool:
        """Whether nothing more should begin."""
        return (self.requests is not None and self.spent_requests >= self.requests) or (
            self.tokens is not None and self.spent_tokens >= self.tokens
        )
