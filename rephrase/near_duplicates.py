"""Find near-duplicates among many outputs without comparing all of them: by the smallest hashes of their 5-grams.

Two texts whose sets of 5-grams overlap by a Jaccard index of 0.8 have most of their smallest hashes in common: two that
share none of 24 are no near-duplicates, but for a chance below one in a billion. A sketch is made once, when an output
is judged first. Only outputs that share a hash are compared, and exactly (rephrase/gates/across.py).

How it is used:  suspects([sketch(text) for text in outputs])
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from rephrase.fidelity import Profile

SMALLEST = 24


def sketch(text: str) -> list[int]:
    """The smallest hashes of a text's word 5-grams, ascending, at most 24, each in [0, 2^63)."""
    grams = {" ".join(map(str, gram)) for gram in Profile(text).shingles}
    return sorted(xxhash.xxh3_64_intdigest(gram.encode("utf-8", "surrogatepass")) >> 1 for gram in grams)[:SMALLEST]


def suspects(sketches: pa.Array | pa.ChunkedArray | Sequence[Sequence[int] | None]) -> npt.NDArray[np.int64]:
    """The places, ascending, of sketches that share a hash with another one; a null sketch shares nothing."""
    lists = sketches if isinstance(sketches, pa.Array | pa.ChunkedArray) else pa.array(sketches, pa.list_(pa.int64()))
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    hashes = pc.list_flatten(lists).to_numpy()
    owners = pc.list_parent_indices(lists).to_numpy()
    _, place, times = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.unique(owners[times[place] > 1]).astype(np.int64)
