"""Spearman's rank correlation: how far two columns put the same documents, runs or visits in one order."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """The rank correlation of n finite pairs, ties at their mean rank, in [-1, 1].

    None where it is not defined: a side is constant, or n < 2.
    """
    x, y = _centred_ranks(a), _centred_ranks(b)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else None


def _centred_ranks(values: npt.ArrayLike) -> Floats:
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks = np.asarray((np.cumsum(counts) - (counts + 1) / 2)[which], np.float64)
    return ranks - (len(ranks) - 1) / 2
