"""C4's numbers (Raffel et al., JMLR 21, 2020, section 2.2) of one document, compiled, as datatrove computes them.

C4 drops lines, then judges what is left. Nothing is changed here: the lines are walked as C4 would, and the
numbers that decide are counted on the lines that would survive.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import BLANK, BREAK, DECIMAL, English
from raters.text.tokens import count_sentences, cut_tokens

_STOP, _OPEN, _CLOSE, _CURLY, _KELVIN, _DOTTED_I = ord("."), ord("["), ord("]"), ord("{"), 0x212A, 0x130
_ENDINGS = np.array([ord(c) for c in ".?!\"'"], np.uint32)
_LOREM, _SCRIPT = 1, 2
_PHRASES = (
    "lorem ipsum",
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_PHRASE_BYTES = np.frombuffer("".join(_PHRASES).encode(), np.uint8).copy()
_PHRASE_STARTS = np.cumsum([0, *map(len, _PHRASES)])
_NOTES = np.frombuffer(b"edit]citation needed]", np.uint8).copy()
_MAX_WORD, _MIN_WORDS = 1000, 3


@helper
def c4_signals(points, n, english: English, cuts, scratch, out) -> None:
    """Kept lines with "lorem ipsum" (out[0]) or a curly bracket (out[1]); sentences in the other lines (out[2])."""
    lorem, curly, sentences, start = 0, 0, 0, np.int64(0)
    for i in range(n + 1):
        if i < n and not english.flags[points[i]] & BREAK:
            continue
        first, last = start, i
        while first < last and english.flags[points[first]] & BLANK:
            first += 1
        while last > first and english.flags[points[last - 1]] & BLANK:
            last -= 1
        start = i + 1
        if first == last or not enough_words(points, first, last, english.flags):
            continue
        found, count = judge_line(points, first, last, english, cuts, scratch)
        lorem += found == _LOREM
        curly += found == _SCRIPT
        sentences += count
    out[0], out[1], out[2] = lorem, curly, sentences


@helper
def enough_words(points: np.ndarray, start: int, end: int, flags: np.ndarray) -> bool:
    """Whether the line has at least three words, none of them longer than 1000 characters."""
    words, length = 0, 0
    for i in range(start, end):
        length = 0 if flags[points[i]] & BLANK else length + 1
        words += length == 1
        if length > _MAX_WORD:
            return False
    return words >= _MIN_WORDS


@helper
def judge_line(points, start, end, english: English, cuts, scratch) -> tuple[int, int]:
    """(1, 0) for lorem ipsum, (2, 0) for a curly bracket, otherwise (0, sentences), with 0 for a dropped line."""
    spare, spare_cuts, lowered = scratch
    line, line_cuts, first, last = points, cuts, start, end
    bracket = False
    for i in range(start, end):
        bracket = bracket or points[i] == _OPEN
    if bracket:
        size = without_citations(points, start, end, english.flags, spare)
        if size < end - start:
            line, line_cuts, first, last = spare, spare_cuts, np.int64(0), size
    if not ends_well(line, first, last):
        return 0, 0
    phrase, curly = scan_phrases(line, first, last, lowered)
    if phrase == 0:
        return _LOREM, 0
    if phrase == 1:
        return 0, 0
    if curly:
        return _SCRIPT, 0
    if phrase >= 2:
        return 0, 0
    if last - first < end - start:
        cut_tokens(spare, last, english, spare_cuts)
    return 0, count_sentences(line, first, last, english.flags, line_cuts)


@helper
def ends_well(line: np.ndarray, start: int, end: int) -> bool:
    """Whether the line ends in one of . ? ! " ' and not in three dots."""
    if start == end:
        return False
    if end - start >= 3 and line[end - 1] == _STOP and line[end - 2] == _STOP and line[end - 3] == _STOP:
        return False
    for mark in _ENDINGS:  # noqa: SIM110 - numba has no any() over a generator
        if line[end - 1] == mark:
            return True
    return False


@helper
def without_citations(points, start, end, flags, spare) -> int:
    r"""Copy points[start:end] without `\[\d*]|\[edit]|\[citation needed]`; returns the size."""
    size, i = np.int64(0), start
    while i < end:
        if points[i] == _OPEN:
            close = i + 1
            while close < end and flags[points[close]] & DECIMAL:
                close += 1
            if close < end and points[close] == _CLOSE:
                i = close + 1
                continue
            note = np.int64(0) if _starts_with(points, i + 1, end, np.int64(0), np.int64(5)) else np.int64(5)
            length = np.int64(5) if note == 0 else np.int64(16)
            if _starts_with(points, i + 1, end, note, length):
                i += 1 + length
                continue
        spare[size] = points[i]
        size += 1
        i += 1
    return size


@helper
def _starts_with(points: np.ndarray, at: int, end: int, note: int, length: int) -> bool:
    if end - at < length:
        return False
    for i in range(length):  # noqa: SIM110 - numba has no all() over a generator
        if points[at + i] != _NOTES[note + i]:
            return False
    return True


@helper
def scan_phrases(line: np.ndarray, start: int, end: int, lowered: np.ndarray) -> tuple[int, bool]:
    """The lowest phrase number in the lower-cased line (len(_PHRASES) as -1), and whether it has a curly bracket.

    Outside ASCII only the Kelvin sign and the dotted capital I have ASCII in their lower case; the latter is
    followed by a mark there, which no phrase contains.
    """
    size, curly = 0, False
    for i in range(start, end):
        point = line[i]
        curly = curly or point == _CURLY
        if point == _KELVIN:
            point = np.uint32(107)
        elif 0x41 <= point <= 0x5A:
            point += np.uint32(32)
        lowered[size] = min(point, np.uint32(255))
        size += 1
        if point == _DOTTED_I and size < lowered.size:
            lowered[size - 1] = 105
            lowered[size] = 255
            size += 1
    best = _PHRASE_STARTS.size
    for i in range(size):
        first = lowered[i]
        if not (first == 108 or first == 106 or first == 116 or first == 112 or first == 99 or first == 117):
            continue
        for phrase in range(min(best, _PHRASE_STARTS.size - 1)):
            begin, length = _PHRASE_STARTS[phrase], _PHRASE_STARTS[phrase + 1] - _PHRASE_STARTS[phrase]
            k = 0
            while k < length and i + k < size and lowered[i + k] == _PHRASE_BYTES[begin + k]:
                k += 1
            if k == length:
                best = phrase
    return (-1 if best == _PHRASE_STARTS.size else best), curly
