"""Normalised words, compiled: the words of RedPajama's signals, exactly, for all of Unicode.

The definition (`reference.normalised_words`): delete ASCII punctuation, `str.lower`, strip, collapse whitespace,
NFD, split. Done here in one pass over the code points, word by word, because

* whitespace is neither cased nor case-ignorable and has combining class 0, so neither the final-sigma rule nor
  canonical reordering looks across it, and neither creates whitespace where there was none;
* `lower` depends on context for the capital sigma only; its rule (preceded by a cased letter, not followed by
  one, case-ignorable ones skipped) is evaluated here on the text without its ASCII punctuation;
* NFD of a string is the NFD of its code points, concatenated, with every run of non-zero combining classes
  stably sorted by class: done for the words that contain such a code point.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.interning import hash_points
from raters.text.unicode_tables import (
    BLANK,
    CASED,
    FINAL_SIGMA,
    IGNORABLE,
    INNER_SIGMA,
    PUNCTUATION,
    SEQUENCE,
    SIGMA,
    Tables,
)

FOLDED_PER_BYTE = 1.5
"""Folded code points per UTF-8 byte, at most: U+0390 has 2 bytes and 3 code points in NFD."""
SORT_BY_INSERTION = 32


@helper
def normalised_words(points, n, tables: Tables, folded, ends, hashes) -> int:
    """Fold points[:n] into words; returns their number.

    Word i is folded[ends[i]:ends[i + 1]] (uint32 code points, ends[0] = 0) with the 64-bit hash hashes[i].
    `folded` needs FOLDED_PER_BYTE entries per byte of text; `ends` and `hashes` one per possible word and one more.
    """
    ends[0] = 0
    n_words, start, size, marks = np.int64(0), np.int64(0), np.int64(0), False
    for i in range(n + 1):
        fold = tables.fold[points[i]] if i < n else np.int32(BLANK)
        if fold >= 0:
            folded[size] = fold
            size += 1
        elif fold == BLANK:
            if size > start:
                if marks:
                    reorder_marks(folded, start, size, tables.combining)
                    marks = False
                hashes[n_words] = hash_points(folded, start, size)
                n_words += 1
                ends[n_words] = size
                start = size
        elif fold == SIGMA:
            folded[size] = lower_sigma(points, n, i, tables.flags, IGNORABLE | PUNCTUATION)
            size += 1
        elif fold <= SEQUENCE:
            marks = True
            for k in range(tables.pool_starts[SEQUENCE - fold], tables.pool_starts[SEQUENCE - fold + 1]):
                folded[size] = tables.pool[k]
                size += 1
    return n_words


@helper
def lower_sigma(points: np.ndarray, n: int, at: int, flags: np.ndarray, skipped: int) -> int:
    """The lower case of the capital sigma at `at`, as `str.lower` chooses it on the text without `skipped` flags.

    Code points of the flag IGNORABLE are looked through in any text, so they belong to `skipped`.
    """
    before = at - 1
    while before >= 0 and flags[points[before]] & skipped:
        before -= 1
    if before < 0 or not flags[points[before]] & CASED:
        return INNER_SIGMA
    after = at + 1
    while after < n and flags[points[after]] & skipped:
        after += 1
    return INNER_SIGMA if after < n and flags[points[after]] & CASED else FINAL_SIGMA


@helper
def reorder_marks(folded: np.ndarray, start: int, end: int, combining: np.ndarray) -> None:
    """Sort every run of non-zero combining classes in folded[start:end] by class, stably."""
    i = start
    while i < end:
        if combining[folded[i]] == 0:
            i += 1
            continue
        j = i
        while j < end and combining[folded[j]] > 0:
            j += 1
        if j - i > SORT_BY_INSERTION:
            _counting_sort(folded, i, j, combining)
        else:
            for k in range(i + 1, j):
                point, at = folded[k], k
                while at > i and combining[folded[at - 1]] > combining[point]:
                    folded[at] = folded[at - 1]
                    at -= 1
                folded[at] = point
        i = j


@helper
def _counting_sort(folded: np.ndarray, start: int, end: int, combining: np.ndarray) -> None:
    """The same order in linear time, for the long runs that decorated or hostile text contains."""
    place = np.zeros(257, np.int64)
    for i in range(start, end):
        place[combining[folded[i]] + 1] += 1
    for rank in range(256):
        place[rank + 1] += place[rank]
    run = folded[start:end].copy()
    for point in run:
        rank = combining[point]
        folded[start + place[rank]] = point
        place[rank] += 1
