"""How fast an order is read and resumed, beside `interleave_datasets` and MosaicML Streaming on the same tokens.

Four shards of documents (lognormal lengths around 500 tokens) are read once through in a permuted order, as the int64
inputs and targets of batches, by one process with one thread. The peers read the same documents: `datasets` with one
stream a shard, interleaved, with a shuffle buffer, laid end to end; Streaming with samples of the same length that were
cut beforehand, shuffled. Then orders of 1, 10 and 100 million visits over the same shards are opened and resumed at
random places, with their arrays in the page cache and dropped from it. Every reading is checked: the sum of all token
ids, and batches after a resume against visits laid end to end.

Run it:  python -m benchmarks.loader --streaming-python OTHER/bin/python       (an environment with mosaicml-streaming,
         which needs an older huggingface-hub than transformers does; without it that peer is left out)
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from corpus.artifacts import begin, describe_part, finish, own_files
from corpus.tokens import DOCS_SCHEMA, Ids, read_docs, write_token_shard
from curriculum.order import Order
from curriculum.order_shards import TokenShards
from pipelines.interchange import to_dataset
from trainer_hooks.loader import OrderedLoader

T, BATCH, SHARDS, BUFFER = 2048, 256, 4, 10_000


def make_tokens(folder: Path, tokens: int) -> list[Path]:
    """Write the shards; token ids are random, so that no sum comes out right by chance."""
    rng, paths = np.random.default_rng(7), []
    begin(folder, "benchmark")
    for number in range(SHARDS):
        length = np.clip(rng.lognormal(5.9, 0.8, tokens // SHARDS // 500), 8, 20_000).astype(np.int32)
        start = np.cumsum(length, dtype=np.int64) - length
        columns = [[f"{number}-{i}" for i in range(len(length))], start, length, [f"s{number}"] * len(length), length]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, DOCS_SCHEMA, strict=True)]
        ids = rng.integers(0, 50_000, int(length.sum()), np.uint16)
        paths.append(folder / f"s{number}-00000.npy")
        write_token_shard(paths[-1], ids, pa.Table.from_arrays(arrays, schema=DOCS_SCHEMA))
    parts = [describe_part(folder, path) for path in own_files(folder)]
    finish(folder, kind="tokens", name="tokens", fingerprint="benchmark", config={}, inputs=[], parts=parts, totals={})
    return paths


def make_order(folder: Path, paths: list[Path], visits: int | None) -> Order:
    """An order's arrays: every document once in a permuted order, or so many visits of documents drawn at random."""
    docs = [read_docs(path) for path in paths]
    shard = np.repeat(np.arange(SHARDS, dtype=np.int32), [d.num_rows for d in docs])
    start, length = (np.concatenate([d[name].to_numpy() for d in docs]) for name in ("start", "length"))
    rng = np.random.default_rng(11)
    begin(folder, str(visits))
    n = len(shard) if visits is None else visits
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (n,))
        for name, dtype in (("ends", np.int64), ("shard", np.int32), ("start", np.int64))
    }
    whole, end = rng.permutation(n) if visits is None else None, 0
    for at in range(0, n, 1_000_000):
        stop = min(at + 1_000_000, n)
        rows = rng.integers(0, len(shard), stop - at) if whole is None else whole[at:stop]
        arrays["ends"][at:stop] = end + np.cumsum(length[rows], dtype=np.int64)
        arrays["shard"][at:stop], arrays["start"][at:stop] = shard[rows], start[rows]
        end = int(arrays["ends"][stop - 1])
    for array in arrays.values():
        array.flush()
    parts = [describe_part(folder, path) for path in own_files(folder)]
    config = {"shards": [f"tokens/{path.name}" for path in paths]}
    finish(
        folder, kind="order", name="order", fingerprint=str(visits), config=config, inputs=[], parts=parts, totals={}
    )
    return Order.open(folder)


