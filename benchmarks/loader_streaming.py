"""MosaicML Streaming's side of benchmarks/loader.py, which runs this with a Python that has mosaicml-streaming.

Token shards are cut into samples of T tokens and written as MDS without compression, and a shuffled StreamingDataset
is iterated in this process: the samples as arrays, and once more as int64 tensors of batches. The last line printed is
JSON: speeds in M tokens/s and the sums of token ids that prove what was read.

Run it:  python -P benchmarks/loader_streaming.py FOLDER T SHARD.npy...
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import streaming
import torch
from streaming import MDSWriter, StreamingDataset

BATCH = 256


def write(folder: Path, length: int, paths: list[Path]) -> int:
    """Write the samples, in the order of the shards; returns the sum of the tokens that fill no sample."""
    left_over = 0
    with MDSWriter(out=str(folder), columns={"tokens": f"ndarray:uint16:{length}"}, size_limit=1 << 26) as out:
        for path in paths:
            ids = np.load(path, mmap_mode="r")
            whole = len(ids) // length * length
            for at in range(0, whole, length):
                out.write({"tokens": np.ascontiguousarray(ids[at : at + length])})
            left_over += int(ids[whole:].sum(dtype=np.int64))
    return left_over


def main() -> None:
    """Write, then read through three times."""
    folder, length, paths = Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    torch.set_num_threads(1)
    left_over = write(folder, length, paths)
    data = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=1, batch_size=BATCH)
    clock, processor, total = [], [], 0
    for _ in range(3):
        begun, spent, tokens, waiting = time.perf_counter(), time.process_time(), 0, []
        for sample in data:
            waiting.append(sample["tokens"])
            if len(waiting) == BATCH:
                tokens += torch.from_numpy(np.stack(waiting).astype(np.int64)).numel()
                waiting = []
        clock.append(tokens / (time.perf_counter() - begun) / 1e6)
        processor.append(tokens / (time.process_time() - spent) / 1e6)
    total = sum(int(sample["tokens"].sum(dtype=np.int64)) for sample in data)
    told = {"clock": max(clock), "processor": max(processor), "sum": total, "left_over_sum": left_over}
    print(json.dumps({**told, "version": streaming.__version__}))


if __name__ == "__main__":
    main()
