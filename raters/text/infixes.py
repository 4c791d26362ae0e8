"""Where a token is cut inside, compiled: hyphens between letters, ellipses, pictographs, a full stop before a capital.

spaCy's English infix rules, in its order of alternatives; `tokens` calls this for what is left of a span after its
prefixes and suffixes.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import DIGIT, ICON, LETTER, LOWER, PLAIN, QUOTE, UPPER

_STOP, _ELLIPSIS, _PLUS, _COMMA = ord("."), ord("…"), ord("+"), ord(",")
_HYPHEN, _EN_DASH, _EM_DASH, _TILDE, _STAR, _CARET = (ord(c) for c in "-–—~*^")
_COLON, _LESS, _GREATER, _EQUALS, _SLASH = (ord(c) for c in ":<>=/")


@helper
def cut_infixes(points: np.ndarray, start: int, end: int, flags: np.ndarray, cuts: np.ndarray) -> None:
    """Cut points[start:end] around its infixes; one right at the start of a piece stays with what follows."""
    piece, at = start, start
    while at < end:
        length = infix_length(points, start, at, end, flags)
        if length == 0:
            at += 1
            continue
        if at > piece:
            cuts[at] = 1
            piece = at + length
            if piece < end:
                cuts[piece] = 1
        at += length


@helper
def infix_length(points: np.ndarray, start: int, at: int, end: int, flags: np.ndarray) -> int:
    """Length of the infix at points[at] within points[start:end], or 0."""
    point = points[at]
    if flags[point] & PLAIN:
        return 0
    if point == _ELLIPSIS or flags[point] & ICON:
        return 1
    before = flags[points[at - 1]] if at > start else np.uint32(0)
    after = flags[points[at + 1]] if at + 1 < end else np.uint32(0)
    if point == _STOP:
        length = 1
        while at + length < end and points[at + length] == _STOP:
            length += 1
        if length > 1:
            return length
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    arithmetic = point in (_PLUS, _HYPHEN, _STAR, _CARET)
    if arithmetic and before & DIGIT and at + 1 < end and (after & DIGIT or points[at + 1] == _HYPHEN):
        return 1
    if point == _COMMA:
        return 1 if before & LETTER and after & LETTER else 0
    if not before & (LETTER | DIGIT):
        return 0
    if point in (_COLON, _LESS, _GREATER, _EQUALS, _SLASH):
        return 1 if after & LETTER else 0
    return dash_length(points, at, end, flags)


@helper
def dash_length(points: np.ndarray, at: int, end: int, flags: np.ndarray) -> int:
    """Length of a dash (- – — -- --- —— ~) at points[at] that a letter follows, or 0."""
    point = points[at]
    longest = 3 if point == _HYPHEN else 2 if point == _EM_DASH else 1 if point in (_EN_DASH, _TILDE) else 0
    for length in range(1, longest + 1):
        if at + length >= end:
            return 0
        if flags[points[at + length]] & LETTER:
            return length
        if points[at + length] != point:
            return 0
    return 0
