"""Whose turn it is where shares may change while a run reads: the source that is furthest behind what it was asked for.

Every token of the stream asks each source for its share of a token; the deficit of a source is what it was asked for
and has not given. At each turn the source with the largest deficit gives its next visit, or a piece of fixed length.
All is counted in whole millionths of a token, so a stream is a pure function of its shares and never depends on how
many calls laid it. Deficits always sum to 0, so the largest is 0 or more: while every source is asked and has visits
left, none is further ahead than its longest turn, and none further behind than the longest turns of the others.

How it is used: `trainer_hooks.online_order.OnlineOrder` lays its visits with it.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixtures.online_shares import MILLION
from mixtures.shares import largest_remainder

Ints = npt.NDArray[np.int64]
ROW, SKIPPED, LENGTH, PASS, END = range(5)
"""Columns of a laid visit: its place in the lines, tokens left out before it, tokens read, pass, end in the stream."""
ENOUGH, FULL, NOTHING_LEFT = -1, -2, -3
"""Why laying stopped; 0 and more: the source whose turn it was and that has nothing left."""


@dataclass
class Turns:
    """Where each source stands: all that the next turn depends on.

    Args:
        lengths: tokens of each visit, the sources' lines one after the other, shape (visits,).
        borders: where each source's line begins, and the end of the last, shape (k + 1,).
        piece: tokens of a turn; 0: the source's next whole visit.
        passes: how often a line may be read.
        leave_out: go on without a source that has nothing left, instead of stopping there.
        position: tokens laid; asked: tokens of which every source has been asked its share.
    """

    lengths: Ints
    borders: Ints
    piece: int
    passes: int
    leave_out: bool
    position: int = 0
    asked: int = 0
    _state: Ints = field(init=False)
    _turn: Ints = field(init=False)

    def __post_init__(self) -> None:
        self._state = np.zeros((4, len(self.borders) - 1), np.int64)  # deficits, next visit, tokens of it gone, passes
        self._state[1] = self.borders[:-1]
        self._turn = np.zeros(2, np.int64)  # the source whose turn is under way, and what is left of it

    def lay(self, shares: tuple[float, ...], until: int, laid: Ints, n: int) -> tuple[int, int]:
        """Lay visits that begin before token `until` into columns n and on of `laid`, shape (5, room).

        Returns the number of columns that are filled then, and why it stopped.
        """
        counts = np.array(largest_remainder(list(shares), MILLION), np.int64)
        self._state[0] += counts * (min(self.position, until) - self.asked)  # where the last visit before reaches over
        n, self.position, why = _compiled()(
            self._state, self._turn, counts, self.lengths, self.borders, self.position, until, self.piece, self.passes,
            self.leave_out, laid, n,
        )  # fmt: skip
        self.asked = min(self.position, until)
        return int(n), int(why)


@functools.cache
def _compiled() -> Any:
    import numba

    return numba.njit(cache=True, nogil=True)(_lay)


def _lay(
    state: Any, turn: Any, shares: Any, lengths: Any, borders: Any, position: int, until: int, piece: int, most: int,
    leave_out: bool, laid: Any, n: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Columns filled, position and reason. Run as it stands, or compiled."""
    deficit, at, gone, passes = state[0], state[1], state[2], state[3]
    while True:
        if turn[1] == 0:
            if position >= until:
                return n, position, ENOUGH
            best = -1
            for i in range(len(shares)):
                if shares[i] == 0 or (leave_out and passes[i] == most):
                    continue
                if best < 0 or deficit[i] > deficit[best] or (deficit[i] == deficit[best] and shares[i] > shares[best]):
                    best = i
            if best < 0:
                return n, position, NOTHING_LEFT
            if passes[best] == most:
                return n, position, best
            turn[0], turn[1] = best, piece if piece else lengths[at[best]]
        source = turn[0]
        if passes[source] == most:  # its line ends amid a piece
            if not leave_out:
                return n, position, source
            turn[1] = 0
            continue
        if n == laid.shape[1]:
            return n, position, FULL
        length = min(turn[1], lengths[at[source]] - gone[source])
        laid[ROW, n], laid[SKIPPED, n], laid[LENGTH, n] = at[source], gone[source], length
        laid[PASS, n], laid[END, n] = passes[source], position + length
        asked = max(min(position + length, until) - position, 0)  # the rest is asked for under the next shares
        for i in range(len(shares)):
            deficit[i] += shares[i] * asked
        deficit[source] -= MILLION * length
        n, position, turn[1], gone[source] = n + 1, position + length, turn[1] - length, gone[source] + length
        if gone[source] == lengths[at[source]]:
            gone[source], at[source] = 0, at[source] + 1
            if at[source] == borders[source + 1]:
                at[source], passes[source] = borders[source], passes[source] + 1
