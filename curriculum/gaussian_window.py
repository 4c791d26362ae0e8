"""A Gaussian window that moves up the line of scores, drawn from with replacement: documents may be read several times.

The rank r is drawn with probability proportional to exp(-((r - centre) / sigma)^2 / 2); feedback from training moves
the centre. Because documents repeat, the result is not an arrangement of given visits: report how often each was
drawn. For the exact multiset, the policy `gauss_key` orders by a window of the same shape. Give sigma as a share of
the line; the 1,000 ranks of the original mean nothing at another size.

How it is used: `window_order(ranked, tokens, Window(len(ranked), sigma=0.1))`, or `window.draw(...)` step by step with
`window.moved(gain(accuracy, angle))`; a `Window` is all the state there is. Source: GAIN-RL (2506.02281).
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.keyed_random import keyed_hashes
from curriculum.arrangement import Ints
from curriculum.order import ORDER_SCHEMA, OrderError, encode_names

Floats = npt.NDArray[np.float64]
_FINEST = 2**20  # weights are whole numbers of this; a rank further than 5 sigma from the centre has weight 0
_MOST_BLOCKS = 2**20  # longer lines are drawn from in blocks of neighbouring ranks


def window_shares(n: int, centre: float, sigma: float) -> Floats:
    """The probability of each rank, shape (n,); `centre` and `sigma` in ranks, sigma above 0."""
    weights = np.exp(-0.5 * np.square((np.arange(n) - centre) / sigma))
    return np.asarray(weights / weights.sum())


def gain(accuracy: float, angle: float, *, step: float = 500.0, slope: float = 2.0, target: float = 0.5) -> float:
    """How far the centre moves up after a training step, in ranks of the original's line; in [0, 2 x step].

    Args:
        accuracy: mean reward of the step, in [0, 2].
        angle: mean angle concentration of the step's documents.
        step, slope, target: n, a and b of the rule clamp(n tanh(a (accuracy / 2 - b)) + n tanh(a angle), 0, 2 n).

    Source: GAIN-RL (2506.02281), as its code has it.
    """
    moved = step * np.tanh(slope * (accuracy / 2 - target)) + step * np.tanh(slope * angle)
    return float(np.clip(moved, 0.0, 2 * step))


@dataclass(frozen=True)
class Window:
    """The state of drawing: keep its fields in a checkpoint and nothing else.

    Args:
        ranks: documents in the line.
        sigma: of the window, as a share of the line, above 0.
        seed: of the draws.
        centre: rank in the middle of the window, in [0, ranks - 1].
        drawn: how many draws were made before.
    """

    ranks: int
    sigma: float
    seed: int = 0
    centre: float = 0.0
    drawn: int = 0

    def __post_init__(self) -> None:
        """Raise OrderError for a line without documents or a window without a width."""
        if self.ranks < 1 or not self.sigma > 0:
            raise OrderError(
                "a Gaussian window needs documents and a width",
                expected="ranks at least 1, sigma above 0",
                found=f"ranks {self.ranks}, sigma {self.sigma:g}",
                where="order.sigma",
            )

    def draw(self, count: int) -> tuple[Ints, Self]:
        """Ranks drawn with replacement, shape (count,), and the state after it.

        A draw depends on the seed, its number and the window alone, so drawing 3 and then 2 gives the same as 5.
        """
        width = -(-self.ranks // _MOST_BLOCKS)
        first = np.arange(0, self.ranks, width)
        size = np.minimum(width, self.ranks - first)
        middle = first + (size - 1) / 2
        weights = np.rint(np.exp(-0.5 * np.square((middle - self.centre) / (self.sigma * self.ranks))) * _FINEST)
        total = np.cumsum(weights.astype(np.int64) * size)
        keys = [str(number) for number in range(self.drawn, self.drawn + count)]
        block = np.searchsorted(
            total, (keyed_hashes(self.seed, keys) % np.uint64(total[-1])).astype(np.int64), side="right"
        )
        inside = keyed_hashes(self.seed + 1, keys) % size[block].astype(np.uint64)
        return first[block] + inside.astype(np.int64), replace(self, drawn=self.drawn + count)

    def moved(self, ranks: float) -> Self:
        """The window further up the line, at most at its end."""
        return replace(self, centre=float(np.clip(self.centre + ranks, 0, self.ranks - 1)))


def window_order(ranked: pa.Table, tokens: int, window: Window, *, rounds: int = 1000) -> tuple[pa.Table, Window]:
    """An order drawn from a window whose centre moves evenly, by tokens, from where it is to the end of the line.

    Args:
        ranked: ORDER_SCHEMA, each document once, from the first of the line to the last.
        tokens: to draw; the visit that reaches this number is the last.
        window: over as many ranks as `ranked` has rows.
        rounds: how often the centre is moved.

    Returns: ORDER_SCHEMA, `visit` counting the readings of each document, and the state at the end.

    Raises: OrderError for a window over another line, or tokens below 1.
    """
    if window.ranks != ranked.num_rows or tokens < 1:
        raise OrderError(
            "this window is not one over the documents given",
            expected=f"a window over {ranked.num_rows:,} ranks, and 1 token or more",
            found=f"{window.ranks:,} ranks, {tokens:,} tokens",
        )
    lengths = ranked["length"].to_numpy().astype(np.int64)
    at_once = max(1, int(tokens / lengths.mean() / rounds))
    start, read, drawn = window.centre, 0, [np.empty(0, np.int64)]
    while read < tokens:
        window = replace(window, centre=start + (window.ranks - 1 - start) * (read / tokens))
        ranks, window = window.draw(at_once)
        drawn.append(ranks)
        read += int(lengths[ranks].sum())
    ranks = np.concatenate(drawn)
    ranks = ranks[: int(np.searchsorted(np.cumsum(lengths[ranks]), tokens)) + 1]
    return _visits(ranked, ranks, f"gaussian_window, sigma {window.sigma:g}"), window


def _visits(ranked: pa.Table, ranks: Ints, rule: str) -> pa.Table:
    """Rows of the line, numbered by how often each was read before."""
    rows = np.argsort(ranks, kind="stable")
    new = np.r_[True, np.diff(ranks[rows]) != 0]
    first = np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
    visit = np.empty(len(rows), np.int32)
    visit[rows] = np.arange(len(rows)) - first
    order = ranked.select(ORDER_SCHEMA.names).take(pa.array(ranks))
    for name, values in (
        ("visit", pa.array(visit)),
        ("rule", encode_names(pa.array([rule] * len(ranks), pa.string()))),
    ):
        order = order.set_column(order.schema.get_field_index(name), ORDER_SCHEMA.field(name), values)
    return order.combine_chunks()
