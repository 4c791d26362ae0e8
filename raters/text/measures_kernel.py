"""The further measures of a batch, compiled: lexical diversity, reading ease, repetition. `measures_reference` defines.

Numbers are added in the order of the definition, so that both agree to the last bit. Compression is not here: it is
zlib itself, called window by window (`raters.text_measures`).
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper, kernel
from raters.text.interning import intern_pairs, intern_spans
from raters.text.measures_reference import FACTOR_BELOW
from raters.text.repetition_kernel import duplicate_share, split_pieces
from raters.text.signal_kernel import top_share
from raters.text.syllables import a_to_z, syllables
from raters.text.unicode_tables import ALPHA, SPACE, STOP, Tables
from raters.text.utf8 import decode
from raters.text.words import FOLDED_PER_BYTE, normalised_words

N_MEASURES = 6
MTLD, READING_EASE, TOP_4, DUP_LINES, DUP_LINE_CHARS, ALL_DISTINCT = range(N_MEASURES)
"""The columns; ALL_DISTINCT is 1 where no word occurs twice, so that MTLD is the number of words."""
_NEWLINE = 0x0A
_CLOSING = np.array([ord(c) for c in "\"'”’)]»"], np.uint32)


@kernel
def measures_of(data, starts, present, longest: int, tables: Tables) -> np.ndarray:
    """The measures of every row: float64, shape (n, N_MEASURES), NaN for null. `longest`: bytes of the longest row."""
    n = starts.size - 1
    out = np.full((n, N_MEASURES), np.nan)
    most = longest // 2 + 2
    points, letters = np.empty(longest, np.uint32), np.empty(2 * longest + 4, np.uint8)
    folded = np.empty(np.int64(longest * FOLDED_PER_BYTE) + 4, np.uint32)
    ends, begins = np.empty(most, np.int64), np.empty(most, np.int64)
    hashes, keys = np.empty(most, np.uint64), np.empty(most, np.uint64)
    table = np.empty(4 * most, np.int32)
    first, counts, seen = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    ids, grams, more = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    for row in range(n):
        if not present[row]:
            continue
        n_points = decode(data, starts[row], starts[row + 1], points)
        line_repeats(points, n_points, tables.flags, (begins, ends, hashes, table, first, counts, ids), out[row])
        n_words = normalised_words(points, n_points, tables, folded, ends, hashes)
        if n_words == 0:
            continue
        distinct = intern_spans(folded, ends, ends[1:], hashes, n_words, table, first, counts, ids)
        words, n_syllables = spelled(folded, ends, first, counts, distinct, letters)
        if words > 0:
            out[row, READING_EASE] = flesch(words, sentences(points, n_points, tables.flags), n_syllables)
        out[row, ALL_DISTINCT] = distinct == n_words
        out[row, MTLD] = (
            words_per_factor(ids, n_words, 1, seen, distinct) + words_per_factor(ids, n_words, -1, seen, distinct)
        ) / 2
        out[row, TOP_4] = top_4gram(ends, n_words, (table, keys, first, counts, ids, grams, more))
    return out


@helper
def line_repeats(points, n, flags, spans, out) -> None:
    """DUP_LINES and DUP_LINE_CHARS of the text without the whitespace at its ends; nothing for a blank text."""
    start, end = np.int64(0), n
    while start < end and flags[points[start]] & SPACE:
        start += 1
    while end > start and flags[points[end - 1]] & SPACE:
        end -= 1
    if start < end:
        pieces = split_pieces(points, start, end, np.int64(1), spans)
        duplicate_share(points, end - start, pieces, spans, out[DUP_LINES : DUP_LINE_CHARS + 1])


@helper
def words_per_factor(ids: np.ndarray, n: int, step: int, seen: np.ndarray, distinct: int) -> float:
    """One direction of MTLD over the word numbers ids[:n], backwards for step -1; `seen` is scratch."""
    seen[:distinct] = -1
    factors, types, tokens = 0, 0, 0
    at = 0 if step > 0 else n - 1
    for _ in range(n):
        word = ids[at]
        at += step
        tokens += 1
        types += seen[word] != factors
        seen[word] = factors
        if types / tokens < FACTOR_BELOW:
            factors += 1
            types, tokens = 0, 0
    rest = (1 - types / tokens) / (1 - FACTOR_BELOW) if tokens > 0 else 0.0
    return n / (factors + rest) if factors + rest > 0 else float(n)


@helper
def spelled(folded, ends, first, counts, distinct, letters) -> tuple[int, int]:
    """Words with a letter a to z, and their syllables, each distinct word looked at once. `letters` is scratch."""
    words, total = 0, 0
    for word in range(distinct):
        n_letters = a_to_z(folded, ends[first[word]], ends[first[word] + 1], letters)
        if n_letters > 0:
            words += counts[word]
            total += counts[word] * syllables(letters, n_letters)
    return words, total


@helper
def flesch(n_words: int, n_sentences: int, n_syllables: int) -> float:
    """The formula of the definition, not below -100."""
    return max(206.835 - 1.015 * (n_words / n_sentences) - 84.6 * (n_syllables / n_words), -100.0)


@helper
def sentences(points: np.ndarray, n: int, flags: np.ndarray) -> int:
    """Pieces with a letter, cut before whitespace that closes a sentence, and at blank lines."""
    found, letter, closed, newlines = 0, 0, False, 0
    for i in range(n):
        flag = flags[points[i]]
        if flag & SPACE:
            newlines += points[i] == _NEWLINE
            if closed or newlines >= 2:
                found += letter
                letter, closed = 0, False
            continue
        newlines = 0
        letter |= flag & ALPHA > 0
        closed = flag & STOP > 0 or (closed and _closes(points[i]))
    return found + letter


@helper
def _closes(point: int) -> bool:
    for mark in _CLOSING:  # noqa: SIM110 - numba has no any() over a generator
        if point == mark:
            return True
    return False


@helper
def top_4gram(ends, n_words, scratch) -> float:
    """Characters of the most frequent word 4-gram times its count over all characters; 0 if none occurs twice."""
    table, keys, first, counts, ids, grams, more = scratch
    left, target, distinct = ids, grams, 0
    for size in range(2, 5):
        n_grams = max(n_words - size + 1, 0)
        distinct = intern_pairs(left, ids, size - 1, n_grams, table, keys, first, counts, target)
        left, target = (grams, more) if size == 2 else (more, grams)
    return top_share(ends, n_words, 4, first, counts, distinct)
