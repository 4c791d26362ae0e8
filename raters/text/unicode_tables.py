"""What the kernels need to know about each code point, taken from Python itself so that both always agree.

The tables answer, for every code point: the `str` predicates (isspace, isalpha, isupper, isnumeric, `\\w`), what
`str.lower` followed by NFD turns it into, and its canonical combining class. They are built once a process from
`str` and `unicodedata` (about 0.2 s), so they follow the Unicode version of the running Python.

Two properties are not exposed by Python and are derived from how `str.lower` treats a capital sigma beside the
code point: *case-ignorable* (looked through) and *cased* (decides the form of the sigma).

Planes 4 to 13, 15 and 16 hold no character with any of these properties; a test compares all of Unicode.
"""

import functools
import string
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

N_CODE_POINTS = 0x110000
SPACE, ALPHA, UPPER, NUMERIC, WORD, PUNCTUATION, LETTER, CASED, IGNORABLE, STOP, TERMINAL = (1 << b for b in range(11))
"""Flag bits: str.isspace, str.isalpha, str.isupper, str.isnumeric, `\\w`, ASCII punctuation, [a-zA-Z], cased and
not case-ignorable, case-ignorable, one of .!? and one of .!?”"""
LENGTH_SHIFT = 14
"""The two highest flag bits hold the code points in NFD(lower(c)), minus one."""
SKIPPED, BLANK, SIGMA, SEQUENCE = -1, -2, -3, -4
"""Folds that are no code point: ASCII punctuation, whitespace, the capital sigma (its lower case depends on its
neighbours), and everything that needs several code points or has a non-zero combining class."""
FINAL_SIGMA, INNER_SIGMA = 0x3C2, 0x3C3


class Tables(NamedTuple):
    """Per code point tables; all arrays have one entry for each of the 0x110000 code points but `pool*`.

    Attributes:
        flags: uint16, the bits above.
        fold: int32, NFD(lower(c)) where that is one starter, otherwise SKIPPED, BLANK, SIGMA, or SEQUENCE - k for
            entry k of the pool.
        combining: uint8, canonical combining class of c.
        pool: int32, the sequences one after the other; entry k is pool[pool_starts[k]:pool_starts[k + 1]].
        pool_starts: int32.
    """

    flags: np.ndarray
    fold: np.ndarray
    combining: np.ndarray
    pool: np.ndarray
    pool_starts: np.ndarray


def assigned_points() -> list[int]:
    """The code points that can have properties: planes 0 to 3 without surrogates, and plane 14's first block."""
    return [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000)]


@functools.cache
def tables() -> Tables:
    """The tables, built on first use and shared by all threads of the process. Treat them as read-only."""
    points = assigned_points()
    characters = [chr(point) for point in points]
    index = np.array(points)
    flags = np.zeros(N_CODE_POINTS, np.uint16)
    for bit, test in _predicates():
        flags[index] |= np.where([test(c) for c in characters], bit, 0).astype(np.uint16)
    flags[index] |= _sigma_context(characters)
    combining = np.zeros(N_CODE_POINTS, np.uint8)
    combining[index] = [unicodedata.combining(c) for c in characters]
    fold = np.arange(N_CODE_POINTS, dtype=np.int32)
    fold[flags & PUNCTUATION > 0] = SKIPPED
    fold[flags & SPACE > 0] = BLANK
    pool: list[int] = []
    pool_starts = [0]
    for point, character in zip(points, characters, strict=True):
        folded = unicodedata.normalize("NFD", character.lower())
        if fold[point] < 0 or (folded == character and not combining[point]):
            continue
        flags[point] |= (len(folded) - 1) << LENGTH_SHIFT
        if len(folded) == 1 and not combining[ord(folded)]:
            fold[point] = ord(folded)
        else:
            fold[point] = SEQUENCE - (len(pool_starts) - 1)
            pool.extend(map(ord, folded))
            pool_starts.append(len(pool))
    fold[ord("Σ")] = SIGMA
    as_int32 = [np.array(values, np.int32) for values in (pool, pool_starts)]
    return Tables(flags, fold, combining, *as_int32)


def _predicates() -> Iterator[tuple[int, Callable[[str], bool]]]:
    letters, punctuation = set(string.ascii_letters), set(string.punctuation)
    yield SPACE, str.isspace
    yield ALPHA, str.isalpha
    yield UPPER, str.isupper
    yield NUMERIC, str.isnumeric  # also after lower and NFD: neither makes or unmakes a numeral, which a test checks
    yield WORD, lambda c: c.isalnum() or c == "_"
    yield PUNCTUATION, punctuation.__contains__
    yield LETTER, letters.__contains__
    yield STOP, set(".!?").__contains__
    yield TERMINAL, set(".!?”").__contains__


def _sigma_context(characters: list[str]) -> np.ndarray:
    """CASED and IGNORABLE, read off from `str.lower`: after 'a' a sigma is final, after '1' it is not.

    A case-ignorable code point between the two lets the first one decide; any other decides by itself, so the
    two probes differ exactly for case-ignorable ones and are both final exactly for the remaining cased ones.
    """
    after_letter = _final_sigmas("".join(f"a{c}Σ1" for c in characters))
    after_digit = _final_sigmas("".join(f"1{c}Σ1" for c in characters))
    return np.where(after_letter & after_digit, CASED, np.where(after_letter, IGNORABLE, 0)).astype(np.uint16)


def _final_sigmas(probes: str) -> np.ndarray:
    """Whether the sigma before each closing '1' became final. No probe but the dotted capital I changes length."""
    lowered = probes.lower().replace("i\u0307", "i")
    points = np.frombuffer(lowered.encode("utf-32-le"), np.uint32)
    return np.equal(points.reshape(-1, 4)[:, 2], FINAL_SIGMA)
