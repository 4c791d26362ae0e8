"""Randomness keyed by content: a draw depends on a seed and a document id, and on nothing else.

So a sample, a shuffle or a split is the same for any number of workers, any order of arrival and any
runtime, and adding documents does not change the draw of the others.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash


def keyed_hashes(seed: int, keys: Iterable[str]) -> npt.NDArray[np.uint64]:
    """A uint64 for each key, uniform over its range: xxh3-64 of the key under a seed."""
    seed = seed % 2**64
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(key.encode("utf-8", "surrogatepass"), seed) for key in keys), dtype=np.uint64)


def keyed_uniforms(seed: int, keys: Iterable[str]) -> npt.NDArray[np.float64]:
    """A float in [0, 1) for each key: the top 53 bits of its keyed hash."""
    return (keyed_hashes(seed, keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53
