"""How long an order takes to make and to read, beside the plain sort of the same rows in DuckDB and Polars.

A synthetic pool of documents in three sources: allocate, draw, arrange by each policy, write, read at random and in
turn. The sorts by score in DuckDB and Polars write the same columns to Parquet; what they lack is the hash for ties,
the merge of sources, the reasons, and the arrays. Every answer is checked before its time is printed.

Run it:  python -m benchmarks.order --documents 1000000
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.shards import write_table
from corpus.tokens import DOCS_SCHEMA
from curriculum.describe import describe
from curriculum.order import Order, as_order, write_order
from curriculum.policies import Interleaved, Shuffled, Sorted, arrange
from curriculum.visits import candidates, same_visits
from mixtures.mixture import MixtureConfig, allocate, available, draw

SHARES = {"web": 0.7, "code": 0.2, "wrap": 0.1}
SEQUENCE_TOKENS = 2048
T = TypeVar("T")


def timed(label: str, work: Callable[[], T], per: float, unit: str, repeats: int = 3) -> T:
    """Run a piece of work, print the times of its fastest run by the clock and of its cheapest by the processor."""
    clock, processor = [], []
    for _ in range(repeats):
        begun, spent = time.perf_counter(), time.process_time()
        result = work()
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - spent)
    rate = per / min(clock) / 1e6
    print(f"  {label:<44}{min(clock):7.2f} s  {min(processor):7.2f} s CPU  {rate:7.2f} M {unit}/s", flush=True)
    return result


def shards_of(n: int) -> list[tuple[str, pa.Table]]:
    """Document tables of one shard a source, lengths lognormal around 400 tokens."""
    rng = np.random.default_rng(7)
    shards = []
    for name, share in SHARES.items():
        length = np.clip(rng.lognormal(6, 0.8, round(n * share)), 8, 20_000).astype(np.int32)
        start = np.cumsum(length, dtype=np.int64) - length
        high, low = rng.integers(0, 2**63, (2, len(length)))
        ids = [f"{a:016x}{b:016x}" for a, b in zip(high.tolist(), low.tolist(), strict=True)]
        columns = [ids, start, length, [name] * len(ids), length]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, DOCS_SCHEMA, strict=True)]
        shards.append((name, pa.Table.from_arrays(arrays, schema=DOCS_SCHEMA)))
    return shards


def make(folder: Path, shards: list[tuple[str, pa.Table]], n: int) -> tuple[pa.Table, Order]:
    """Time every step from document tables to a finished order."""
    ids = pa.concat_arrays([chunk for _, docs in shards for chunk in docs["id"].chunks])
    scores = pa.table({"id": ids, "score": np.random.default_rng(8).random(len(ids), np.float32)})
    pool = timed("candidates, with their scores joined", lambda: candidates(shards, scores), n, "documents")
    held = available(pool)
    tokens = int(1.2 * sum(count for _, count in held.values()))
    allocation = allocate(held, MixtureConfig(sources={"web": 0.5, "code": 0.3, "wrap": 0.2}, tokens=tokens))
    visits = timed("draw, about 1.2 epochs", lambda: draw(pool, allocation, seed=1), n, "documents")
    per = visits.num_rows
    arms = [
        timed(f"arrange: {policy.kind}", lambda policy=policy: arrange(visits, policy), per, "visits")  # type: ignore[misc]
        for policy in (Shuffled(), Sorted(by="x"), Interleaved(by="x"))
    ]
    assert all(same_visits(arm, visits) for arm in arms)
    shown = [name for name, _ in shards]
    fixed = {"name": "order/x", "fingerprint": "0" * 16, "config": {}, "inputs": [], "shards": shown}
    timed("write the artifact", lambda: write_order(folder, arms[2], **fixed), per, "visits")  # type: ignore[arg-type]
    timed("describe it", lambda: describe(arms[2]), per, "visits")
    order = Order.open(folder)
    assert order.n_tokens == tokens
    return visits, order


def peers(folder: Path, visits: pa.Table) -> None:
    """The same rows sorted by score and written to Parquet: by our policy and writer, by Polars, by DuckDB."""
    table, per = as_order(visits), visits.num_rows
    path = folder / "sorted.parquet"
    want = np.sort(visits["score"].to_numpy())

    for label, work in (
        ("ours: arrange sorted, write Parquet", lambda: write_table(path, as_order(arrange(visits, Sorted(by="x"))))),
        ("polars: sort by score, write Parquet", lambda: pl.from_arrow(table).sort("score").write_parquet(path)),  # type: ignore[union-attr]
    ):
        timed(label, work, per, "visits")
        assert (pq.read_table(path)["score"].to_numpy() == want).all()
    con = duckdb.connect()
    con.register("rows", table)
    copy = f"COPY (SELECT * FROM rows ORDER BY score) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
    timed("duckdb: sort by score, write Parquet", lambda: con.execute(copy), per, "visits")
    assert (pq.read_table(path)["score"].to_numpy() == want).all()


def read(order: Order, shards: list[tuple[str, pa.Table]], samples: int) -> None:
    """Read sequences in turn and at random; the whole is compared with documents laid end to end."""
    sizes = [int(docs["length"].to_numpy().sum(dtype=np.int64)) for _, docs in shards]
    arrays = [np.arange(size, dtype=np.uint32).astype(np.uint16) for size in sizes]
    samples = min(samples, order.n_tokens // SEQUENCE_TOKENS)
    first = order.table(["shard", "start", "length"]).slice(0, 2_000).to_pylist()
    want = np.concatenate([arrays[v["shard"]][v["start"] : v["start"] + v["length"]] for v in first])
    assert (order.read(0, len(want), arrays) == want).all()
    in_turn = np.arange(samples)
    at_random = np.random.default_rng(9).integers(0, order.n_tokens // SEQUENCE_TOKENS, samples)
    for label, which in (("in turn", in_turn), ("at random", at_random)):
        begins = (which * SEQUENCE_TOKENS).tolist()
        timed(
            f"read sequences of {SEQUENCE_TOKENS:,} tokens {label}",
            lambda begins=begins: [order.read(a, a + SEQUENCE_TOKENS, arrays) for a in begins],  # type: ignore[misc]
            samples * SEQUENCE_TOKENS,
            "tokens",
        )


def main() -> None:
    """Run all of it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=50_000)
    args = parser.parse_args()
    shards = shards_of(args.documents)
    with tempfile.TemporaryDirectory() as place:
        visits, order = make(Path(place) / "order", shards, args.documents)
        print(f"  {visits.num_rows:,} visits, {order.n_tokens:,} tokens")
        peers(Path(place), visits)
        read(order, shards, args.samples)


if __name__ == "__main__":
    main()
