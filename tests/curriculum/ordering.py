"""A small order written from nothing but lengths and scores, with its token shards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from curriculum.order import ORDER_SCHEMA, Order, encode_names, write_order


def order_table(lengths: Sequence[int], scores: Sequence[float | None] | None = None, seed: int = 0) -> pa.Table:
    """Visits of two shards: documents lie in them in an order drawn under a seed, with a gap of 3 tokens between."""
    n = len(lengths)
    shard = np.arange(n) % 2
    start = np.zeros(n, np.int64)
    rows = np.random.default_rng(seed).permutation(n)
    for each in (0, 1):
        inside = rows[shard[rows] == each]
        sizes = np.asarray(lengths, np.int64)[inside] + 3
        start[inside] = np.cumsum(sizes) - sizes
    names = encode_names(pa.array([""] * n, pa.string()))
    sources = encode_names(pa.array([f"s{each}" for each in shard], pa.string()))
    columns = {
        "shard": shard.astype(np.int32), "doc": np.arange(n, dtype=np.int32), "start": start,
        "length": pa.array(lengths, pa.int32()), "source": sources,
        "phase": names, "visit": np.zeros(n, np.int32), "score": pa.array(scores or [None] * n, pa.float32()),
        "rule": names,
    }  # fmt: skip
    return pa.table(columns, schema=ORDER_SCHEMA)


def written_order(folder: Path, lengths: Sequence[int], scores: Sequence[float | None] | None = None) -> Order:
    """The order of `order_table` as an artifact; its fingerprint follows from the lengths."""
    fingerprint = f"{hash(tuple(lengths)) & (2**64 - 1):016x}"
    fixed = {"name": "orders/a", "fingerprint": fingerprint, "config": {}, "inputs": [], "shards": ["a.npy", "b.npy"]}
    write_order(folder, order_table(lengths, scores), **fixed)
    return Order.open(folder)


def token_arrays(lengths: Sequence[int], dtype: type = np.uint16, seed: int = 1) -> list[np.ndarray]:
    """Random tokens for both shards, large enough for `order_table` of these lengths."""
    rng, size = np.random.default_rng(seed), sum(lengths) + 3 * len(lengths)
    top = np.iinfo(dtype).max if dtype is np.uint16 else 2**31 - 1
    return [rng.integers(0, top, size).astype(dtype) for _ in range(2)]
