"""Counting the normalised words of many texts, and the mean surprisal of a text's words under a table, compiled.

Counting works on rows of bounded size at a time and gives each distinct word once, so that what is left for Python
is a merge of short lists. A word is found by its hash and recognised by its code points, as in `interning`.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

from typing import NamedTuple

import numpy as np

from raters.text.compiled import helper, kernel
from raters.text.interning import hash_points, intern_spans, table_mask
from raters.text.unicode_tables import Tables
from raters.text.utf8 import decode
from raters.text.words import FOLDED_PER_BYTE, normalised_words


class WordTable(NamedTuple):
    """Words and their surprisal, to be looked up.

    Attributes:
        points: uint32, the code points of all words, one after the other.
        ends: int64, shape (m + 1,): word i is points[ends[i]:ends[i + 1]].
        slots: int32, hash table: the word's number, by hash modulo its size, or -1.
        surprisal: float64, shape (m,): -ln p of each word.
        unknown: -ln p of a word that is not in the table.
    """

    points: np.ndarray
    ends: np.ndarray
    slots: np.ndarray
    surprisal: np.ndarray
    unknown: float


@kernel
def count_words(data, starts, present, longest: int, tables: Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct words of all rows in first-seen order: their code points, their ends (m + 1), and counts (m)."""
    n = starts.size - 1
    n_bytes = starts[n] - starts[0]
    most = (n_bytes + n) // 2 + 2
    points = np.empty(longest, np.uint32)
    folded = np.empty(np.int64(n_bytes * FOLDED_PER_BYTE) + 4, np.uint32)
    ends, hashes = np.empty(most, np.int64), np.empty(most, np.uint64)
    ends[0] = 0
    n_words = np.int64(0)
    for row in range(n):
        if not present[row]:
            continue
        offset = ends[n_words]
        n_points = decode(data, starts[row], starts[row + 1], points)
        more = normalised_words(points, n_points, tables, folded[offset:], ends[n_words:], hashes[n_words:])
        for word in range(n_words, n_words + more + 1):
            ends[word] += offset
        n_words += more
    table = np.empty(table_mask(n_words) + 1, np.int32)
    first, counts, ids = np.empty(n_words, np.int32), np.empty(n_words, np.int32), np.empty(n_words, np.int32)
    distinct = intern_spans(folded, ends, ends[1:], hashes, n_words, table, first, counts, ids)
    kept = np.zeros(distinct + 1, np.int64)
    size = 0
    for word in range(distinct):
        for i in range(ends[first[word]], ends[first[word] + 1]):
            folded[size] = folded[i]  # words only move forward: first-seen order keeps size <= i
            size += 1
        kept[word + 1] = size
    return folded[:size].copy(), kept, counts[:distinct].copy()


@kernel
def slots_of(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The hash table of distinct words, as in `WordTable.slots`."""
    n = ends.size - 1
    mask = table_mask(n)
    slots = np.full(mask + 1, -1, np.int32)
    for word in range(n):
        slot = np.int64(hash_points(points, ends[word], ends[word + 1]) & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = word
    return slots


@kernel
def rarity_of(data, starts, present, longest: int, tables: Tables, words: WordTable) -> np.ndarray:
    """The mean surprisal of every row's words: float64, shape (n,), NaN where the row is null or has no words."""
    n = starts.size - 1
    out = np.full(n, np.nan)
    most = longest // 2 + 2
    points, folded = np.empty(longest, np.uint32), np.empty(np.int64(longest * FOLDED_PER_BYTE) + 4, np.uint32)
    ends, hashes = np.empty(most, np.int64), np.empty(most, np.uint64)
    for row in range(n):
        if not present[row]:
            continue
        n_points = decode(data, starts[row], starts[row + 1], points)
        n_words = normalised_words(points, n_points, tables, folded, ends, hashes)
        total = 0.0
        for word in range(n_words):
            found = find_word(folded, ends[word], ends[word + 1], hashes[word], words)
            total += words.surprisal[found] if found >= 0 else words.unknown
        if n_words > 0:
            out[row] = total / n_words
    return out


@helper
def find_word(folded: np.ndarray, start: int, end: int, hashed: int, words: WordTable) -> int:
    """The number of the word folded[start:end] in the table, or -1."""
    mask = words.slots.size - 1
    slot = np.int64(hashed & np.uint64(mask))
    while words.slots[slot] >= 0:
        word = words.slots[slot]
        first = words.ends[word]
        if words.ends[word + 1] - first == end - start and _equal(words.points, first, folded, start, end - start):
            return word
        slot = (slot + 1) & mask
    return -1


@helper
def _equal(a: np.ndarray, at: int, b: np.ndarray, start: int, length: int) -> bool:
    for i in range(length):  # noqa: SIM110 - numba has no all() over a generator
        if a[at + i] != b[start + i]:
            return False
    return True
