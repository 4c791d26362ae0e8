"""MosaicML Streaming's MDS shards: `index.json` and `shard.00000.mds`, uncompressed, written without their package.

Each sample has a column `tokens`, an array of uint16 or uint32: a visit, or with a pack one packed sequence padded to
T. A pack adds a column `boundaries` (int32, from 0 to T) with the borders of its pieces and of its padding.

Read it:  StreamingDataset(local=folder, shuffle=False, batch_size=..., num_canonical_nodes=1)  (streaming). With one
canonical node, each global batch is the next run of samples for any number of devices; with more, their sampler cuts
the order into as many strands. LLM Foundry reads `tokens` as it is and wants samples of one length: give it a pack.

Format: a shard is its count of samples and their offsets (uint32), the settings as JSON, then the samples; a sample is
the byte sizes of its columns (uint32), and for each column a byte for axes and width, the shape, and the values.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError
from corpus.shards import atomic_path, write_text
from corpus.tokens import Ids
from pipelines.export.settings import ExportSettings
from pipelines.export.stream import SLICE_TOKENS, Ints, Span, TokenStream

TOKENS_A_SHARD = 1 << 25
MOST_BYTES = 2**32 - 1
"""A shard's offsets are uint32."""


def write(folder: Path, stream: TokenStream, settings: ExportSettings) -> None:
    """Write the shards, then their index. Raises ConfigError for a shard of 4 GiB or more."""
    columns = {"boundaries": "ndarray:int32"} if stream.packed is not None else {}
    columns = {**columns, "tokens": f"ndarray:{stream.dtype.name}"}
    about = {
        "version": 2, "format": "mds", "compression": None, "hashes": [], "size_limit": None,
        "column_names": list(columns), "column_encodings": list(columns.values()),
        "column_sizes": [None] * len(columns),
    }  # fmt: skip
    shards = []
    for span in stream.spans(settings.max_tokens_per_file or TOKENS_A_SHARD):
        path = folder / f"shard.{span.number:05d}.mds"
        n_bytes = _write_shard(path, stream, span, json.dumps(about, sort_keys=True).encode())
        data = {"basename": path.name, "bytes": n_bytes, "hashes": {}}
        shards.append({**about, "raw_data": data, "zip_data": None, "samples": len(span.units)})
    write_text(folder / "index.json", json.dumps({"version": 2, "shards": shards}, sort_keys=True))


def _write_shard(path: Path, stream: TokenStream, span: Span, about: bytes) -> int:
    sizes = _column_bytes(span.units, stream.dtype.itemsize)
    if stream.packed is not None:
        sizes += _column_bytes(span.segments_of_unit + 1, 4)
    ends = np.cumsum(sizes) + 4 + 4 * (len(sizes) + 1) + len(about)
    n_bytes = int(ends[-1])
    if n_bytes > MOST_BYTES:
        raise ConfigError(
            "an MDS shard would be too large", expected=f"up to {MOST_BYTES:,} bytes", found=f"{n_bytes:,}",
            fix="lower max_tokens_per_file",
        )  # fmt: skip
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            offsets = np.concatenate([[ends[0] - sizes[0]], ends])
            out.write(np.uint32(len(sizes)).tobytes() + offsets.astype("<u4").tobytes() + about)
            _write_samples(out, stream, span)
    return n_bytes


def _write_samples(out: BinaryIO, stream: TokenStream, span: Span) -> None:
    borders = np.concatenate([[0], np.cumsum(span.segments_of_unit)])
    for unit, ids in enumerate(_units(stream, span)):
        columns: list[npt.NDArray[Any]] = [ids]
        if stream.packed is not None:
            segments = span.segments[borders[unit] : borders[unit + 1]]
            columns.insert(0, np.concatenate([[0], np.cumsum(segments)]).astype("<i4"))
        parts = [_encoded(column) for column in columns]
        out.write(np.array([len(part) for part in parts], "<u4").tobytes())
        out.writelines(parts)


def _units(stream: TokenStream, span: Span) -> Iterator[Ids]:
    """The tokens of each unit, read in runs of whole units; a unit is held in memory, even a long one."""
    ends = np.cumsum(span.units)
    first = 0
    while first < len(ends):
        begins = int(ends[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, begins + SLICE_TOKENS, side="right")))
        token_a, token_b = span.tokens[0] + begins, span.tokens[0] + int(ends[stop - 1])
        run = np.concatenate(list(stream.slices(token_a, token_b)))
        yield from np.split(run, ends[first : stop - 1] - begins)
        first = stop


def _encoded(values: npt.NDArray[Any]) -> bytes:
    """An array of one axis: axes and width of the shape in one byte, the shape, the values."""
    width = _shape_width(np.array([len(values)]))[0]
    return bytes([1 << 2 | int(width)]) + len(values).to_bytes(1 << int(width), "little") + values.tobytes()


def _column_bytes(counts: Ints, itemsize: int) -> Ints:
    """Bytes of a column of such arrays, with the uint32 that says how many they are."""
    return np.asarray(4 + 1 + (1 << _shape_width(counts)) + counts * itemsize, np.int64)


def _shape_width(counts: Ints) -> Ints:
    """0, 1 or 2: the counts fit into uint8, uint16 or uint32."""
    return (counts >= 1 << 8).astype(np.int64) + (counts >= 1 << 16)
