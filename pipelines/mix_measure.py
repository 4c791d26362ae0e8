"""What a built order really gives: tokens of each component in each phase, and how far from its share it ever is.

How it is used: `measured(mixture.allocation, Order.open(folder))`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curriculum.order import Order, codes_and_names
from mixtures.allocation import Allocation, PhaseAllocation

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """An order held against its allocation.

    Args:
        tokens: by phase and component, in their order in the allocation, shape (phases, components).
        share_error: the largest difference between the share of a component in a phase and the one it is to have there.
        drift: the largest distance, in tokens, of a component from its cumulative share, at the end of any visit.
        drift_of: the component with that distance; drift_at: the token of the run where it is.
    """

    tokens: Ints
    share_error: float
    drift: float
    drift_of: str
    drift_at: int


def measured(allocation: Allocation, order: Order) -> Measured:
    """Count an order's tokens by phase and component, and follow each component's share along it."""
    table = order.table(["length", "source", "phase"])
    length = table["length"].to_numpy().astype(np.int64)
    owner = {source: i for i, one in enumerate(allocation.components) for source in one.sources}
    phase = _numbers(table["phase"], {name: i for i, name in enumerate(allocation.phases)})
    component = _numbers(table["source"], owner)
    n_phases, n = len(allocation.phases), len(allocation.components)
    counted = np.bincount(phase * n + component, weights=length, minlength=n_phases * n)
    tokens = counted.astype(np.int64).reshape(n_phases, n)
    worst, error, begin = (0.0, "", 0), 0.0, 0
    for p, interval in enumerate(allocation.intervals):
        rows = slice(*np.searchsorted(phase, [p, p + 1]).tolist())  # an order reads phase after phase
        away, name, at = _drift(interval, length[rows], component[rows])
        worst = max(worst, (away, name, begin + at))
        whole = np.array([float(interval.tokens)])
        expected = np.array([_expected(interval, i, whole)[0] for i in range(n)])
        error = max(error, float(np.abs(tokens[p] - expected).max()) / interval.tokens)
        begin += interval.tokens
    return Measured(tokens, error, *worst)


def _numbers(names: pa.ChunkedArray, number: dict[str, int]) -> Ints:
    codes, known = codes_and_names(names)
    return np.array([number[name] for name in known], np.int64)[codes]


def _drift(interval: PhaseAllocation, length: Ints, component: Ints) -> tuple[float, str, int]:
    ends = np.cumsum(length)
    worst = (0.0, "", 0)
    for i, row in enumerate(interval.rows):
        away = np.abs(np.cumsum(np.where(component == i, length, 0)) - _expected(interval, i, ends.astype(np.float64)))
        at = int(away.argmax()) if len(away) else 0
        if len(away) and away[at] > worst[0]:
            worst = (float(away[at]), row.component, int(ends[at]))
    return worst


def _expected(interval: PhaseAllocation, i: int, places: Floats) -> Floats:
    """Tokens that component i is to have had after `places` tokens of a phase: the integral of its share."""
    row, ramp = interval.rows[i], interval.ramp_tokens
    start, end = float(row.start_share), float(row.share)
    inside = np.minimum(places, ramp)
    climbed = start * inside + ((end - start) * inside**2 / (2 * ramp) if ramp else 0.0)
    return np.asarray(climbed + end * np.maximum(places - ramp, 0.0))
