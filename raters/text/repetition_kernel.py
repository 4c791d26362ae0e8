"""Gopher's repetition numbers (arXiv 2112.11446, table A1) of one document, compiled, as datatrove computes them.

Equality is exact everywhere: a hash finds the candidate, code points decide. Shares are over all characters of the
text. The n-gram at a place is its first n-1 tokens' number and its last token's number, see `interning`; for the
duplicate n-grams, which compare tokens joined without a blank, it is the run of characters itself.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import BLANK
from raters.text.interning import (
    first_maximum,
    hash_points,
    intern_pairs,
    intern_spans,
    mix64,
    same_points,
    table_mask,
)

_NEWLINE = 0x0A
_BASE = np.uint64(0x9E3779B97F4A7C15)


@helper
def paragraph_repetition(points, n, flags, spans, out) -> None:
    r"""Duplicate share of paragraphs, the stripped text split at `\n{2,}` (out[0]), and of characters (out[1])."""
    start, end = np.int64(0), n
    while start < end and flags[points[start]] & BLANK:
        start += 1
    while end > start and flags[points[end - 1]] & BLANK:
        end -= 1
    duplicate_share(points, n, split_pieces(points, start, end, np.int64(2), spans), spans, out)


@helper
def line_repetition(points, n, spans, out) -> None:
    r"""The same for lines, split at `\n+`; a break at either end of the text leaves an empty line there."""
    duplicate_share(points, n, split_pieces(points, np.int64(0), n, np.int64(1), spans), spans, out)


@helper
def split_pieces(points, start, end, least, spans) -> int:
    """Write the pieces of points[start:end] between runs of at least `least` newlines; returns their number."""
    begins, finishes = spans[0], spans[1]
    pieces, i = 0, start
    begins[0] = start
    while i < end:
        run = i
        while run < end and points[run] == _NEWLINE:
            run += 1
        if run - i >= least:
            finishes[pieces] = i
            pieces += 1
            begins[pieces] = run
        i = max(run, i + 1)
    finishes[pieces] = end
    return pieces + 1


@helper
def duplicate_share(points, n, pieces, spans, out) -> None:
    """Share of pieces that equal an earlier one (out[0]), and their characters over the text's n (out[1])."""
    if n == 0:
        out[0], out[1] = 0.0, 0.0
        return
    begins = spans[0]
    out[0] = (pieces - intern_pieces(points, pieces, spans)) / pieces
    out[1] = duplicate_characters(begins, spans[1], pieces, spans[4], spans[6]) / n


@helper
def intern_pieces(points, pieces, spans) -> int:
    """Number the pieces by content; `spans` is (begins, ends, hashes, table, first, counts, ids)."""
    begins, finishes, hashes, table, first, counts, ids = spans
    for i in range(pieces):
        hashes[i] = hash_points(points, begins[i], finishes[i])
    return intern_spans(points, begins, finishes, hashes, pieces, table, first, counts, ids)


@helper
def duplicate_characters(begins, finishes, pieces, first, ids) -> int:
    """Characters in the pieces that are not the first of their kind."""
    characters = 0
    for i in range(pieces):
        if first[ids[i]] != i:
            characters += finishes[i] - begins[i]
    return characters


@helper
def ngram_shares(flat, ends, hashes, n_tokens, n, scratch, out) -> None:
    """Characters (blanks between tokens included) of the most frequent 2-, 3- and 4-gram times its count (out[0:3])."""
    table, keys, first, counts, ids, grams, more = scratch
    intern_spans(flat, ends, ends[1:], hashes, n_tokens, table, first, counts, ids)
    left, target = ids, grams
    for size in range(2, 5):
        out[size - 2] = 0.0
        n_grams = n_tokens - size + 1
        if n_grams <= 0 or n == 0:
            continue
        distinct = intern_pairs(left, ids, size - 1, n_grams, table, keys, first, counts, target)
        best = first_maximum(counts, distinct)
        start = first[best]
        out[size - 2] = (ends[start + size] - ends[start] + size - 1) * counts[best] / n
        left, target = (grams, more) if size == 2 else (more, grams)


@helper
def char_powers(n: int) -> np.ndarray:
    """Powers 0 to n - 1 of the polynomial hash's base, modulo 2**64."""
    powers = np.empty(n, np.uint64)
    power = np.uint64(1)
    for i in range(n):
        powers[i] = power
        power *= _BASE
    return powers


@helper
def dup_ngram_share(flat, ends, n_tokens, n, scratch, out) -> None:
    """Characters in 5- to 10-grams seen before (out[0:6]). After a repeated one the search goes on behind it."""
    table, keys, prefix, powers = scratch
    value = np.uint64(0)
    prefix[0] = value
    for token in range(n_tokens):
        for i in range(ends[token], ends[token + 1]):
            value = value * _BASE + np.uint64(flat[i] + 1)
        prefix[token + 1] = value
    for size in range(5, 11):
        out[size - 5] = 0.0
        if n_tokens >= size:
            out[size - 5] = repeated_characters(flat, ends, n_tokens, size, table, keys, prefix, powers) / n


@helper
def repeated_characters(flat, ends, n_tokens, size, table, keys, prefix, powers) -> int:
    mask = table_mask(n_tokens)
    table[: mask + 1] = -1
    characters, at = 0, 0
    while at < n_tokens - size + 1:
        length = ends[at + size] - ends[at]
        key = mix64(prefix[at + size] - prefix[at] * powers[length])
        slot = np.int64(key & np.uint64(mask))
        while True:
            other = table[slot]
            if other < 0:
                table[slot] = at
                keys[at] = key
                at += 1
                break
            if (
                keys[other] == key
                and ends[other + size] - ends[other] == length
                and same_points(flat, ends[other], ends[at], length)
            ):
                characters += length
                at += size
                break
            slot = (slot + 1) & mask
    return characters
