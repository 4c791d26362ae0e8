"""English tokens, compiled: spaCy's English tokenizer rules, on which the thresholds of published filters rest.

Text is cut at whitespace; then each span loses prefix and suffix tokens (punctuation, quotes, currency, 's, units
after digits) until an exception ("don't", "Mr.", ":-)") or nothing more is found; what is left is kept whole if it
looks like a web address, or cut at infixes (hyphens between letters, ellipses, pictographs). Known differences from
spaCy: emoticons are not put together again across tokens, and letters of rare scripts follow Unicode.

A token starts where `cuts` is 1 and ends at the next cut or at whitespace: later passes need nothing else.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import (
    BEFORE_STOP,
    BLANK,
    CURRENCY,
    DIGIT,
    PLAIN,
    PREFIX,
    PUNCTUATION,
    SENTENCE_END,
    SUFFIX,
    UPPER,
    English,
)
from raters.text.infixes import cut_infixes
from raters.text.interning import hash_points
from raters.text.urls import is_url

_LONGEST_EXCEPTION = 12
_STOP, _ELLIPSIS, _PLUS, _DOLLAR = ord("."), ord("…"), ord("+"), ord("$")
_S, _CAPITAL_S, _APOSTROPHE, _TYPOGRAPHIC = ord("s"), ord("S"), ord("'"), ord("’")
_C, _A, _U, _SPACE = (ord(c) for c in "CAU ")


@helper
def cut_tokens(points: np.ndarray, n: int, english: English, cuts: np.ndarray) -> None:
    """Set cuts[i] (uint8) to 1 where a token of points[:n] starts, else to 0."""
    cuts[:n] = 0
    start = np.int64(0)
    while start < n:
        if english.flags[points[start]] & BLANK:
            start += 1
            continue
        plain = np.uint32(PLAIN)
        end = start
        while end < n and not english.flags[points[end]] & BLANK:
            plain &= english.flags[points[end]]
            end += 1
        cuts[start] = 1
        row = find_exception(points, start, end, english)
        if row >= 0:
            cut_exception(start, row, english, cuts)
        elif not plain or english.flags[points[start]] & DIGIT:
            cut_span(points, start, end, english, cuts)
        start = end


@helper
def cut_span(points: np.ndarray, start: int, end: int, english: English, cuts: np.ndarray) -> None:
    """Cut one span without whitespace that is no exception as a whole."""
    row = -1
    while start < end:
        row = find_exception(points, start, end, english)
        if row >= 0:
            break
        before = prefix_length(points, start, end, english)
        if 0 < before < end - start:
            row = find_exception(points, start + before, end, english)
            if row >= 0:
                start += before
                cuts[start] = 1
                break
        after = suffix_length(points, start + before, end, english)
        if 0 < after < end - start:
            row = find_exception(points, start, end - after, english)
            if row >= 0:
                end -= after
                cuts[end] = 1
                break
        if before + after == 0:
            break
        if after > 0:
            end -= after
            cuts[end] = 1
        start += before
        if start < end:
            cuts[start] = 1
    if row >= 0:
        cut_exception(start, row, english, cuts)
    elif start < end and not is_url(points, start, end, english.flags):
        cut_infixes(points, start, end, english.flags, cuts)


@helper
def find_exception(points: np.ndarray, start: int, end: int, english: English) -> int:
    """The row of points[start:end] in the exceptions, or -1."""
    length = end - start
    if length > _LONGEST_EXCEPTION:
        return -1
    mask = english.slots.size - 1
    slot = np.int64(hash_points(points, start, end) & np.uint64(mask))
    while english.slots[slot] >= 0:
        row = english.slots[slot]
        first = english.starts[row]
        if english.starts[row + 1] - first == length:
            i = 0
            while i < length and english.points[first + i] == points[start + i]:
                i += 1
            if i == length:
                return row
        slot = (slot + 1) & mask
    return -1


@helper
def cut_exception(start: int, row: int, english: English, cuts: np.ndarray) -> None:
    """Cut at `start` into the pieces of exception `row`."""
    for piece in range(3):
        if english.pieces[row, piece] > 0:
            cuts[start] = 1
            start += english.pieces[row, piece]


@helper
def prefix_length(points: np.ndarray, start: int, end: int, english: English) -> int:
    """Length of the token that splits off in front of points[start:end], or 0."""
    point = points[start]
    if english.flags[point] & PREFIX:
        return 1
    following = points[start + 1] if start + 1 < end else np.uint32(0)
    if point == _PLUS:
        return 0 if english.flags[following] & DIGIT else 1
    if point == _STOP and following == _STOP:
        length = 2
        while start + length < end and points[start + length] == _STOP:
            length += 1
        return length
    if following == _DOLLAR and (point in (_C, _A)):
        return 2
    if point == _U and following == _CAPITAL_S and start + 2 < end and points[start + 2] == _DOLLAR:
        return 3
    return 0


@helper
def suffix_length(points: np.ndarray, start: int, end: int, english: English) -> int:
    """Length of the token that splits off at the end of points[start:end], or 0; the longest match, as in spaCy."""
    if start >= end:
        return 0
    last = points[end - 1]
    flags = english.flags
    before = points[end - 2] if end - 2 >= start else np.uint32(0)
    if last == _STOP:
        length = 1
        while end - length - 1 >= start and points[end - length - 1] == _STOP:
            length += 1
        if length > 1:
            return length
        if end - 2 < start:
            return 0
        both_upper = end - 3 >= start and flags[before] & UPPER > 0 and flags[points[end - 3]] & UPPER > 0
        return 1 if flags[before] & BEFORE_STOP or both_upper else 0
    if (last in (_S, _CAPITAL_S)) and (before in (_APOSTROPHE, _TYPOGRAPHIC)):
        return 2
    if last == _ELLIPSIS and before == _ELLIPSIS:
        return 2
    if flags[last] & SUFFIX:
        return 1
    if flags[last] & CURRENCY or last == _PLUS:
        return 1 if flags[before] & DIGIT else 0
    return unit_length(points, start, end, english)


@helper
def unit_length(points: np.ndarray, start: int, end: int, english: English) -> int:
    """Length of the unit of measure that ends points[start:end] right after a digit, or 0."""
    for length in range(1, 5):
        if end - length - 1 < start:
            return 0
        if not english.flags[points[end - length - 1]] & DIGIT:
            continue
        for unit in range(english.unit_starts.size - 1):
            first = english.unit_starts[unit]
            if english.unit_starts[unit + 1] - first != length:
                continue
            i = 0
            while i < length and english.unit_points[first + i] == points[end - length + i]:
                i += 1
            if i == length:
                return length
        return 0
    return 0


@helper
def gather_tokens(points, n, flags, cuts, flat, ends, hashes) -> int:
    """Write the tokens one after the other, without whitespace; returns their number. Form as in `words`."""
    ends[0] = 0
    n_tokens, size = np.int64(0), np.int64(0)
    for i in range(n + 1):
        blank = i == n or flags[points[i]] & BLANK > 0
        if (blank or cuts[i]) and size > ends[n_tokens]:
            hashes[n_tokens] = hash_points(flat, ends[n_tokens], size)
            n_tokens += 1
            ends[n_tokens] = size
        if not blank:
            flat[size] = points[i]
            size += 1
    return n_tokens


@helper
def count_sentences(points: np.ndarray, start: int, end: int, flags: np.ndarray, cuts: np.ndarray) -> int:
    """Sentences of points[start:end] as spaCy's sentencizer counts them.

    A sentence ends after a token that is one closing mark, at the next token that is neither such a mark nor all
    punctuation. Whitespace counts as a token unless it is the single blank between two others.
    """
    sentences, closed, i = 0, False, start
    while i < end:
        first, is_blank = i, flags[points[i]] & BLANK > 0
        all_punctuation = True
        while i < end and (flags[points[i]] & BLANK > 0) == is_blank and (i == first or is_blank or not cuts[i]):
            all_punctuation = all_punctuation and flags[points[i]] & PUNCTUATION > 0
            i += 1
        if is_blank and first > start and points[first] == _SPACE and i - first == 1:
            continue
        closing = i - first == 1 and flags[points[first]] & SENTENCE_END > 0
        if sentences == 0:
            sentences = 1
            closed = closing
        elif closing:
            closed = True
        elif closed and not all_punctuation:
            sentences += 1
            closed = False
    return sentences
