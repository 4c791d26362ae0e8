"""How fast an order is written for other trainers, beside those trainers' own writers of the same documents.

Random tokens in documents with lognormal lengths, read in a permuted order. Peers get each document as an array that
is already in memory, in that order; ours reads it through the order. The files must be equal byte for byte.

Run it:  python -m benchmarks.export --tokens 50000000      (needs megatron-core, mosaicml-streaming and datatrove)
"""

import argparse
import importlib
import importlib.util
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from curriculum.order import ORDER_SCHEMA, Order, encode_names, write_order
from pipelines.export.exporting import export
from pipelines.export.settings import ExportSettings


def order_of(folder: Path, tokens: int) -> tuple[Order, np.ndarray]:
    """A permuted order of one shard, and its tokens."""
    rng = np.random.default_rng(7)
    lengths = np.clip(rng.lognormal(6, 0.8, tokens // 550), 8, 20_000).astype(np.int32)
    starts, rows = np.cumsum(lengths, dtype=np.int64) - lengths, rng.permutation(len(lengths))
    n, zeros = len(lengths), np.zeros(len(lengths), np.int32)
    names, scores = encode_names(pa.array(["x"] * n)), np.zeros(n, np.float32)
    columns = [zeros, rows.astype(np.int32), starts[rows], lengths[rows], names, names, zeros, scores, names]
    table = pa.table(dict(zip(ORDER_SCHEMA.names, columns, strict=True)), schema=ORDER_SCHEMA)
    write_order(folder, table, name="order/x", fingerprint="0" * 16, config={}, inputs=[], shards=["x.npy"])
    return Order.open(folder), rng.integers(0, 50_000, int(lengths.sum())).astype(np.uint16)


def bare(name: str) -> None:
    """Make a package importable module by module, without what its __init__ asks for."""
    if name in sys.modules:
        return
    package, spec = types.ModuleType(name), importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules[name] = package


def megatron(out: Path, documents: list[np.ndarray]) -> dict[str, str]:
    """Megatron's own builder; returns which of its files must equal which of ours."""
    import torch

    bare("megatron.core")
    importlib.import_module("megatron.core.parallel_state")
    module = importlib.import_module("megatron.core.datasets.indexed_dataset")
    builder = module.IndexedDatasetBuilder(str(out / "x.bin"), dtype=np.uint16)
    for document in documents:
        builder.add_item(torch.from_numpy(document.astype(np.int32)))
        builder.end_document()
    builder.finalize(str(out / "x.idx"))
    return {"x.bin": "train-00000.bin", "x.idx": "train-00000.idx"}


def mosaic(out: Path, documents: list[np.ndarray]) -> dict[str, str]:
    """MosaicML's own writer."""
    bare("streaming")
    writer = importlib.import_module("streaming.base").MDSWriter
    with writer(columns={"tokens": "ndarray:uint16"}, out=str(out / "mds"), size_limit=None) as made:
        for document in documents:
            made.write({"tokens": document})
    return {"mds/shard.00000.mds": "shard.00000.mds", "mds/index.json": "index.json"}


def datatrove(out: Path, documents: list[np.ndarray]) -> dict[str, str]:
    """datatrove's own file of tokens."""
    from datatrove.pipeline.tokens.tokenizer import TokenizedFile

    made = TokenizedFile(str(out), "x.ds", save_index=True)
    for document in documents:
        made.write_bytes(document.tobytes())
    made.close()
    return {"x.ds": "train-00000.ds", "x.ds.index": "train-00000.ds.index"}


PEERS: dict[str, Callable[[Path, list[np.ndarray]], dict[str, str]]] = {
    "megatron": megatron,
    "mosaic": mosaic,
    "datatrove": datatrove,
}


def main() -> None:
    """Write every format both ways, compare the bytes, print times and ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=50_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        order, ids = order_of(Path(place) / "order", args.tokens)
        rows = order.table(["start", "length"])
        pairs = zip(rows["start"].to_pylist(), rows["length"].to_pylist(), strict=True)
        documents = [ids[start : start + length] for start, length in pairs]
        print(f"  {order.n_visits:,} documents, {order.n_tokens:,} tokens")
        for format, write in PEERS.items():
            theirs, ours = Path(place) / f"{format}-theirs", Path(place) / f"{format}-ours"
            theirs.mkdir()
            write(theirs, documents[:10])  # imports and first touches
            for path in sorted(theirs.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            begun, spent = time.perf_counter(), time.process_time()
            equal = write(theirs, documents)
            peer = time.perf_counter() - begun, time.process_time() - spent
            most = order.n_tokens if format == "mosaic" else None
            begun, spent = time.perf_counter(), time.process_time()
            export(order, [ids], ours, ExportSettings(format=format, max_tokens_per_file=most), name="x")
            own = time.perf_counter() - begun, time.process_time() - spent
            for a, b in equal.items():
                assert (theirs / a).read_bytes() == (ours / b).read_bytes(), (a, b)
            print(
                f"  {format:<10} ours {own[0]:6.2f} s, {own[1]:6.2f} s CPU; theirs {peer[0]:6.2f} s, {peer[1]:6.2f} s "
                f"CPU; theirs / ours: clock {peer[0] / own[0]:.1f}, processor {peer[1] / own[1]:.1f}"
            )


if __name__ == "__main__":
    main()
