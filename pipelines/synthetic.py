"""Real and rephrased text in one mixture: how much of it is rephrased, and whether a document may meet its rephrasing.

WRAP trains on a document and on its rephrasing (`pairing: same`, arXiv 2401.16380); `disjoint` leaves a document out
where it was rephrased, so that each content is there once. Rephrasing cannot add what a source lacks and costs breadth:
a mixture that is almost all rephrased is refused unless it is asked for.

How it is used: `check_share(candidates, allocation, settings.max_synthetic)`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curriculum.order import codes_and_names
from mixtures.allocation import Allocation
from mixtures.shares import MixtureError


def unpaired(candidates: pa.Table, ids: pa.ChunkedArray, parents: pa.Table | None) -> pa.Table:
    """The candidates without those that another candidate is a rephrasing of.

    Args:
        candidates: n rows; ids: the n documents' ids.
        parents: `id` and `parent_id` of every rephrasing, or None where there is none.
    """
    if parents is None:
        return candidates
    here = parents.filter(pc.is_in(parents["id"], value_set=ids))
    return candidates.filter(pc.invert(pc.is_in(ids, value_set=here["parent_id"])))


def synthetic_share(candidates: pa.Table, allocation: Allocation) -> float:
    """The share of a mixture's tokens that are rephrased text, in [0, 1].

    Of a component that holds both, as much counts as its documents have.
    """
    codes, names = codes_and_names(candidates["source"])
    lengths = candidates["length"].to_numpy().astype(np.float64)
    rephrased = lengths * candidates["rephrased"].to_numpy(zero_copy_only=False)
    held = np.bincount(codes, lengths, len(names)), np.bincount(codes, rephrased, len(names))
    total = 0.0
    for component in allocation.components:
        own = [code for code, name in enumerate(names) if name in component.sources]
        everything = held[0][own].sum()
        total += component.tokens * held[1][own].sum() / everything if everything else 0.0
    return total / allocation.tokens if allocation.tokens else 0.0


def check_share(candidates: pa.Table, allocation: Allocation, most: float) -> None:
    """Raise MixtureError for a mixture with a larger share of rephrased text than `most`, in [0, 1]."""
    share = synthetic_share(candidates, allocation)
    if share > most + 1e-9:
        raise MixtureError(
            f"{share:.1%} of the mixture is rephrased text",
            expected=f"at most {most:.0%} (max_synthetic): real text keeps what rephrasing loses",
            fix="give real sources a larger share, or set max_synthetic: 100%",
        )
