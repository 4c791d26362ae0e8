"""FineWeb's own quality numbers (arXiv 2406.17557, section 3.6) of one document, compiled, as datatrove does it."""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import BLANK, LINE_END
from raters.text.repetition_kernel import duplicate_characters, intern_pieces

_NEWLINE = 0x0A
_SHORT_LINE = 30


@helper
def fineweb_signals(points, n, flags, n_tokens, spans, out) -> None:
    """Lines that are not blank (out[0]); of them the share that ends in a mark, the share of at most 30 characters,
    characters in repeated lines over all characters but newlines, newlines over tokens (out[1:5])."""
    begins, finishes = spans[0], spans[1]
    lines, newlines, ended, short, start, blank = np.int64(0), 0, 0, 0, 0, True
    for i in range(n + 1):
        if i < n and points[i] != _NEWLINE:
            blank = blank and flags[points[i]] & BLANK > 0
            continue
        newlines += i < n
        if not blank:
            begins[lines], finishes[lines] = start, i
            lines += 1
            ended += flags[points[i - 1]] & LINE_END > 0
            short += i - start <= _SHORT_LINE
        start, blank = i + 1, True
    out[0] = lines
    if lines == 0:
        return
    intern_pieces(points, lines, spans)
    out[1] = ended / lines
    out[2] = short / lines
    out[3] = duplicate_characters(begins, finishes, lines, spans[4], spans[6]) / (n - newlines)
    out[4] = newlines / n_tokens
