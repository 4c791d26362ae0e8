"""What an order costs on Spark, on this one machine, beside DuckDB: the same visits, the same bytes.

A synthetic pool of visits (benchmarks/order.py) lies in one Parquet file; both engines arrange it by each policy, and
one writer writes the files of the order, which are compared byte for byte. Spark is for visits that one machine does
not sort in good time; here it is held to the cores DuckDB has, to know what its passes cost.

Run it:  python -m benchmarks.order_spark --documents 10M --workers 2
"""

import argparse
import filecmp
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from benchmarks.order import make_visits
from corpus.config import parse_count
from curriculum.arrange import stream
from curriculum.kinds import Policy
from curriculum.order import write_order_files
from pipelines.runtime import LocalRuntime, Runtime
from pipelines.spark.runtime import SparkRuntime

POLICIES = ("sorted", "interleaved", "folding")
SHARDS = [f"tokens/{i:05d}.npy" for i in range(1000)]


def seconds(runtime: Runtime, kind: str, visits: Path, folder: Path) -> float:
    """Arrange and write the files of an order; returns how long that took."""
    folder.mkdir(parents=True)
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    policy = TypeAdapter(Policy).validate_python({"kind": kind, "by": "edu"})
    started = time.monotonic()
    batches = stream([visits], policy, engine=runtime.order_engine(scratch))
    write_order_files(folder, batches, name="order", shards=SHARDS)
    return time.monotonic() - started


def same_files(a: Path, b: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    names = sorted(path.name for path in a.iterdir())
    equal, _, _ = filecmp.cmpfiles(a, b, names, shallow=False)
    return sorted(equal) == names == sorted(path.name for path in b.iterdir())


def measure(documents: int, workers: int, place: Path) -> None:
    """Print a row for each policy."""
    visits, small = place / "visits.parquet", place / "small.parquet"
    make_visits(visits, documents)
    make_visits(small, 1000)
    local = LocalRuntime(workers)
    with closing(SparkRuntime(master=f"local[{workers}]", workers=None, scratch=place / "spark")) as spark:
        started = time.monotonic()
        seconds(spark, "interleaved", small, place / "warm")
        print(f"  spark: start, and a first order of 1,000 visits: {time.monotonic() - started:.1f} s", flush=True)
        for kind in POLICIES:
            folders = place / kind / "duckdb", place / kind / "spark"
            taken = [seconds(one, kind, visits, folder) for one, folder in zip((local, spark), folders, strict=True)]
            assert same_files(*folders), kind
            assert pq.read_metadata(folders[1] / "order.parquet").num_rows == documents
            print(
                f"  {kind}: duckdb {taken[0]:.1f} s, spark {taken[1]:.1f} s, ratio {taken[1] / taken[0]:.1f}, equal; "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=parse_count, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where files go meanwhile; else the system's temporary folder")
    arguments = parser.parse_args()
    print(f"{arguments.documents:,} visits, {arguments.workers} cores")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as place:
        measure(arguments.documents, arguments.workers, Path(place))


if __name__ == "__main__":
    main()
