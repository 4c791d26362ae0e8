"""The compiled signals and measures against their definitions in plain Python: the same numbers, how much faster.

The peers are `raters.text.reference` (RedPajama's definitions of the eleven signals) and
`raters.text.measures_reference` (the further measures), with `re`, `str` and `Counter`, one text at a time. Both
sides run on one core on the same texts; every value must be equal as float32. Times are CPU times of the thread,
the best of several turns of both sides in alternation, so that neither meets a busier machine.

Compression is zlib on both sides; the measures are therefore also compared without it.

Then one and two processes rate the same texts, each all of them: on two free cores both take the same wall time.
The CPU times beside it tell how much of what is missing is other work on the machine (CPU below wall) and how much
is memory and caches that the processes share (CPU of two above CPU of one).

Run it:  python -m benchmarks.signals [texts.jsonl or texts.jsonl.gz] [number of texts]
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.filters import DEMO, machine, read_texts, timed
from raters.signals import rate
from raters.text import measures_reference, reference
from raters.text.arrow import chunks_of, longest
from raters.text.measures_kernel import measures_of
from raters.text.unicode_tables import tables
from raters.text_measures import MEASURES, measure

TURNS = 5
SCALED_SECONDS = 2.0


def main() -> None:
    """Measure, print, and fail if any value differs."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    texts = read_texts(path, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    array = pa.array(texts, pa.string())
    (chunk,) = chunks_of(array)
    print(f"texts     {path.name}, {len(texts):,} texts, {array.nbytes / 1e6:.1f} MB; {machine()}")
    compare("signals", array, lambda: rate(array), lambda: [reference.signals(text) for text in texts])
    compare("measures", array, lambda: measure(array), lambda: [measures_reference.measures(text) for text in texts])
    compare(
        "no zlib",
        array,
        lambda: _as_columns(measures_of(*chunk, longest(chunk), tables())[:, : len(MEASURES) - 1]),
        lambda: [_without_compression(text) for text in texts],
    )
    for name, work in (("signals", rate), ("measures", measure)):
        print(f"{name:<9} on two cores: {scaling(work, array)}")


def compare(name: str, array: pa.Array, ours: Callable[[], pa.RecordBatch], peer: Callable[[], list]) -> None:
    """Print both speeds and their ratio. Exits if a value differs."""
    rated, rows = ours(), peer()
    turns = [(timed(ours)[1], timed(peer)[1]) for _ in range(TURNS)]
    best, peer_s = (min(column) for column in zip(*turns, strict=True))
    ratios = sorted(slow / fast for fast, slow in turns)
    megabytes = array.nbytes / 1e6
    print(
        f"{name:<9} ours {megabytes / best:.1f} MB/s, {len(array) / best:,.0f} docs/s; "
        f"peer {megabytes / peer_s:.2f} MB/s; "
        f"ratio {peer_s / best:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}, {TURNS} turns)"
    )
    columns = [pa.array([row[i] for row in rows], pa.float32()) for i in range(rated.num_columns)]
    different = sum(not mine.equals(theirs) for mine, theirs in zip(rated.columns, columns, strict=True))
    print(f"          checked {rated.num_columns} columns x {len(array):,} rows, columns that differ: {different}")
    if different:
        sys.exit(f"{name}: the compiled values differ from their definition")


def scaling(work: Callable[[pa.Array], object], array: pa.Array) -> str:
    """Wall and CPU time of one process and of two, each rating all texts some times; their throughput as a share."""
    work(array)
    repeats = max(1, round(SCALED_SECONDS / timed(lambda: work(array))[1]))
    alone, both = [], []
    for _ in range(3):
        alone.append(_at_once(1, work, array, repeats))
        both.append(_at_once(2, work, array, repeats))
    (wall_1, cpu_1), (wall_2, cpu_2) = min(alone), min(both)
    return (
        f"{wall_1 / wall_2:.2f} of linear by wall time, {cpu_1 / cpu_2:.2f} by CPU time (best of 3: one process "
        f"{wall_1:.2f} s wall, {cpu_1:.2f} s CPU; two, each with the same work, {wall_2:.2f} s wall, {cpu_2:.2f} s CPU)"
    )


def _at_once(n: int, work: Callable[[pa.Array], object], array: pa.Array, repeats: int) -> tuple[float, float]:
    """Seconds until the last of n processes that start together is done, and the most CPU seconds one took."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(n), context.SimpleQueue()
    workers = [context.Process(target=_repeat, args=(work, array, repeats, barrier, answers)) for _ in range(n)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    starts, ends, cpu = zip(*found, strict=True)
    return max(ends) - min(starts), max(cpu)


def _repeat(work, array, repeats, barrier, answers) -> None:  # type: ignore[no-untyped-def]
    work(array)
    barrier.wait()
    start, cpu = time.monotonic(), time.process_time()
    for _ in range(repeats):
        work(array)
    answers.put((start, time.monotonic(), time.process_time() - cpu))


def _without_compression(text: str) -> tuple[float | None, ...]:
    words = reference.normalised_words(text)
    return (
        measures_reference.mtld(words) if words else None,
        measures_reference.reading_ease(text, words),
        reference.top_ngram_share(words, 4, sum(map(len, words))) if words else None,
        *measures_reference.duplicate_lines(text),
    )


def _as_columns(values: np.ndarray) -> pa.RecordBatch:
    columns = [pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in values.T]
    return pa.record_batch(columns, names=[score.name for score in MEASURES[1:]])


if __name__ == "__main__":
    main()