def timed(label: str, work: Callable[[], tuple[int, int]], repeats: int = 3) -> float:
    """Run a reading that returns (tokens, sum of their ids); print and return its best speed, in M tokens/s."""
    clock, processor = [], []
    for _ in range(repeats):
        begun, spent = time.perf_counter(), time.process_time()
        tokens, _ = work()
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - spent)
    speed, by_processor = tokens / min(clock) / 1e6, tokens / min(processor) / 1e6
    print(f"  {label:<58}{speed:8.1f} M tokens/s  {by_processor:8.1f} a CPU second", flush=True)
    return by_processor


def ours(order: Order, paths: list[Path], total: tuple[int, int]) -> float:
    """Read the order through, in turn and at random; every batch is made as a trainer takes it."""
    loader = OrderedLoader(order, TokenShards(paths), T, BATCH)
    read = sum(int(loader.batch(step)[0].sum()) for step in range(loader.n_batches))
    rest = order.read(loader.n_batches * BATCH * T, order.n_tokens, TokenShards(paths))
    assert (order.n_tokens, read + int(rest.sum(dtype=np.int64))) == total
    size, at_random = BATCH * T, np.random.default_rng(3).permutation(loader.n_batches).tolist()

    def batches(steps: list[int]) -> tuple[int, int]:
        fresh = OrderedLoader(order, TokenShards(paths), T, BATCH)  # mapped anew: the page faults are in the time
        for step in steps:
            fresh.batch(step)
        return len(steps) * size, 0

    speed = timed("ours: open the shards, global batches in turn", lambda: batches(list(range(loader.n_batches))))
    timed("ours: open the shards, global batches at random", lambda: batches(at_random))
    one = OrderedLoader(order, TokenShards(paths), T, 1)
    samples = np.random.default_rng(4).integers(0, one.n_samples, 50_000).tolist()

    def alone() -> tuple[int, int]:
        for sample in samples:
            one.batch(sample)
        return len(samples) * T, 0

    timed("ours: single samples at random", alone)
    return speed


def interleaved(folder: Path, limit: int) -> Iterator[np.ndarray]:
    """Samples of T tokens out of interleaved, shuffled streams of documents, one stream a shard."""
    import datasets

    from corpus.artifacts import Artifact

    whole = to_dataset(Artifact(folder)).with_format("numpy")
    rows = [read_docs(path).num_rows for path in Artifact(folder).files(".npy")]
    begins = np.cumsum([0, *rows]).tolist()
    streams = [
        whole.select(range(a, b)).select_columns(["input_ids"]).to_iterable_dataset() for a, b in pairwise(begins)
    ]
    mixed = datasets.interleave_datasets(
        streams, probabilities=[1 / SHARDS] * SHARDS, seed=1, stopping_strategy="all_exhausted"
    ).shuffle(seed=1, buffer_size=BUFFER)
    waiting: list[np.ndarray] = []
    held = read = 0
    for document in mixed:
        waiting.append(document["input_ids"])
        held += len(waiting[-1])
        if held >= BATCH * T:
            stream = np.concatenate(waiting)
            yield stream[: BATCH * T].astype(np.int64).reshape(BATCH, T)
            waiting = [stream[BATCH * T :]]
            held = len(waiting[0])
            read += BATCH * T
            if read >= limit:
                return


