"""The natural-language signals of a batch, compiled: eleven float64 columns, unrounded where Python will round.

Definitions stand in `reference`; this file computes the same numbers in the same order of additions:

* entropy adds its terms in first-seen order; a term depends on the count alone and is taken from a small table;
* per-line values must be rounded to 8 digits before they are added. `round_share` does what Python's `round`
  does, exactly: away from a tie, rint(x * 1e8) / 1e8 is the correctly rounded decimal; near a tie the exact
  fraction decides (see there);
* document values are rounded by the caller, where a rare near-tie can go to Python itself.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import math

import numpy as np

from raters.text.compiled import helper, kernel
from raters.text.interning import first_maximum, intern_pairs, intern_spans
from raters.text.unicode_tables import (
    LENGTH_SHIFT,
    LETTER,
    NUMERIC,
    PUNCTUATION,
    SPACE,
    STOP,
    TERMINAL,
    UPPER,
    WORD,
    Tables,
)
from raters.text.utf8 import decode
from raters.text.words import FOLDED_PER_BYTE, normalised_words

N_SIGNALS = 11
ENTROPY, NO_ALPHA, UPPERCASE, MEAN_LENGTH, TOP_2, WORDS, TOP_3, SENTENCES, NUMERALS, UNIQUE, ENDED = range(N_SIGNALS)
_NEWLINE = 0x0A
_ENTROPY_TERMS = 64


@kernel
def signals_of(data, starts, present, longest: int, tables: Tables) -> np.ndarray:
    """The signals of every row: float64, shape (n, 11), NaN for null. `longest`: bytes of the longest row."""
    n = starts.size - 1
    out = np.full((n, N_SIGNALS), np.nan)
    max_words = longest // 2 + 1
    points = np.empty(longest, np.uint32)
    folded = np.empty(np.int64(longest * FOLDED_PER_BYTE) + 4, np.uint32)
    ends = np.empty(max_words + 1, np.int64)
    hashes, keys = np.empty(max_words, np.uint64), np.empty(max_words, np.uint64)
    table = np.empty(4 * max_words + 4, np.int32)
    first, counts = np.empty(max_words, np.int32), np.empty(max_words, np.int32)
    ids, pairs, triples = np.empty(max_words, np.int32), np.empty(max_words, np.int32), np.empty(max_words, np.int32)
    terms = np.empty(_ENTROPY_TERMS)
    for row in range(n):
        if not present[row]:
            continue
        n_points = decode(data, starts[row], starts[row + 1], points)
        line_signals(points, n_points, tables.flags, out[row])
        raw_token_signals(points, n_points, tables.flags, out[row])
        n_words = normalised_words(points, n_points, tables, folded, ends, hashes)
        distinct = intern_spans(folded, ends, ends[1:], hashes, n_words, table, first, counts, ids)
        if n_words > 0:
            out[row, ENTROPY] = entropy(counts, distinct, n_words, terms)
            out[row, MEAN_LENGTH] = ends[n_words] / n_words
            out[row, UNIQUE] = distinct / n_words
        out[row, WORDS] = n_words
        distinct = intern_pairs(ids, ids, 1, max(n_words - 1, 0), table, keys, first, counts, pairs)
        out[row, TOP_2] = top_share(ends, n_words, 2, first, counts, distinct)
        distinct = intern_pairs(pairs, ids, 2, max(n_words - 2, 0), table, keys, first, counts, triples)
        out[row, TOP_3] = top_share(ends, n_words, 3, first, counts, distinct)
    return out


@helper
def entropy(counts: np.ndarray, distinct: int, total: int, terms: np.ndarray) -> float:
    """Sum of -p ln p in nats over counts[:distinct]; `terms` is scratch for the terms of small counts."""
    terms[:] = -1.0
    value = 0.0
    for i in range(distinct):
        count = counts[i]
        if count < terms.size:
            if terms[count] < 0.0:
                terms[count] = -count / total * math.log(count / total)
            value += terms[count]
        else:
            value += -count / total * math.log(count / total)
    return value


@helper
def top_share(ends, n_words, size, first, counts, distinct) -> float:
    """Characters of the most frequent n-gram times its count over all characters; 0 if none occurs twice."""
    best = first_maximum(counts, distinct)
    if best < 0 or counts[best] <= 1:
        return 0.0
    start = first[best]
    return (ends[start + size] - ends[start]) * counts[best] / ends[n_words]


@helper
def raw_token_signals(points: np.ndarray, n: int, flags: np.ndarray, out: np.ndarray) -> None:
    r"""NO_ALPHA over the tokens `\w+|[^\w\s]+`, and SENTENCES, the matches of `\b[^.!?]+[.!?]*`.

    A sentence match starts at the first word character after a run of marks (nothing else can stand at `\b`
    there) and takes everything to the end of the next run, so counting runs between marks that hold a word
    character counts the matches.
    """
    tokens, with_letter, sentences = 0, 0, 0
    kind, letter_seen, word_seen = 0, 0, 0
    for i in range(n):
        flag = np.int64(flags[points[i]])
        word = (flag & WORD) // WORD
        now = 2 * word + 1 - (word | (flag & SPACE) // SPACE)
        changed = np.int64(now != kind)
        with_letter += letter_seen & changed
        tokens += changed & np.int64(now > 0)
        letter_seen = (letter_seen & ~changed) | (flag & LETTER) // LETTER
        kind = now
        sentences += word & ~word_seen
        word_seen = (word_seen | word) & ~((flag & STOP) // STOP)
    with_letter += letter_seen
    out[SENTENCES] = sentences
    if tokens > 0:
        out[NO_ALPHA] = 1.0 - with_letter / tokens


@helper
def line_signals(points: np.ndarray, n: int, flags: np.ndarray, out: np.ndarray) -> None:
    """UPPERCASE, NUMERALS and ENDED: means over the lines `([^\\n]*\\n|[^\\n]+$)` of rounded line values."""
    uppercase, numerals, ended, lines = 0.0, 0.0, 0, 0
    upper, numeric, length, gap, start, terminal = 0, 0, 0, 0, 0, 0
    for i in range(n):
        flag = np.int64(flags[points[i]])
        blank = (flag & SPACE) // SPACE
        kept = 1 - (blank | (flag & PUNCTUATION) // PUNCTUATION)
        upper += (flag & UPPER) // UPPER
        terminal = terminal if blank else flag & TERMINAL
        # The blank before a word counts if a word stands before it in this line.
        length += kept * (1 + (flag >> LENGTH_SHIFT) + (gap & np.int64(length > 0)))
        numeric += (flag & NUMERIC) // NUMERIC
        gap = (gap | blank) & (1 - kept)
        if points[i] == _NEWLINE or i == n - 1:
            lines += 1
            uppercase += round_share(upper, i + 1 - start)
            numerals += round_share(numeric, length) if length > 0 else 0.0
            ended += terminal > 0
            upper, numeric, length, gap, start, terminal = 0, 0, 0, 0, i + 1, 0
    if lines > 0:
        out[UPPERCASE] = uppercase / lines
        out[NUMERALS] = numerals / lines
        out[ENDED] = ended / lines


@kernel
def round_share(part: int, whole: int) -> float:
    """round(part / whole, 8) as Python computes it, for 0 <= part <= whole < 9e7 characters of one line.

    The fraction part * 1e8 / whole is a tie only if 2 * part * 1e8 is an odd multiple of whole. Otherwise it is
    at least 1 / (2 * whole) > 5.6e-9 away from one, beyond the error of the double part / whole (5.6e-17 * 1e8),
    so the nearest integer of the exact fraction is also what the decimal expansion of the double rounds to.
    At a tie Python rounds the double's own expansion: up if the double lies above the fraction, down if below,
    to even if it is exact. The sign of part - double * whole tells, from the exact remainder of the product.
    """
    if part == 0:
        return 0.0
    scaled = part * 100_000_000
    below = scaled // whole
    twice_rest = 2 * (scaled - below * whole)
    if twice_rest == whole:
        excess = _excess(part, whole)
        if excess > 0 or (excess == 0 and below % 2 == 1):
            below += 1
    elif twice_rest > whole:
        below += 1
    return below / 1e8


@helper
def _excess(part: int, whole: int) -> float:
    """(part / whole as a double) * whole - part, without rounding: the sign says on which side the double lies.

    Dekker's product: the double is split at 26 of its 53 bits and `whole` < 2**31 at 2**16.
    """
    value = part / whole
    split = value * 134217729.0
    high = split - (split - value)
    low = value - high
    whole_high = float((whole >> 16) << 16)
    whole_low = float(whole & 0xFFFF)
    # The four products have at most 27 + 16 bits, so they are exact. Added to -part largest first, each sum
    # cancels the leading bits and so stays within 53.
    return (((high * whole_high - part) + high * whole_low) + low * whole_high) + low * whole_low
