"""Numbering equal things, compiled: words get ids in the order they are first seen, n-grams likewise.

Exactness. A hash only finds the slot; equality is then decided by comparing the code points (words) or the pair
of ids (n-grams), so no hash collision can change a count. An n-gram is the pair (id of its first n-1 words,
id of its last word), which makes the 64-bit pair an exact key. Ids rise in first-seen order, so "the first seen
wins a tie" is a scan for the first maximum.

The tables are open-addressed with linear probing, at most half full. Text can be hostile: keys are mixed by the
splitmix64 finaliser, and words carry a running multiply hash, so long probe runs need a targeted attack that
would only slow down, never falsify, its own document.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper

HASH_SEED = np.uint64(0x9E3779B97F4A7C15)
HASH_STEP = np.uint64(0xD6E8FEB86659FD93)


@helper
def mix64(x: int) -> int:
    """The splitmix64 finaliser: a bijection of 64-bit integers in which every input bit reaches every output bit."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@helper
def hash_points(points: np.ndarray, start: int, end: int) -> int:
    """64-bit hash of the code points points[start:end], two of them a step."""
    value = HASH_SEED ^ np.uint64(end - start)
    i = start
    while i + 1 < end:
        value = (value ^ (np.uint64(points[i]) | (np.uint64(points[i + 1]) << np.uint64(32)))) * HASH_STEP
        value ^= value >> np.uint64(32)
        i += 2
    if i < end:
        value = (value ^ np.uint64(points[i])) * HASH_STEP
    return mix64(value)


@helper
def table_mask(n: int) -> int:
    """Size minus one of the power of two that holds n entries at most half full."""
    size = 4
    while size < 2 * n:
        size *= 2
    return size - 1


@helper
def same_points(points: np.ndarray, a: int, b: int, length: int) -> bool:
    """Whether points[a:a + length] equals points[b:b + length]."""
    for i in range(length):  # noqa: SIM110 - numba has no all() over a generator
        if points[a + i] != points[b + i]:
            return False
    return True


@helper
def intern_spans(points, begins, ends, hashes, n, table, first, counts, ids) -> int:
    """Number the n spans points[begins[i]:ends[i]] by content; returns how many distinct ones there are.

    Writes ids[i], and for each id its first span and its count. `table` needs table_mask(n) + 1 entries.
    """
    mask = table_mask(n)
    table[: mask + 1] = -1
    distinct = 0
    for i in range(n):
        length = ends[i] - begins[i]
        slot = np.int64(hashes[i] & np.uint64(mask))
        while True:
            found = table[slot]
            if found < 0:
                table[slot] = distinct
                first[distinct] = i
                counts[distinct] = 1
                ids[i] = distinct
                distinct += 1
                break
            other = first[found]
            if (
                hashes[other] == hashes[i]
                and ends[other] - begins[other] == length
                and same_points(points, begins[other], begins[i], length)
            ):
                counts[found] += 1
                ids[i] = found
                break
            slot = (slot + 1) & mask
    return distinct


@helper
def intern_pairs(left, right, shift, n, table, keys, first, counts, ids) -> int:
    """Number the n pairs (left[i], right[i + shift]); outputs as in `intern_spans`, and the pair of each id in keys."""
    mask = table_mask(n)
    table[: mask + 1] = -1
    distinct = 0
    for i in range(n):
        key = (np.uint64(left[i]) << np.uint64(32)) | np.uint64(right[i + shift])
        slot = np.int64(mix64(key) & np.uint64(mask))
        while True:
            found = table[slot]
            if found < 0:
                table[slot] = distinct
                keys[distinct] = key
                first[distinct] = i
                counts[distinct] = 1
                ids[i] = distinct
                distinct += 1
                break
            if keys[found] == key:
                counts[found] += 1
                ids[i] = found
                break
            slot = (slot + 1) & mask
    return distinct


@helper
def first_maximum(counts: np.ndarray, n: int) -> int:
    """Index of the first largest of counts[:n], or -1 for n = 0."""
    best = -1
    for i in range(n):
        if best < 0 or counts[i] > counts[best]:
            best = i
    return best