def streaming(python: str, place: Path, paths: list[Path], total: tuple[int, int]) -> float:
    """What MosaicML Streaming reads in an environment of its own, in M tokens a CPU second."""
    script = Path(__file__).with_name("loader_streaming.py")
    found = subprocess.run(
        [python, "-P", str(script), str(place / "mds"), str(T), *map(str, paths)],
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["sum"] + told["left_over_sum"] == total[1], "Streaming read other tokens"
    label = f"MosaicML Streaming {told['version']}, shuffled, samples cut beforehand"
    print(f"  {label:<58}{told['clock']:8.1f} M tokens/s  {told['processor']:8.1f} a CPU second", flush=True)
    return float(told["processor"])


def drop(folder: Path) -> None:
    """Have the system forget the arrays of an order, as after a restart; pages that are still mapped would stay."""
    for path in folder.glob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def resumes(folder: Path, paths: list[Path], visits: int) -> None:
    """Open and resume an order of so many visits, and read it at random."""
    n_batches = OrderedLoader(make_order(folder, paths, visits), TokenShards(paths), T, BATCH).n_batches
    steps = [0, *np.random.default_rng(5).integers(0, n_batches, 20).tolist()]
    for cold in (False, True):
        seconds = []
        for step in steps:
            if cold:
                drop(folder)
            begun = time.perf_counter()
            loader = OrderedLoader(Order.open(folder), TokenShards(paths), T, BATCH)
            loader.load_state_dict({"next_sample": step * BATCH, "order_fingerprint": str(visits)})
            inputs, _ = loader.next_batch()
            seconds.append(time.perf_counter() - begun)
            assert np.array_equal(inputs.flatten(), end_to_end(folder, paths, step * BATCH * T))
            del loader
        state = "dropped from the cache" if cold else "in the page cache"
        print(f"  {visits:,} visits, arrays {state}: open, resume and first batch", end=" ")
        print(f"{np.median(seconds):.3f} s (median of {len(seconds)}), longest {max(seconds):.3f} s", flush=True)
    loader = OrderedLoader(Order.open(folder), TokenShards(paths), T, BATCH)
    many = np.random.default_rng(6).integers(0, loader.n_batches, 200).tolist()

    def read() -> tuple[int, int]:
        for step in many:
            loader.batch(step)
        return len(many) * BATCH * T, 0

    timed(f"{visits:,} visits, {loader.order.n_tokens / 1e9:.1f} B tokens: global batches at random", read)


def end_to_end(folder: Path, paths: list[Path], token: int) -> np.ndarray:
    """The tokens of one batch from `token` on, laid end to end from the arrays of the order, visit by visit."""
    ends, shard, start = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ends", "shard", "start"))
    arrays, pieces, at, size = TokenShards(paths), [], int(np.searchsorted(ends, token, side="right")), BATCH * T
    before = int(ends[at - 1]) if at else 0
    skip = token - before
    while sum(map(len, pieces)) < skip + size:
        begin_at = int(ends[at - 1]) if at else 0
        pieces.append(arrays[shard[at]][start[at] : start[at] + ends[at] - begin_at])
        at += 1
    return np.concatenate(pieces)[skip : skip + size]


def sums(paths: list[Path]) -> tuple[int, int]:
    """How many tokens the shards hold, and the sum of their ids."""
    arrays: list[Ids] = TokenShards(paths)
    return sum(map(len, arrays)), sum(int(ids.sum(dtype=np.int64)) for ids in arrays)


def main() -> None:
    """Run all of it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=240_000_000)
    parser.add_argument("--visits", type=int, nargs="*", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--streaming-python", default="")
    parser.add_argument("--place", default=None, help="where to write about 5 GB; removed at the end")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.place) as folder:
        place = Path(folder)
        paths = make_tokens(place / "tokens", args.tokens)
        total = sums(paths)
        print(f"  {total[0]:,} tokens in {SHARDS} shards, T {T}, batches of {BATCH}")
        speed = ours(make_order(place / "order", paths, None), paths, total)
        limit = min(total[0] // 4, 40_000_000)

        def peer() -> tuple[int, int]:
            return sum(batch.size for batch in interleaved(place / "tokens", limit)), 0

        slower = timed(f"datasets: interleave_datasets, shuffle buffer {BUFFER:,}", peer, repeats=2)
        print(f"  ours is {speed / slower:.0f} times datasets")
        if args.streaming_python:
            told = streaming(args.streaming_python, place, paths, total)
            print(f"  ours is {speed / told:.0f} times Streaming")
        for visits in args.visits:
            resumes(place / f"order-{visits}", paths, visits)


if __name__ == "__main__":
    main()
