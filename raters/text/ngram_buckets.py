"""Hashed n-grams, compiled: the DSIR buckets of a batch's uni- and bigrams, counted for a fit or summed for scores.

A feature is a token of `wordpunct`, or two neighbours joined by a blank; its bucket is int(sha256(utf-8)) modulo the
bucket count. Nothing is remembered between features: hashing LANES of them at once was more than twice as fast as a
large table of those seen before, with one hash at a time for new ones (benchmarks/results/importance.md).
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np
import pyarrow as pa

from raters.text.arrow import chunks_of, longest
from raters.text.compiled import drop_stale_cache, helper, kernel
from raters.text.sha256 import (
    LANES,
    Hasher,
    clear_block,
    hash_block,
    hasher,
    lane_bucket,
    last_block,
    put_block,
    start_lanes,
)
from raters.text.unicode_tables import Tables, tables
from raters.text.utf8 import decode
from raters.text.wordpunct import TOKEN_BYTES_PER_BYTE, lower_cases, wordpunct_tokens


def add_feature_counts(texts: pa.Array | pa.ChunkedArray, rows: np.ndarray, counts: np.ndarray) -> None:
    """Add the features of text i to counts[rows[i]].

    Args:
        texts: n strings; a null has no features.
        rows: int64, shape (n,); a negative one skips its text.
        counts: int64, shape (m, buckets), C-contiguous; buckets in [1, sha256.MAX_BUCKETS].

    Raises:
        SchemaError: as `arrow.chunks_of`.
    """
    drop_stale_cache()
    start = 0
    for chunk in chunks_of(texts):
        wanted = np.where(chunk.present, rows[start : start + chunk.present.size], -1)
        start += chunk.present.size
        scratch = hasher(counts.shape[1])
        _add_counts(chunk.data, chunk.starts, wanted, longest(chunk), tables(), lower_cases(), scratch, counts)


def weigh_features(texts: pa.Array | pa.ChunkedArray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the weights of every text's features.

    Args:
        texts: n strings.
        weights: float64, shape (buckets, k), C-contiguous.

    Returns:
        The sums, float64, shape (n, k), added in the order of the text (a word before the pair it ends), and the
        number of features, int64, shape (n,); both 0 for a null.

    Raises:
        SchemaError: as `arrow.chunks_of`.
    """
    drop_stale_cache()
    scratch = hasher(weights.shape[0])
    parts = [_weigh(*chunk, longest(chunk), tables(), lower_cases(), scratch, weights) for chunk in chunks_of(texts)]
    sums = np.concatenate([np.empty((0, weights.shape[1])), *(part[0] for part in parts)])
    return sums, np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])


@kernel
def _add_counts(data, starts, rows, longest, tables: Tables, lower, hasher: Hasher, counts) -> None:
    points, tokens, ends, found = _scratch(longest)
    for row in range(starts.size - 1):
        if rows[row] < 0:
            continue
        n_points = decode(data, starts[row], starts[row + 1], points)
        n_features = 2 * wordpunct_tokens(points, n_points, lower, tables.flags, tokens, ends) - 1
        for first in range(0, n_features, LANES):
            for i in range(_hash_group(tokens, ends, first, n_features, hasher, found)):
                counts[rows[row], found[i]] += 1


@kernel
def _weigh(data, starts, present, longest, tables: Tables, lower, hasher: Hasher, weights):
    n_rows, n_targets = starts.size - 1, weights.shape[1]
    sums, sizes = np.zeros((n_rows, n_targets)), np.zeros(n_rows, np.int64)
    points, tokens, ends, found = _scratch(longest)
    for row in range(n_rows):
        if not present[row]:
            continue
        n_points = decode(data, starts[row], starts[row + 1], points)
        n_features = 2 * wordpunct_tokens(points, n_points, lower, tables.flags, tokens, ends) - 1
        sizes[row] = max(n_features, 0)
        for first in range(0, n_features, LANES):
            for i in range(_hash_group(tokens, ends, first, n_features, hasher, found)):
                for target in range(n_targets):
                    sums[row, target] += weights[found[i], target]
    return sums, sizes


@helper
def _scratch(longest):
    """What a text of `longest` bytes needs at most: its points, its tokens, their ends; and buckets of a group."""
    points, ends = np.empty(longest, np.uint32), np.empty(longest + 1, np.int64)
    return points, np.empty(np.int64(longest * TOKEN_BYTES_PER_BYTE) + 4, np.uint8), ends, np.empty(LANES, np.int64)


@helper
def _hash_group(tokens, ends, first, n_features, hasher: Hasher, found) -> int:
    """Write the buckets of features first, first + 1, ... to `found`; returns how many, LANES but for the last."""
    n = min(LANES, n_features - first)
    blocks = 0
    for lane in range(n):
        start, end = _feature(ends, first + lane)
        blocks = max(blocks, last_block(end - start) + 1)
    start_lanes(hasher)
    for block in range(blocks):
        clear_block(hasher)
        for lane in range(n):
            start, end = _feature(ends, first + lane)
            put_block(tokens, start, end, block, lane, hasher)
        hash_block(hasher)
        for lane in range(n):
            start, end = _feature(ends, first + lane)
            if block == last_block(end - start):
                found[lane] = lane_bucket(lane, hasher)
    return n


@helper
def _feature(ends, i):
    """Where feature i lies among the tokens: word 0, then for every word k > 0 the word and the pair it ends."""
    word = (i + 1) >> 1
    begin = word - 1 if i > 0 and i % 2 == 0 else word
    return ends[begin] + 1, ends[word + 1]
