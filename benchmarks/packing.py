"""What packing costs, beside TRL's best-fit packing of the same tokens, and what each does to a sorted order.

Documents with lognormal lengths, none longer than a sequence, sorted by score. Ours plans the windows, then reads every
sequence; TRL's `pack_dataset` packs batches of as many documents and copies their tokens. Both follow best-fit
decreasing, so the number of sequences must be equal. Then the plan alone at growing sizes, each in a fresh process.

Run it:  python -m benchmarks.packing --documents 200000      (pip install trl, for the peer)
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

from curriculum.order import ORDER_SCHEMA, Order, encode_names, write_order
from curriculum.packed import Pack, PackedOrder, write_pack
from curriculum.packing import PackConfig, pack
from curriculum.packing_report import packing_report

SEQUENCE_TOKENS, WINDOW = 2048, 1000


def lengths_of(n: int) -> np.ndarray:
    """Document lengths around 400 tokens, none longer than a sequence."""
    return np.clip(np.random.default_rng(7).lognormal(6, 0.8, n), 8, SEQUENCE_TOKENS).astype(np.int32)


def order_of(folder: Path, lengths: np.ndarray) -> Order:
    """An ascending order of one shard, whose documents lie in it as the order reads them."""
    n = len(lengths)
    names, zeros = encode_names(pa.array(["x"] * n)), np.zeros(n, np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    scores = np.sort(np.random.default_rng(8).random(n, np.float32))
    columns = [zeros, np.arange(n, dtype=np.int32), starts, lengths, names, names, zeros, scores, names]
    table = pa.table(dict(zip(ORDER_SCHEMA.names, columns, strict=True)), schema=ORDER_SCHEMA)
    write_order(folder, table, name="order/x", fingerprint="0" * 16, config={}, inputs=[], shards=["x.npy"])
    return Order.open(folder)


def beside_trl(n: int) -> None:
    """Pack and read the same tokens both ways."""
    lengths = lengths_of(n)
    ids = np.random.default_rng(9).integers(0, 50_000, int(lengths.sum())).astype(np.uint16)
    with tempfile.TemporaryDirectory() as place:
        order = order_of(Path(place) / "order", lengths)
        pack(lengths[:10], PackConfig(sequence_tokens=8))  # compiles
        begun, spent = time.perf_counter(), time.process_time()
        write_pack(Path(place) / "pack", order, PackConfig(sequence_tokens=SEQUENCE_TOKENS, window=WINDOW), name="p")
        planned = time.process_time() - spent
        read = PackedOrder(order, Pack.open(Path(place) / "pack"), 0)
        rows = [read.sequence(i, [ids]) for i in range(read.n_sequences)]
        ours = time.perf_counter() - begun, time.process_time() - spent
        facts = read.pack.artifact.manifest.totals
    print(f"  ours: plan, report and artifact {planned:6.2f} s CPU; with every sequence read", end="")
    print(f" {ours[0]:6.2f} s, {ours[1]:6.2f} s CPU, {len(rows):,} sequences")
    print(f"  {facts}")
    for packer, W in (("concat", 1), ("windowed", 100), ("windowed", WINDOW), ("windowed", n)):
        packed = pack(lengths, PackConfig(packer=packer, sequence_tokens=SEQUENCE_TOKENS, window=W))
        found = packing_report(packed, lengths, pa.array(np.sort(np.random.default_rng(8).random(n, np.float32))))
        print(
            f"  {packer:<9}{W:>9,} visits: fill {found['fill']:.4f}, documents cut {found['documents_cut'] / n:.1%}, "
            f"moved at most {found['displacement']['visits']['max']:,}, blur {found['blur']:.2e}"
        )
    peer(lengths, ids, len(rows), ours)


def peer(lengths: np.ndarray, ids: np.ndarray, sequences: int, ours: tuple[float, float]) -> None:
    """TRL's packing of the same documents in batches of as many."""
    from datasets import Dataset, disable_progress_bars
    from trl.data_utils import pack_dataset

    disable_progress_bars()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids))
    dataset = Dataset(pa.table({"input_ids": column}))
    begun, spent = time.perf_counter(), time.process_time()
    packed = pack_dataset(dataset, SEQUENCE_TOKENS, "bfd_split", {"batch_size": WINDOW})
    clock, processor = time.perf_counter() - begun, time.process_time() - spent
    assert len(packed) == sequences, (len(packed), sequences)
    print(f"  trl: the same tokens packed {clock:6.2f} s, {processor:6.2f} s CPU, {len(packed):,} sequences")
    print(f"  ratio trl / ours: clock {clock / ours[0]:.1f}, processor {processor / ours[1]:.1f}")


def plan_alone(n: int) -> None:
    """Time the plan of n visits, and say what memory the process came to."""
    lengths = lengths_of(n)
    pack(lengths[:10], PackConfig(sequence_tokens=8))
    begun, spent = time.perf_counter(), time.process_time()
    packed = pack(lengths, PackConfig(sequence_tokens=SEQUENCE_TOKENS, window=WINDOW))
    clock, processor = time.perf_counter() - begun, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {n:>11,} visits {clock:7.2f} s, {processor:7.2f} s CPU, {peak:5.2f} GB, {packed.n_sequences:,} sequences")


def main() -> None:
    """Run all of it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--plan", type=int, help="time the plan of that many visits alone")
    args = parser.parse_args()
    if args.plan:
        plan_alone(args.plan)
        return
    for size in args.sizes:
        subprocess.run([sys.executable, "-m", "benchmarks.packing", "--plan", str(size)], check=True)
    beside_trl(args.documents)


if __name__ == "__main__":
    main()
