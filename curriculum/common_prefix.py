"""From which token on two orders differ: what a run that changes its mixture halfway keeps of the one before.

How it is used: `common_tokens(Order.open(a), Order.open(b))`.
"""

import numpy as np
import numpy.typing as npt

from curriculum.order import ROW_GROUP_VISITS, Order

Ints = npt.NDArray[np.int64]


def common_tokens(a: Order, b: Order) -> int:
    """How many tokens the two ordered streams have in common before the first that comes from another place.

    A document that one order reads whole and the other in two pieces, one after the other, is the same tokens. Shards
    are known by their names; whether two workspaces hold the same bytes under a name is for `gradatim verify`.
    """
    names = {name: i for i, name in enumerate(a.shards)}
    codes = np.arange(len(a.shards)), np.array([names.get(name, -1 - i) for i, name in enumerate(b.shards)])
    shared = min(a.n_tokens, b.n_tokens)
    low = 0
    while low < shared:
        first, _ = a.visits_between(low, low + 1)
        own = _window(a, first, min(first + ROW_GROUP_VISITS, a.n_visits), low, codes[0])
        high = min(int(own[0][-1]), shared)
        other = _window(b, *b.visits_between(low, high), low, codes[1])
        borders = np.union1d(own[0], other[0])
        places = np.concatenate([[low], borders[(borders > low) & (borders < high)]])
        differ = (_at(own, places) != _at(other, places)).any(axis=1)
        if differ.any():
            return int(places[differ.argmax()])
        low = high
    return shared


def _window(order: Order, first: int, stop: int, low: int, codes: Ints) -> tuple[Ints, Ints, Ints]:
    """Visits [first, stop), of which the first holds token `low`: where each ends, its shard, its first token."""
    table = order.visits(first, stop, ["shard", "start", "length"])
    length = table["length"].to_numpy().astype(np.int64)
    begin = low - (order.locate(low)[1])
    return begin + np.cumsum(length), codes[table["shard"].to_numpy()], table["start"].to_numpy() + length


def _at(window: tuple[Ints, Ints, Ints], places: Ints) -> Ints:
    """Shard and token in it for places of the stream, shape (n, 2)."""
    ends, shard, stop = window
    visit = np.searchsorted(ends, places, side="right")
    return np.stack([shard[visit], stop[visit] - (ends[visit] - places)], axis=1)
