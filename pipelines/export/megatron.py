"""Megatron-LM's indexed dataset: tokens in `.bin`, and where its sequences are in `.idx`.

Each visit is one sequence and one document, so Megatron keeps document boundaries. With a pack, sequences are its
pieces (padding is a sequence of its own) and each packed sequence is one document of T tokens. uint16 ids stay
uint16; uint32 ids become int32, the dtype Megatron reads.

Read it:  IndexedDataset("train-00000")  (megatron.core.datasets.indexed_dataset). Megatron's GPTDataset shuffles
documents and samples by itself: the order is kept only by a loader that reads the indexed dataset from 0 on.

Format: header "MMIDIDX", version 1 and dtype code; counts of sequences and of document borders; then sequence
lengths (int32), byte offsets (int64) and document borders (int64), as megatron-core 0.16 reads it.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError
from corpus.tokens import Ids
from pipelines.export.settings import ExportSettings
from pipelines.export.stream import TokenStream, write_array

MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
DTYPES: dict[str, tuple[int, np.dtype[Any]]] = {"uint16": (8, np.dtype("<u2")), "uint32": (4, np.dtype("<i4"))}
"""Megatron's code and dtype for our token ids."""


def write(folder: Path, stream: TokenStream, settings: ExportSettings) -> None:
    """Write `<stem>-00000.bin`, `<stem>-00000.idx` and so on. Raises ConfigError for an id above 2**31 - 1."""
    code, dtype = DTYPES[stream.dtype.name]

    def convert(ids: Ids) -> npt.NDArray[Any]:
        if ids.max() > np.iinfo(dtype).max:
            raise ConfigError(
                "Megatron cannot hold these token ids",
                expected=f"ids up to {np.iinfo(dtype).max:,}",
                found=f"{ids.max():,}",
            )
        return ids.astype(dtype, copy=False)

    for span in stream.spans(settings.max_tokens_per_file):
        path = folder / f"{settings.stem}-{span.number:05d}.bin"
        stream.write(path, span, convert=convert)
        borders = np.concatenate([[0], np.cumsum(span.segments_of_unit)])
        head = struct.pack("<9sQBQQ", MAGIC, VERSION, code, len(span.segments), len(borders))
        offsets = (np.cumsum(span.segments) - span.segments) * dtype.itemsize
        lengths = span.segments.astype("<i4")
        write_array(path.with_suffix(".idx"), head, lengths, offsets.astype("<i8"), borders.astype("<i8"))
