"""Mixtures for tests: small pools of documents, configurations over them, and their tokens one by one."""

from collections import Counter
from fractions import Fraction

import pyarrow as pa
from hypothesis import strategies as st

from curriculum.arrange import stream
from curriculum.duckdb_engine import DuckDBEngine
from mixtures.allocate import allocate
from mixtures.allocation import Allocation
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.draw import draw
from mixtures.mixed_orders import mixed_orders

NAMES = ("web", "code", "math", "old")
lengths = st.lists(st.integers(1, 30), min_size=1, max_size=25)
pools = st.dictionaries(st.sampled_from(NAMES), lengths, min_size=1)


def config_of(**settings):
    """A configuration without caps to speak of, unless it sets them."""
    return MixtureConfig.model_validate({"max_visits": 10_000, "allow_many_visits": True, **settings})


@st.composite
def weights_for(draw_from, names):
    """A weight for each name, at least one of them above zero."""
    weights = {name: draw_from(st.integers(0, 9)) for name in names}
    if not any(weights.values()):
        weights[draw_from(st.sampled_from(sorted(names)))] = 1
    return {name: {"weight": weight} for name, weight in weights.items()}


@st.composite
def phased(draw_from, names, unit=1, most=60):
    """A configuration with one to three phases in tokens, ramps, and any of the sources in their original sequence."""
    phases = []
    for i in range(draw_from(st.integers(1, 3))):
        tokens = draw_from(st.integers(1, most))
        ramp = draw_from(st.integers(0, tokens)) if i else 0
        sources = draw_from(weights_for(names))
        phases.append({"name": f"p{i}", "tokens": tokens * unit, "ramp": ramp * unit, "sources": sources})
    originals = draw_from(st.sets(st.sampled_from(sorted(names))))
    base = {name: {"weight": 1, "sequence": "original" if name in originals else "shuffled"} for name in names}
    return config_of(sources=base, phases=phases, turns=unit if unit > 1 else None)


def allocated(table, config):
    """An allocation of a table of candidates."""
    return allocate(available(table, config), config)


def drawn(table, config, seed=3):
    """An allocation and its visits."""
    allocation = allocated(table, config)
    return allocation, draw(table, allocation, seed)


def in_order(allocation: Allocation, visits: pa.Table, seed=3) -> list[dict]:
    """Visits as the mixture's own order reads them."""
    batches = stream(visits, mixed_orders(allocation, seed), phases=allocation.phases, engine=DuckDBEngine(threads=1))
    return pa.Table.from_batches(list(batches)).to_pylist()


def tokens_in(visits: list[dict]) -> list[tuple[int, int]]:
    """Shard and place in the shard of every token, in the order of the visits."""
    return [(visit["shard"], visit["start"] + i) for visit in visits for i in range(visit["length"])]


def share_at(row, interval, place) -> Fraction:
    """A component's share in the middle of a token, straight from the definition of a ramp."""
    if place >= interval.ramp_tokens:
        return row.share
    part = (place + Fraction(1, 2)) / interval.ramp_tokens
    return row.start_share * (1 - part) + row.share * part


def hamilton(masses: list[Fraction], total: int) -> list[int]:
    """Largest remainder, by the book."""
    counts = [mass // 1 for mass in masses]
    behind = sorted(range(len(masses)), key=lambda i: (-(masses[i] - counts[i]), i))
    for i in behind[: total - sum(counts)]:
        counts[i] += 1
    return [int(count) for count in counts]


def multiset(visits: list[dict]) -> Counter:
    """How often each token is read."""
    return Counter(tokens_in(visits))
