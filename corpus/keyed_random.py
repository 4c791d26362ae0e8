"""Randomness keyed by content: a draw depends on a seed and a document id, and on nothing else.

So a sample, a shuffle or a split is the same for any number of workers, any order of arrival and any
runtime, and adding documents does not change the draw of the others.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

if TYPE_CHECKING:
    import pyarrow as pa


def keyed_hashes(seed: int, keys: Iterable[str]) -> npt.NDArray[np.uint64]:
    """A uint64 for each key, uniform over its range: xxh3-64 of the key under a seed."""
    seed = seed % 2**64
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(key.encode("utf-8", "surrogatepass"), seed) for key in keys), dtype=np.uint64)


def keyed_uniforms(seed: int, keys: Iterable[str]) -> npt.NDArray[np.float64]:
    """A float in [0, 1) for each key: the top 53 bits of its keyed hash."""
    return (keyed_hashes(seed, keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def digests(ids: "pa.ChunkedArray | pa.Array") -> npt.NDArray[np.int64]:
    """An int64 for each id, shape (n,): its first 64 bits, as two's complement.

    A document's id is an xxh3-128 in 32 hex digits (corpus/documents.py), so its first half is as good as random; an
    id of another form gives the xxh3-64 of its text. Ids must not be null.
    """
    import pyarrow as pa

    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    parts = [_digests(chunk.slice(at, _AT_ONCE)) for chunk in chunks for at in range(0, len(chunk), _AT_ONCE)]
    return np.concatenate([np.empty(0, np.int64), *parts])


_AT_ONCE = 1 << 18
_DIGIT = np.full(256, 255, np.uint8)
_DIGIT[[ord(digit) for digit in "0123456789abcdef"]] = np.arange(16)


def _digests(ids: "pa.Array") -> npt.NDArray[np.int64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(ids):
        return np.empty(0, np.int64)
    ids = pa.concat_arrays([ids.cast(pa.large_binary())])  # a copy begins at the start of its buffer
    digits = np.empty((0, 0), np.uint8)
    if pc.all(pc.equal(pc.binary_length(ids), 32)).as_py():
        digits = _DIGIT[np.frombuffer(ids.buffers()[2], np.uint8, 32 * len(ids), 32 * ids.offset).reshape(-1, 32)]
    if not digits.size or digits.max() > 15:
        return keyed_hashes(0, (id.decode("utf-8") for id in ids.to_pylist())).view(np.int64)
    pairs = digits[:, 0:16:2] << 4 | digits[:, 1:16:2]
    return np.ascontiguousarray(pairs).view(">i8").ravel().astype(np.int64)
