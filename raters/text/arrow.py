"""Arrow string arrays as the flat buffers the kernels read: bytes, offsets, and which rows are there.

The text bytes are never copied. Slices keep their offset, nulls their place; 32-bit offsets are widened so
that every kernel has one signature. The array is validated first (offsets in range and rising, UTF-8 well
formed), so a kernel may trust every byte it reads.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from corpus.errors import SchemaError


class Texts(NamedTuple):
    """The rows of one string array, as buffers.

    Attributes:
        data: uint8, the UTF-8 bytes of all rows (and of whatever else shares the buffer).
        starts: int64, shape (n + 1,): row i is data[starts[i]:starts[i + 1]].
        present: bool, shape (n,): False where the row is null.
    """

    data: np.ndarray
    starts: np.ndarray
    present: np.ndarray


def chunks_of(texts: pa.Array | pa.ChunkedArray) -> list[Texts]:
    """The buffers of every chunk, in order; an array is its own single chunk.

    Raises:
        SchemaError: the array holds no strings, or its offsets or its UTF-8 are broken.
    """
    if isinstance(texts, pa.ChunkedArray):
        return [_buffers(chunk) for chunk in texts.chunks]
    return [_buffers(texts)]


def _buffers(texts: pa.Array) -> Texts:
    if not _is_text(texts.type):
        raise SchemaError("the text kernels read string arrays", expected="string", found=str(texts.type))
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        texts = texts.cast(pa.large_string())
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SchemaError(
            "a text array is not valid UTF-8 in valid offsets",
            found=str(error),
            fix="read the file again with the ingest stage, which counts and skips broken rows",
        ) from error
    _, offsets, data = texts.buffers()
    n = len(texts)
    if n == 0 or offsets is None:
        starts = np.zeros(n + 1, np.int64)
    else:
        width = np.dtype(np.int64 if pa.types.is_large_string(texts.type) else np.int32)
        starts = np.frombuffer(offsets, width, count=n + 1, offset=texts.offset * width.itemsize).astype(np.int64)
    flat = np.zeros(1, np.uint8) if data is None or data.size == 0 else np.frombuffer(data, np.uint8)
    return Texts(flat, starts, np.asarray(texts.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def longest(texts: Texts) -> int:
    """Bytes of the longest row: the size the kernels' scratch arrays need."""
    return int(np.diff(texts.starts).max(initial=0))
