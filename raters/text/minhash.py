"""MinHash signatures and band keys for near-duplicates: 5-word shingles of normalised words, compiled.

Two documents with the Jaccard similarity s of their shingle sets agree in each signature value with probability
s, and share at least one band key with probability 1 - (1 - s**rows)**bands: 14 bands of 8 rows cross one half at
s = 0.71. The words are the signals' words (case, ASCII punctuation and line breaks do not matter).

Each signature value is a minimum under one hash function of a family indexed by k: the shingle's 64-bit hash is
multiplied by an odd random number, shifted into itself and multiplied again. A bare multiply-and-shift is not
enough: its minima are correlated across k and report near-duplicates that are none.

Run it:  gradatim run recipe.yaml    with the stage {dedup: minhash}
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from corpus.errors import ConfigError
from raters.text.arrow import chunks_of, longest
from raters.text.compiled import drop_stale_cache, helper, kernel
from raters.text.interning import HASH_SEED, mix64
from raters.text.unicode_tables import Tables, tables
from raters.text.utf8 import decode
from raters.text.words import FOLDED_PER_BYTE, normalised_words

BANDS, ROWS, NGRAM, SEED = 14, 8, 5, 1
_GOLDEN = 0x9E3779B97F4A7C15
_SPREAD = np.uint64(0xD6E8FEB86659FD93)


class Hashes(NamedTuple):
    """MinHash values of n texts.

    Attributes:
        values: uint64, shape (n, k). Rows of texts without a word are 0 and mean nothing.
        present: bool, shape (n,): False where the text is null or has no word, so that it has no duplicates.
    """

    values: np.ndarray
    present: np.ndarray


def band_keys(
    texts: pa.Array | pa.ChunkedArray, *, bands: int = BANDS, rows: int = ROWS, ngram: int = NGRAM, seed: int = SEED
) -> Hashes:
    """One key per band: texts that share a key in the same column are candidate near-duplicates.

    Args:
        texts: n strings.
        bands, rows: the shape of the banding, both >= 1; bands * rows hash functions are used.
        ngram: words in a shingle, >= 1. A text with fewer words has one shingle, all its words.
        seed: chooses the family of hash functions; keys of different seeds are not comparable.

    Returns:
        `values` of shape (n, bands). The same text gives the same keys in any slice, chunk, process or platform.

    Raises:
        ConfigError: a parameter below 1. SchemaError: as `arrow.chunks_of`.
    """
    found = signatures(texts, n_hashes=bands * rows, ngram=ngram, seed=seed)
    return Hashes(_keys_of_bands(found.values, found.present, bands, rows), found.present)


def signatures(
    texts: pa.Array | pa.ChunkedArray, *, n_hashes: int = BANDS * ROWS, ngram: int = NGRAM, seed: int = SEED
) -> Hashes:
    """The full signatures, `values` of shape (n, n_hashes): the share of equal columns estimates Jaccard similarity.

    Arguments and errors as in `band_keys`; the standard error of the estimate is at most 0.5 / sqrt(n_hashes).
    """
    if n_hashes < 1 or ngram < 1:
        raise ConfigError(
            "MinHash needs at least one hash and one word in a shingle",
            expected="bands >= 1, rows >= 1, ngram >= 1",
            found=f"{n_hashes} hashes, ngram {ngram}",
        )
    drop_stale_cache()
    steps = np.arange(1, 2 * n_hashes + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(seed % 2**64)
    parts = [_signatures(*chunk, longest(chunk), tables(), ngram, steps) for chunk in chunks_of(texts)]
    values = np.concatenate([np.empty((0, n_hashes), np.uint64), *(part[0] for part in parts)])
    return Hashes(values, np.concatenate([np.empty(0, np.bool_), *(part[1] for part in parts)]))


@kernel
def _signatures(data, starts, present, longest, tables: Tables, ngram, steps):
    n, n_hashes = starts.size - 1, steps.size // 2
    values, found = np.zeros((n, n_hashes), np.uint64), np.zeros(n, np.bool_)
    max_words = longest // 2 + 1
    points, folded = np.empty(longest, np.uint32), np.empty(np.int64(longest * FOLDED_PER_BYTE) + 4, np.uint32)
    ends, hashes = np.empty(max_words + 1, np.int64), np.empty(max_words, np.uint64)
    factors, addends = np.empty(n_hashes, np.uint64), np.empty(n_hashes, np.uint64)
    for k in range(n_hashes):
        factors[k] = mix64(steps[2 * k]) | np.uint64(1)
        addends[k] = mix64(steps[2 * k + 1])
    for row in range(n):
        if not present[row]:
            continue
        n_points = decode(data, starts[row], starts[row + 1], points)
        n_words = normalised_words(points, n_points, tables, folded, ends, hashes)
        if n_words == 0:
            continue
        found[row] = True
        minima = values[row]
        for k in range(n_hashes):
            minima[k] = ~np.uint64(0)
        for i in range(max(n_words - ngram, 0) + 1):
            shingle = HASH_SEED
            for word in range(i, min(i + ngram, n_words)):
                shingle = (shingle ^ hashes[word]) * _SPREAD
                shingle ^= shingle >> np.uint64(32)
            _lower_minima(mix64(shingle), factors, addends, minima)
    return values, found


@helper
def _lower_minima(shingle, factors, addends, minima) -> None:
    """minima[k] = min(minima[k], hash k of the shingle). Kept apart so that the compiler vectorises it."""
    for k in range(minima.size):
        x = shingle * factors[k] + addends[k]
        x = (x ^ (x >> np.uint64(32))) * _SPREAD
        minima[k] = min(minima[k], x ^ (x >> np.uint64(29)))


@kernel
def _keys_of_bands(values: np.ndarray, present: np.ndarray, bands: int, rows: int) -> np.ndarray:
    keys = np.zeros((values.shape[0], bands), np.uint64)
    for row in range(values.shape[0]):
        if present[row]:
            for band in range(bands):
                key = mix64(np.uint64(band) + HASH_SEED)
                for k in range(band * rows, (band + 1) * rows):
                    key = mix64(key ^ values[row, k])
                keys[row, band] = key
    return keys
