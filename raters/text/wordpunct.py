"""Lower-cased WordPunct tokens, compiled: `re.findall(r"\\w+|[^\\w\\s]+", text.lower())`, exactly, for all of Unicode.

One pass over the code points writes the tokens as UTF-8 with one blank between them, so that a token and a pair of
neighbours joined by a blank are both slices of one buffer: what the n-gram hashes of DSIR read.

`str.lower` is one code point to one, but for two: the capital sigma, whose lower case depends on its neighbours, and
the dotted capital I, which becomes an i and a combining dot (no `\\w`, so it parts the word).
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import functools

import numpy as np

from raters.text.compiled import helper
from raters.text.unicode_tables import IGNORABLE, N_CODE_POINTS, SPACE, WORD, assigned_points, tables
from raters.text.words import lower_sigma

BLANK, WORDS, MARKS, SPECIAL = range(4)
"""What the lower case of a code point is part of; SPECIAL is for the two that need more than the table."""
KIND_BITS = 2
TOKEN_BYTES_PER_BYTE = 2.5
"""Bytes written per byte of text, at most: the dotted capital I has 2, its two tokens and two blanks have 5."""
_SIGMA, _DOTTED_I, _DOT_ABOVE = 0x3A3, 0x130, 0x307


@functools.cache
def lower_cases() -> np.ndarray:
    """int32 for every code point: its lower case, shifted by KIND_BITS, and the kind of that. Read-only."""
    lower = np.arange(N_CODE_POINTS, dtype=np.int32)
    for point in assigned_points():
        lowered = chr(point).lower()
        assert len(lowered) == 1 or point == _DOTTED_I, f"the lower case of {point:#x} is not one code point"
        lower[point] = ord(lowered[0])
    flags = tables().flags[lower]
    kinds = np.where(flags & WORD, WORDS, np.where(flags & SPACE, BLANK, MARKS))
    kinds[[_SIGMA, _DOTTED_I]] = SPECIAL
    return np.asarray(lower << KIND_BITS | kinds, np.int32)


@helper
def wordpunct_tokens(points, n, lower, flags, tokens, ends) -> int:
    """Write the tokens of points[:n] into `tokens` (uint8) and return their number.

    Token i is tokens[ends[i] + 1 : ends[i + 1]] (ends[0] = -1), with a blank after it. `tokens` needs
    TOKEN_BYTES_PER_BYTE for each byte of text, `ends` one entry for each byte and one more.
    """
    ends[0] = -1
    n_tokens, size, open_kind = np.int64(0), np.int64(0), np.int64(BLANK)
    for i in range(n + 1):
        entry = np.int64(lower[points[i]]) if i < n else np.int64(BLANK)
        kind, point, dotted = entry & 3, entry >> KIND_BITS, False
        if kind == SPECIAL:
            kind, dotted = np.int64(WORDS), points[i] == _DOTTED_I
            if not dotted:
                point = np.int64(lower_sigma(points, n, i, flags, IGNORABLE))
        for _ in range(2 if dotted else 1):
            if kind != open_kind:
                if open_kind != BLANK:
                    n_tokens += 1
                    ends[n_tokens] = size
                    tokens[size] = 0x20
                    size += 1
                open_kind = kind
            if kind != BLANK:
                size = encode(point, tokens, size)
            kind, point = np.int64(MARKS), np.int64(_DOT_ABOVE)
    return n_tokens


@helper
def encode(point: int, out: np.ndarray, at: int) -> int:
    """Write a code point as UTF-8 at out[at]; returns the position behind it."""
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at] = 0xC0 | (point >> 6)
        out[at + 1] = 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        out[at] = 0xE0 | (point >> 12)
        out[at + 1] = 0x80 | ((point >> 6) & 0x3F)
        out[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    out[at] = 0xF0 | (point >> 18)
    out[at + 1] = 0x80 | ((point >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((point >> 6) & 0x3F)
    out[at + 3] = 0x80 | (point & 0x3F)
    return at + 4
