"""What English tokens and the filter rules need to know about each code point.

Prefix, suffix and infix characters follow spaCy's English rules; letters, cases and pictographs are taken from
the Unicode properties instead of spaCy's hand-made ranges, which differ on rare scripts only. The symbol and
sentence-end sets are data of the published filters (datatrove's), so that rules mean the same here.
"""

import functools
import unicodedata
from typing import NamedTuple

import numpy as np

from raters.text.interning import hash_points
from raters.text.token_exceptions import exception_table
from raters.text.unicode_tables import N_CODE_POINTS, assigned_points

(
    BLANK,
    LETTER,
    LOWER,
    UPPER,
    DIGIT,
    PREFIX,
    SUFFIX,
    ICON,
    QUOTE,
    BEFORE_STOP,
    CURRENCY,
    SYMBOL,
    LINE_END,
    SENTENCE_END,
    PUNCTUATION,
    DECIMAL,
    BREAK,
    PLAIN,
) = (1 << bit for bit in range(18))
"""Flag bits: str.isspace; str.isalpha; letters that are not upper, not lower case; [0-9]; splits off in front, at the
end; category So; a quotation mark; may stand before a full stop that splits off; currency; counts as a symbol for
Gopher; ends a line for FineWeb; ends a sentence; category P*; decimal digit; str.splitlines breaks; [a-zA-Z0-9]."""

_MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_SYMBOLS = """
0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 3008-300d 3010-3011
ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e
"""
_SENTENCE_ENDS = """
21 2e 3f 589 61f 6d4 700-702 7f9 964-965 104a-104b 1362 1367-1368 166e 1735-1736 1803 1809 1944-1945 1aa8-1aab
1b5a-1b5b 1b5e-1b5f 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e 2e3c 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf
a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 11047-11048 110be-110c1
11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7
11641-11642 1173c-1173e 11a42-11a43 11a9b-11a9c 11c41-11c42 16a6e-16a6f 16af5 16b37-16b38 16b44 1bc9f 1da88
"""
_MORE_LINE_ENDS = """
61d 61e 837 839 83d-83e 17d4-17d6 17d9-17da 1b7d-1b7e 2e53-2e54 10f55-10f59 10f86-10f89 11944 11946 11ef7-11ef8
11f43-11f44 16e98
"""
_UNITS = """
km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar
mb MB kb KB gb GB tb TB T G M K %
""".split()  # noqa: SIM905 - a list of words reads best as text


class English(NamedTuple):
    """Tables for English tokens.

    Attributes:
        flags: uint32, per code point, the bits above.
        slots: int32, hash table of the exceptions: row or -1, by hash modulo its size.
        points, starts: code points of all exceptions and where each starts.
        pieces: uint8, shape (m, 3), the lengths of the tokens an exception stands for, padded with 0.
        unit_points, unit_starts: the units that split off after a digit, in the same form.
    """

    flags: np.ndarray
    slots: np.ndarray
    points: np.ndarray
    starts: np.ndarray
    pieces: np.ndarray
    unit_points: np.ndarray
    unit_starts: np.ndarray


@functools.cache
def english() -> English:
    """The tables, built on first use and shared by all threads of the process. Treat them as read-only."""
    points, starts, pieces = exception_table()
    slots = np.full(8192, -1, np.int32)
    for row in range(starts.size - 1):
        slot = int(hash_points(points, starts[row], starts[row + 1])) % slots.size
        while slots[slot] >= 0:
            slot = (slot + 1) % slots.size
        slots[slot] = row
    unit_points = np.frombuffer("".join(_UNITS).encode("utf-32-le"), np.uint32).copy()
    unit_starts = np.cumsum([0, *map(len, _UNITS)]).astype(np.int64)
    return English(_flags(), slots, points, starts, pieces, unit_points, unit_starts)


def _flags() -> np.ndarray:
    flags = np.zeros(N_CODE_POINTS, np.uint32)
    for point in assigned_points():
        character = chr(point)
        category = unicodedata.category(character)
        if character.isspace():
            flags[point] = BLANK
        elif character.isalpha():
            cased = UPPER if category == "Lu" else LOWER if category == "Ll" else UPPER | LOWER
            flags[point] = LETTER | cased
        elif category[0] == "P":
            flags[point] = PUNCTUATION
        elif category == "So":
            flags[point] = ICON | PREFIX | SUFFIX
        elif category == "Nd":
            flags[point] = DECIMAL
    ascii_digits = range(0x30, 0x3A)
    for bits, where in (
        (PREFIX, "§%=—–" + _MARKS + _QUOTES + _CURRENCY),
        (SUFFIX, "—–" + _MARKS + _QUOTES),
        (QUOTE, _QUOTES),
        (BEFORE_STOP, "%²-+|" + _MARKS + _QUOTES),
        (CURRENCY, _CURRENCY),
        (BREAK, _BREAKS),
        (DIGIT | BEFORE_STOP, map(chr, ascii_digits)),
        (SYMBOL, _in_ranges(_SYMBOLS + _SENTENCE_ENDS + _MORE_LINE_ENDS)),
        (SENTENCE_END, _in_ranges(_SENTENCE_ENDS)),
        (LINE_END, _in_ranges(_SENTENCE_ENDS + _MORE_LINE_ENDS)),
    ):
        for character in where:
            flags[ord(character)] |= bits
    flags[flags & LOWER > 0] |= BEFORE_STOP
    flags[[point for point in range(128) if chr(point).isalnum()]] |= PLAIN
    return flags


def _in_ranges(ranges: str) -> list[str]:
    bounds = [[int(bound, 16) for bound in part.split("-")] for part in ranges.split()]
    return [chr(point) for bound in bounds for point in range(bound[0], bound[-1] + 1)]
