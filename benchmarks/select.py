"""Select by token budget among 2 million scored documents on disk: passes of bounded memory against a sort in memory.

Ours reads the score and token columns shard by shard (`raters.budget_cut.find_cuts`), then cuts every shard. The peers
are polars (read all, sort by score, hash and id, running sum) and our own `take_budget` over columns in memory. polars
is given the hash that breaks ties as a column; ours computes it where it needs it. Each runs in a process of its own,
which reports its CPU time over all threads (without imports) and its highest resident memory; all must name the same
documents.

Run it:  python -m benchmarks.select [documents] [documents a shard]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from benchmarks.filters import machine
from corpus.keyed_random import keyed_hashes
from raters.budget_cut import Chunk, find_cuts
from raters.select import take_budget

SEED = 7
SHARE = 0.15
COLUMNS = ["id", "score", "n_tokens"]


def main() -> None:
    """Write the shards, run each way in its own process, print, and fail if the selections differ."""
    if len(sys.argv) == 4 and sys.argv[1] in WAYS:
        _measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    shard = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    with tempfile.TemporaryDirectory() as folder:
        budget = int(SHARE * _write(Path(folder), n, shard))
        print(f"corpus  {n:,} documents in shards of {shard:,}; budget {budget:,} tokens; {machine()}")
        found = {}
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.select", way, folder, str(budget)]
            runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3)]
            found[way] = min(runs, key=lambda run: run["seconds"])
            times, best = sorted(run["seconds"] for run in runs), found[way]
            print(
                f"{way:<8}{times[0]:6.2f} CPU s ({times[0]:.2f} to {times[-1]:.2f}, 3 runs), "
                f"wall {best['wall']:.2f} s, "
                f"peak {best['peak']:,.0f} MB, {best['imports']:,.0f} MB of it imports; "
                f"{best['documents']:,} documents, {best['tokens']:,} tokens"
            )
    print(
        f"ratio   ours over polars: {found['ours']['seconds'] / found['polars']['seconds']:.2f} of the CPU time, "
        f"{_above(found['ours']) / _above(found['polars']):.2f} of the memory above imports"
    )
    if len({(run["documents"], run["tokens"], run["ids"]) for run in found.values()}) != 1:
        sys.exit("the selections differ")
    print("checked the three selections are the same documents")


def _write(folder: Path, n: int, shard: int) -> int:
    rng = np.random.default_rng(0)
    total = 0
    for start in range(0, n, shard):
        rows = min(shard, n - start)
        ids = [f"{i:032x}" for i in range(start, start + rows)]
        tokens = np.ceil(rng.lognormal(6, 1.2, rows)).astype(np.float32)
        total += int(tokens.sum(dtype=np.float64))
        table = pa.table(
            {
                "id": ids,
                "score": rng.beta(5, 5, rows).astype(np.float32),
                "n_tokens": tokens,
                "hash": keyed_hashes(SEED, ids),
            }
        )
        pq.write_table(table, folder / f"web-00000-{start // shard:05d}.parquet", compression="zstd")
    return total


def ours(folder: Path, budget: int) -> Iterator[tuple[list[str], int]]:
    """Cut in passes; the ids and tokens selected of one shard at a time."""

    def chunk_of(path: Path) -> Chunk:
        table = pq.ParquetFile(path).read(COLUMNS[1:])
        scores = table.column("score").to_numpy().astype(np.float64)
        tokens = table.column("n_tokens").to_numpy().astype(np.int64)

        def ids() -> list[str]:
            return list(pq.ParquetFile(path).read(["id"]).column("id").to_pylist())

        return Chunk(scores, tokens, np.zeros(len(scores), np.int64), ids)

    paths = sorted(folder.iterdir())
    (cut,) = find_cuts(lambda: map(chunk_of, paths), [budget], seed=SEED)
    for path in paths:
        chunk = chunk_of(path)
        mask = cut.takes(chunk.keys, chunk.ids, SEED)
        names = pq.ParquetFile(path).read(["id"]).column("id").filter(pa.array(mask))
        yield names.to_pylist(), int(chunk.tokens[mask].sum())


def polars(folder: Path, budget: int) -> Iterator[tuple[list[str], int]]:
    """Sort everything and cut by the running sum."""
    table = pl.read_parquet(folder / "*.parquet")
    ranked = table.sort(["score", "hash", "id"], descending=[True, False, False])
    chosen = ranked.filter(pl.col("n_tokens").cast(pl.Int64).cum_sum() <= budget)
    yield chosen["id"].to_list(), int(chosen["n_tokens"].cast(pl.Int64).sum())


def in_memory(folder: Path, budget: int) -> Iterator[tuple[list[str], int]]:
    """`take_budget` over whole columns."""
    table = pa.concat_tables([pq.ParquetFile(path).read(COLUMNS) for path in sorted(folder.iterdir())])
    ids = table.column("id").to_pylist()
    chosen = take_budget(table.column("score"), table.column("n_tokens"), budget, seed=SEED, ids=ids)
    yield [ids[row] for row in chosen.rows], chosen.tokens


WAYS: dict[str, Callable[[Path, int], Iterator[tuple[list[str], int]]]] = {
    "ours": ours,
    "polars": polars,
    "memory": in_memory,
}


def _measure(way: str, folder: Path, budget: int) -> None:
    imports = _peak()
    started, wall = time.process_time(), time.perf_counter()
    documents = tokens = together = 0
    for ids, part in WAYS[way](folder, budget):
        documents, tokens = documents + len(ids), tokens + part
        for name in ids:  # a sum of hashes: the same set of ids, in any order
            together = (together + xxhash.xxh3_64_intdigest(name)) % 2**64
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    facts = {"seconds": seconds, "wall": wall, "peak": _peak(), "imports": imports}
    print(json.dumps({**facts, "documents": documents, "tokens": tokens, "ids": together}))


def _above(run: dict[str, float]) -> float:
    return run["peak"] - run["imports"]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
