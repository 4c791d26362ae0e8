"""The numbers behind the Gopher, C4 and FineWeb filters for a batch, compiled: one row of float64 a document.

Per document: decode once, cut into English tokens once, then each family of rules reads the same buffers.
`COLUMNS` names the numbers; `raters.filter_signals` says what they mean.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.c4_kernel import c4_signals
from raters.text.compiled import kernel
from raters.text.english_tables import English
from raters.text.fineweb_kernel import fineweb_signals
from raters.text.gopher_kernel import gopher_quality, line_endings
from raters.text.repetition_kernel import (
    char_powers,
    dup_ngram_share,
    line_repetition,
    ngram_shares,
    paragraph_repetition,
)
from raters.text.tokens import cut_tokens, gather_tokens
from raters.text.utf8 import decode

COLUMNS = (
    "n_chars",
    "gopher_n_words",
    "gopher_mean_word_length",
    "gopher_hash_ratio",
    "gopher_ellipsis_ratio",
    "gopher_bullet_line_frac",
    "gopher_ellipsis_line_frac",
    "gopher_alpha_word_frac",
    "gopher_stop_words",
    "gopher_dup_para_frac",
    "gopher_dup_para_char_frac",
    "gopher_dup_line_frac",
    "gopher_dup_line_char_frac",
    "gopher_top_2gram_char_frac",
    "gopher_top_3gram_char_frac",
    "gopher_top_4gram_char_frac",
    *(f"gopher_dup_{n}gram_char_frac" for n in range(5, 11)),
    "c4_lorem_ipsum_lines",
    "c4_curly_bracket_lines",
    "c4_n_sentences",
    "fineweb_n_lines",
    "fineweb_line_punct_frac",
    "fineweb_short_line_frac",
    "fineweb_char_dup_frac",
    "fineweb_newline_word_ratio",
)
_QUALITY, _LINES, _PARAGRAPHS, _TOP, _DUPLICATE, _C4, _FINEWEB = 1, 5, 9, 13, 16, 22, 25
_N_COLUMNS = len(COLUMNS)


@kernel
def filter_signals_of(data, starts, present, longest: int, english: English) -> np.ndarray:
    """The columns of every row: float64, shape (n, len(COLUMNS)), NaN for null. `longest`: bytes of the longest row.

    Scratch is sized for one token per byte; memory that a batch does not touch is never really taken.
    """
    n, most = starts.size - 1, longest + 2
    out = np.full((n, _N_COLUMNS), np.nan)
    points, flat, spare = np.empty(most, np.uint32), np.empty(most, np.uint32), np.empty(most, np.uint32)
    lowered = np.empty(most, np.uint8)
    cuts, spare_cuts = np.empty(most, np.uint8), np.empty(most, np.uint8)
    ends, begins, finishes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    hashes, keys = np.empty(most, np.uint64), np.empty(most, np.uint64)
    table = np.empty(4 * most, np.int32)
    first, counts = np.empty(most, np.int32), np.empty(most, np.int32)
    ids, grams, more = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    powers = char_powers(most)
    prefix = np.empty(most, np.uint64)
    flags = english.flags
    for row in range(n):
        if not present[row]:
            continue
        size = decode(data, starts[row], starts[row + 1], points)
        cut_tokens(points, size, english, cuts)
        n_tokens = gather_tokens(points, size, flags, cuts, flat, ends, hashes)
        target = out[row]
        target[0] = size
        gopher_quality(points, size, flat, ends, n_tokens, flags, target[_QUALITY:])
        line_endings(points, size, flags, target[_LINES:])
        spans = (begins, finishes, keys, table, first, counts, ids)
        paragraph_repetition(points, size, flags, spans, target[_PARAGRAPHS:])
        line_repetition(points, size, spans, target[_PARAGRAPHS + 2 :])
        fineweb_signals(points, size, flags, n_tokens, spans, target[_FINEWEB:])
        ngram_shares(flat, ends, hashes, n_tokens, size, (table, keys, first, counts, ids, grams, more), target[_TOP:])
        dup_ngram_share(flat, ends, n_tokens, size, (table, keys, prefix, powers), target[_DUPLICATE:])
        c4_signals(points, size, english, cuts, (spare, spare_cuts, lowered), target[_C4:])
    return out
