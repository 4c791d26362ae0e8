"""How long it takes to turn a mixture of 20 sources into an order on disk, beside DuckDB's bare sort of the same rows.

Documents of 20 sources of unlike sizes and lengths, two phases and a ramp: allocate, draw, sort by place, write the
artifact. The peer sorts the drawn rows by their place and writes the columns of an order to Parquet; it draws
nothing, and writes no arrays for a loader. Counts, and the shares along the run, are checked before a time is printed.

Run it:  python -m benchmarks.mixture --visits 10000000 --threads 2
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curriculum.arrange import stream
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import Order, write_order
from curriculum.visits import CANDIDATE_SCHEMA, same_visits
from mixtures.allocate import allocate
from mixtures.allocation import Allocation
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.draw import draw
from mixtures.mixed_orders import mixed_orders
from mixtures.ramps import given

N_SOURCES = 20
T = TypeVar("T")


def timed(label: str, work: Callable[[], T], repeats: int) -> tuple[T, float]:
    """Run a piece of work, print the times of its fastest run by the clock and of its cheapest by the processor.

    Returns its result and the clock's time.
    """
    clock, processor = [], []
    for _ in range(repeats):
        begun, spent = time.perf_counter(), time.process_time()
        result = work()
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - spent)
    print(f"  {label:<44}{min(clock):7.2f} s  {min(processor):7.2f} s CPU", flush=True)
    return result, min(clock)


def candidates(n: int) -> pa.Table:
    """Documents of 20 sources, the largest 20 times the smallest, lengths lognormal with a median by source."""
    rng = np.random.default_rng(7)
    sizes = np.linspace(1, 20, N_SOURCES)
    source = np.sort(rng.choice(N_SOURCES, n, p=sizes / sizes.sum())).astype(np.int32)
    length = np.clip(rng.lognormal(5 + source / N_SOURCES, 0.8), 8, 20_000).astype(np.int32)
    begins = np.searchsorted(source, np.arange(N_SOURCES))
    before = np.cumsum(length, dtype=np.int64) - length
    names = pa.array([f"source-{i:02d}" for i in range(N_SOURCES)])
    columns = {
        "digest": rng.integers(-(2**63), 2**63, n),
        "shard": source,
        "doc": (np.arange(n) - begins[source]).astype(np.int32),
        "start": before - before[begins][source],
        "length": length,
        "source": pa.DictionaryArray.from_arrays(pa.array(source), names),
        "rephrased": np.zeros(n, np.bool_),
        "inherited": np.zeros(n, np.bool_),
    }
    return pa.table({name: columns[name] for name in CANDIDATE_SCHEMA.names}, schema=CANDIDATE_SCHEMA)


def mixture(tokens: int) -> MixtureConfig:
    """Even shares for most of the run, then on a ramp to twice as much of the first half of the sources."""
    names = [f"source-{i:02d}" for i in range(N_SOURCES)]
    later = {name: {"weight": 2.0 if i < N_SOURCES // 2 else 1.0} for i, name in enumerate(names)}
    phases = [
        {"name": "stable", "tokens": "80%"},
        {"name": "anneal", "tokens": "20%", "ramp": "5%", "sources": later},
    ]
    sources = {name: {"weight": float(20 + i)} for i, name in enumerate(names)}
    return MixtureConfig.model_validate({"tokens": tokens, "sources": sources, "phases": phases, "max_visits": 100,
                                         "allow_many_visits": True})  # fmt: skip


def check_shares(order: Order, allocation: Allocation) -> float:
    """The largest distance of a source's tokens from its share, over all prefixes of every phase, in tokens."""
    table = order.table(["length", "source", "phase"])
    worst = 0.0
    for interval in allocation.intervals:
        part = table.filter(pc.equal(table["phase"].cast(pa.string()), interval.name))
        length, source = part["length"].to_numpy(), part["source"].cast(pa.string()).to_numpy(zero_copy_only=False)
        at = np.cumsum(length)
        sampled = np.linspace(0, len(at) - 1, 200).astype(np.int64)
        for row in interval.rows:
            own = np.cumsum(np.where(source == row.component, length, 0))[sampled]
            line = (row.start_share, row.share, interval.ramp_tokens)
            want = np.array([float(given(int(place), *line)) for place in at[sampled]])
            worst = max(worst, float(np.abs(own - want).max()))
    return worst


def main() -> None:
    """Run all of it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    pool = candidates(int(args.visits * 0.575))
    tokens = int(pool["length"].to_numpy().sum(dtype=np.int64) / 0.7)
    config = mixture(tokens)
    shards = [f"source-{i:02d}" for i in range(N_SOURCES)]
    engine = DuckDBEngine(threads=args.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "order"

        def made() -> tuple[Allocation, pa.Table]:
            allocation = allocate(available(pool, config), config)
            return allocation, draw(pool, allocation, seed=1)

        def written(allocation: Allocation, visits: pa.Table) -> None:
            batches = stream(visits, mixed_orders(allocation, 1), phases=allocation.phases, engine=engine)
            write_order(folder, batches, name="order/x", fingerprint="0" * 16, config={}, inputs=[], shards=shards)

        (allocation, visits), drawing = timed("allocate and draw", made, args.repeats)
        _, writing = timed("sort by place and write the order", lambda: written(allocation, visits), args.repeats)
        order = Order.open(folder)
        assert order.n_tokens == tokens
        assert same_visits(order.table(), visits)
        bare = Path(place) / "bare.parquet"
        _, peer = timed(
            "duckdb: ORDER BY place, write Parquet", lambda: sort_bare(visits, bare, args.threads), args.repeats
        )
        print(f"  {visits.num_rows:,} visits of {pool.num_rows:,} documents, {tokens:,} tokens")
        print(f"  in all {drawing + writing:.2f} s, {(drawing + writing) / peer:.2f} times the bare sort")
        print(f"  no source strays further than {check_shares(order, allocation):,.0f} tokens from its share")
        print(f"  most memory held: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def sort_bare(visits: pa.Table, path: Path, threads: int) -> None:
    """The columns of an order, sorted by phase and place."""
    with duckdb.connect() as db:
        db.execute(f"SET threads = {threads}")
        db.register("visits", visits)
        columns = "shard, doc, start, length, source, phase, visit, CAST(NULL AS FLOAT) AS score, '' AS rule"
        db.execute(f"COPY (SELECT {columns} FROM visits ORDER BY phase DESC, place) TO '{path}' (COMPRESSION zstd)")


if __name__ == "__main__":
    main()
