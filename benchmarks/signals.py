"""The compiled natural-language signals against their definition in plain Python: the same numbers, how much faster.

The peer is `raters.text.reference`, RedPajama's definitions with `re`, `str` and `Counter`. Both run on one core on
the same texts; every value must be equal as float32. Times are CPU times of the thread, best of three for ours.

Run it:  python -m benchmarks.signals [texts.jsonl or texts.jsonl.gz] [number of texts]
"""

import sys
from pathlib import Path

import pyarrow as pa

from benchmarks.filters import DEMO, machine, read_texts, timed
from raters.signals import SIGNALS, rate
from raters.text import reference


def main() -> None:
    """Measure, print, and fail if any value differs."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    texts = read_texts(path, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    array = pa.array(texts, pa.string())
    rate(array.slice(0, 1))
    runs = [timed(lambda: rate(array)) for _ in range(3)]
    seconds = sorted(run[1] for run in runs)
    rows, peer_s = timed(lambda: [reference.signals(text) for text in texts])
    different = sum(
        not runs[0][0].column(i).equals(pa.array([row[i] for row in rows], pa.float32())) for i in range(len(SIGNALS))
    )
    megabytes = array.nbytes / 1e6
    print(f"texts   {path.name}, {len(texts):,} texts, {megabytes:.1f} MB; {machine()}")
    print(
        f"ours    {len(texts) / seconds[0]:,.0f} docs/s, {megabytes / seconds[0]:.1f} MB/s "
        f"({megabytes / seconds[-1]:.1f} to {megabytes / seconds[0]:.1f}, 3 runs)"
    )
    print(f"peer    {len(texts) / peer_s:,.0f} docs/s, {megabytes / peer_s:.2f} MB/s; ratio {peer_s / seconds[0]:.1f}")
    print(f"checked {len(SIGNALS)} columns x {len(texts):,} rows, columns that differ: {different}")
    if different:
        sys.exit("the compiled signals differ from their definition")


if __name__ == "__main__":
    main()
