"""Gopher's quality numbers (arXiv 2112.11446, table A1) of one document, compiled, as datatrove computes them."""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import BLANK, BREAK, LETTER, SYMBOL

_HASH, _STOP, _ELLIPSIS, _BULLET, _HYPHEN = ord("#"), ord("."), ord("…"), ord("•"), ord("-")
_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_PACKED = np.array([sum(ord(c) << (8 * i) for i, c in enumerate(word)) for word in _STOP_WORDS], np.uint32)
"""The stop words as integers: at most four ASCII characters, so packing them is exact."""


@helper
def gopher_quality(points, n, flat, ends, n_tokens, flags, out) -> None:
    """Words, their mean length, hash and ellipsis ratio (out[0:4]); share with a letter, stop words (out[6:8])."""
    words, characters, with_letter, stop_words = 0, 0, 0, 0
    for token in range(n_tokens):
        start, end = ends[token], ends[token + 1]
        letter, word = False, False
        for i in range(start, end):
            letter = letter or flags[flat[i]] & LETTER > 0
            word = word or flags[flat[i]] & SYMBOL == 0
        with_letter += letter
        words += word
        characters += (end - start) * word
        if end - start <= 4:
            stop_words |= stop_word_bit(flat, start, end)
    out[0] = words
    if words > 0:
        out[1] = characters / words
    if n_tokens > 0:
        hashes, ellipses = count_marks(points, n)
        out[2] = hashes / n_tokens
        out[3] = ellipses / n_tokens
        out[6] = with_letter / n_tokens
    distinct = 0
    while stop_words > 0:
        distinct += stop_words & 1
        stop_words >>= 1
    out[7] = distinct


@helper
def stop_word_bit(flat: np.ndarray, start: int, end: int) -> int:
    """The bit of the stop word flat[start:end] (case matters), or 0."""
    packed = np.uint32(0)
    for i in range(start, end):
        if flat[i] > 127:
            return 0
        packed |= flat[i] << np.uint32(8 * (i - start))
    for word in range(_PACKED.size):
        if _PACKED[word] == packed:
            return 1 << word
    return 0


@helper
def count_marks(points: np.ndarray, n: int) -> tuple[int, int]:
    """How often "#" occurs, and how often "..." (without overlap) or the ellipsis character."""
    hashes, ellipses, run = 0, 0, 0
    for i in range(n):
        point = points[i]
        hashes += point == _HASH
        ellipses += point == _ELLIPSIS
        run = run + 1 if point == _STOP else 0
        if run == 3:
            ellipses += 1
            run = 0
    return hashes, ellipses


@helper
def line_endings(points: np.ndarray, n: int, flags: np.ndarray, out: np.ndarray) -> None:
    """Share of lines (str.splitlines) that start with a bullet (out[0]) or end in an ellipsis (out[1])."""
    lines, bullets, ellipses = 0, 0, 0
    begun, bullet, run, ellipsis = False, False, 0, False
    for i in range(n):
        point = points[i]
        if flags[point] & BLANK:
            run = 0
        else:
            bullet = bullet or (not begun and (point in (_BULLET, _HYPHEN)))
            begun = True
            run = run + 1 if point == _STOP else 0
            ellipsis = point == _ELLIPSIS or run >= 3
        second_half = point == 0x0A and i > 0 and points[i - 1] == 0x0D
        if (flags[point] & BREAK or i == n - 1) and not second_half:
            lines += 1
            bullets += bullet
            ellipses += ellipsis
            begun, bullet, run, ellipsis = False, False, 0, False
    if lines > 0:
        out[0] = bullets / lines
        out[1] = ellipses / lines
