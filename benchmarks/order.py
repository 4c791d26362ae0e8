"""How long an order of millions of documents takes to make, beside DuckDB's bare sort of the same rows.

A synthetic pool of visits lies in one Parquet file: `ours` arranges it by a policy and writes the whole artifact (table
with reasons, three arrays, checksums, manifest); the peer runs `COPY (SELECT * FROM visits ORDER BY score) TO ...
(FORMAT parquet, COMPRESSION zstd)` on the same file. Each size runs in a process of its own, whose peak memory is
printed.

Run it:  python -m benchmarks.order --documents 1M 10M 100M --memory 4GB
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.config import parse_count
from curriculum.visits import VISIT_SCHEMA

SOURCES = 20
CHUNK = 1_000_000
POLICIES = ("sorted", "shuffled", "interleaved", "folding")


def make_visits(path: Path, n: int) -> None:
    """Visits of n documents in 20 sources, lengths lognormal around 400 tokens, scores uniform."""
    rng = np.random.default_rng(7)
    schema = pa.schema([*VISIT_SCHEMA, pa.field("edu", pa.float32())])
    names = [f"source{i:02d}" for i in range(SOURCES)]
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for shard, at in enumerate(range(0, n, CHUNK)):
            m = min(CHUNK, n - at)
            length = np.clip(rng.lognormal(6, 0.8, m), 8, 20_000).astype(np.int32)
            source = pa.DictionaryArray.from_arrays(rng.integers(0, SOURCES, m).astype(np.int32), names)
            same = pa.DictionaryArray.from_arrays(np.zeros(m, np.int32), pa.array([""]))
            no = pa.array(np.zeros(m, np.bool_))
            made = {
                "digest": rng.integers(-(2**63), 2**63 - 1, m), "shard": np.full(m, shard, np.int32),
                "doc": np.arange(m, dtype=np.int32), "start": np.cumsum(length, dtype=np.int64) - length,
                "length": length, "source": source, "component": source, "phase": same, "rephrased": no,
                "inherited": no, "visit": np.zeros(m, np.int32), "edu": rng.random(m, np.float32),
            }  # fmt: skip
            arrays = [
                pa.array(made[name]) if isinstance(made[name], np.ndarray) else made[name] for name in schema.names
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=122_880)


def ours(kind: str, visits: Path, folder: Path, memory: str, shards: int) -> int:
    """Arrange and write; returns the tokens of the order."""
    from pydantic import TypeAdapter

    from curriculum.arrange import stream
    from curriculum.duckdb_engine import DuckDBEngine
    from curriculum.kinds import Policy
    from curriculum.order import write_order

    options = {} if kind == "shuffled" else {"by": "edu"}
    policy = TypeAdapter(Policy).validate_python({"kind": kind, **options})
    engine = DuckDBEngine(threads=2, memory=memory, scratch=folder.parent)
    batches = stream([visits], policy, engine=engine)
    names = [f"tokens/{i:05d}.npy" for i in range(shards)]
    made = write_order(folder, batches, name="order", fingerprint="0" * 16, config={}, inputs=[], shards=names)
    return int(made.manifest.totals["tokens"])


def bare(visits: Path, folder: Path, memory: str) -> None:
    """The peer."""
    import duckdb

    with duckdb.connect() as db:
        db.execute(f"SET threads = 2; SET memory_limit = '{memory}'; SET temp_directory = '{folder.parent}/spill'")
        out = folder.parent / "bare.parquet"
        db.execute(f"COPY (SELECT * FROM '{visits}' ORDER BY edu) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")


def check(visits: Path, folder: Path) -> None:
    """The sorted order holds the same rows as the peer's file, score for score."""
    import duckdb

    with duckdb.connect() as db:
        query = "SELECT count(*), sum(length), sum(hash(shard, doc, length))"
        first = db.sql(f"{query} FROM '{visits}'").fetchall()
        assert db.sql(f"{query} FROM '{folder}/order.parquet'").fetchall() == first
        assert db.sql(
            f"SELECT count(*) FROM '{folder.parent}/bare.parquet' a POSITIONAL JOIN '{folder}/order.parquet' b "
            "WHERE a.edu <> b.score"
        ).fetchall() == [(0,)]


def one(what: str, visits: Path, folder: Path, memory: str, n: int) -> None:
    """One measurement, printed as `seconds cpu_seconds peak_gb`."""
    begun, spent = time.perf_counter(), time.process_time()
    if what == "bare":
        bare(visits, folder, memory)
    else:
        ours(what, visits, folder, memory, -(-n // CHUNK))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{time.perf_counter() - begun:.2f} {time.process_time() - spent:.2f} {peak:.2f}")


def measured(what: str, visits: Path, folder: Path, memory: str, n: int, repeats: int) -> float:
    """The fastest of several runs, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.order", "--one", what, str(visits), str(folder), memory, str(n)]
    runs = []
    for _ in range(repeats):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append([float(value) for value in done.stdout.split()])
    seconds, cpu, peak = (min(values) for values in zip(*runs, strict=True))
    print(
        f"  {what:<14}{seconds:8.2f} s {cpu:8.2f} s CPU {n / seconds / 1e6:7.2f} M documents/s {peak:6.2f} GB",
        flush=True,
    )
    return seconds


def main() -> None:
    """Each size and policy, with its ratio to the bare sort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", nargs="+", default=["1M", "10M"])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--memory", default="2GB", help="what DuckDB may hold, ours and the peer's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, visits, folder, memory, n = args.one
        one(what, Path(visits), Path(folder), memory, int(n))
        return
    for text in args.documents:
        n = parse_count(text)
        with tempfile.TemporaryDirectory(dir=args.scratch) as place:
            visits, folder = Path(place) / "visits.parquet", Path(place) / "order"
            make_visits(visits, n)
            print(f"{n:,} documents, {args.memory} for DuckDB")
            peer = measured("bare", visits, folder, args.memory, n, args.repeats)
            for kind in args.policies:
                seconds = measured(kind, visits, folder, args.memory, n, args.repeats)
                if kind == "sorted":
                    check(visits, folder)
                print(f"  {'':<14}{seconds / peer:8.2f} times the bare sort", flush=True)


if __name__ == "__main__":
    main()
