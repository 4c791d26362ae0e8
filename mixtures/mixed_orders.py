"""The mixture's own order for each phase of an allocation.

How it is used: `stream(visits, mixed_orders(allocation, seed), phases=allocation.phases, engine=engine)`.
"""

from curriculum.policies.mixed import Mixed
from mixtures.allocation import Allocation


def mixed_orders(allocation: Allocation, seed: int) -> dict[str, Mixed]:
    """The policy `mixed` for each phase; `seed` is that of the draw, and decides between equal places."""
    return {phase: Mixed(seed=seed) for phase in allocation.phases}
