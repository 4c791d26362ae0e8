"""A base order of three sources with unlike documents, for the tests of online mixtures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.artifacts import InputRef
from curriculum.order import Order, write_order

SOURCES = {"books": (90, 140, 60), "code": (7, 11, 5, 9, 30), "web": (40, 1, 77, 30, 25, 12)}


@dataclass(repr=False)  # its arrays would fill a failing test's report
class Sourced:
    """A base order, its token arrays (a shard a source), and its table."""

    order: Order
    arrays: list[Any]

    @property
    def table(self) -> pa.Table:
        """The base's visits."""
        return self.order.table()

    def line(self, source: str) -> list[dict[str, Any]]:
        """A source's visits in their order."""
        return [row for row in self.table.to_pylist() if row["source"] == source]


def sourced(folder: Path, readings: int = 3, seed: int = 0, vocabulary: int = 128) -> Sourced:
    """Write and open an order that reads every document of SOURCES so many times, shuffled."""
    random = np.random.default_rng(seed)
    arrays, rows = [], []
    for shard, (source, lengths) in enumerate(SOURCES.items()):
        kind = np.random.default_rng(shard).integers(1, vocabulary, 6)  # each source repeats its own tokens
        arrays.append(np.resize(kind, sum(lengths)).astype(np.uint16))
        for visit in range(readings):
            for doc, length in enumerate(lengths):
                rows.append((shard, doc, sum(lengths[:doc]), length, source, visit))
    rows = [rows[i] for i in random.permutation(len(rows))]
    names = ("shard", "doc", "start", "length", "source", "visit")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    scores = pa.array(random.uniform(size=len(rows)), pa.float32())
    table = pa.table({**columns, "phase": ["all"] * len(rows), "rule": ["test"] * len(rows), "score": scores})
    tokens = InputRef(name="tokens", fingerprint="t")
    write_order(folder, table, name="orders/base", fingerprint=f"base-{readings}-{seed}", config={}, inputs=[tokens],
                shards=[f"tokens/{source}.npy" for source in SOURCES])  # fmt: skip
    return Sourced(Order.open(folder), arrays)


def counted(shares: Sequence[float]) -> tuple[float, ...]:
    """Shares that sum to one, for arguments that need not."""
    return tuple((np.array(shares) / np.sum(shares)).tolist())
