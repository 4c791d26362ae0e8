"""Syllables of English words by rule, compiled; the rules in words stand in `measures_reference.syllables`."""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper

_FIRST, _LAST = ord("a"), ord("z")
_E, _D, _G, _I, _L, _N, _S, _U = (ord(c) for c in "edgilnsu")


def _letters(members: str) -> int:
    """A set of letters as the bits of one integer, a the lowest."""
    return sum(1 << (ord(c) - _FIRST) for c in members)


_VOWELS, _OPENED, _AOU = _letters("aeiouy"), _letters("cgstx"), _letters("aou")
_AFTER_Q, _LIQUID, _SIBILANT, _DENTAL = _letters("qg"), _letters("lrw"), _letters("cghsxz"), _letters("dt")
_A = _letters("a")


@helper
def a_to_z(points: np.ndarray, start: int, end: int, letters: np.ndarray) -> int:
    """Copy the letters a to z of points[start:end] into letters (uint8); returns how many there are."""
    n = 0
    for i in range(start, end):
        point = points[i]
        letters[n] = point & 0x7F
        n += _FIRST <= point <= _LAST
    return n


@helper
def syllables(letters: np.ndarray, n: int) -> int:
    """Syllables of the word letters[:n], n > 0, at least one."""
    count = 0
    for i in range(n):
        if _among(letters[i], _VOWELS):
            follows = i > 0 and _among(letters[i - 1], _VOWELS)
            count += not follows or _hiatus(letters, n, i)
    return max(count - _silent_ending(letters, n), 1)


@helper
def _among(letter: int, members: int) -> bool:
    return (members >> (np.int64(letter) - _FIRST)) & 1 > 0


@helper
def _hiatus(letters: np.ndarray, n: int, i: int) -> bool:
    """Whether the vowel letters[i] begins a syllable although letters[i - 1] is a vowel too."""
    before = letters[i - 1]
    if before == _I and _among(letters[i], _AOU):
        return i == 1 or not _among(letters[i - 2], _OPENED | _VOWELS)
    if before == _U and _among(letters[i], _A):
        return i == 1 or not _among(letters[i - 2], _AFTER_Q)
    if letters[i] == _I and 3 <= n - i <= 4 and letters[i + 1] == _N and letters[i + 2] == _G:
        return n - i == 3 or letters[i + 3] == _S
    return False


@helper
def _silent_ending(letters: np.ndarray, n: int) -> int:
    """1 if the e of a final -e, -es or -ed is silent, else 0."""
    last = letters[n - 1]
    e = n - 1 if last == _E else n - 2
    if e < 1 or letters[e] != _E or (e == n - 2 and last != _S and last != _D):
        return 0
    before = letters[e - 1]
    if _among(before, _VOWELS):
        return 0
    if before == _L and e >= 2 and not _among(letters[e - 2], _VOWELS | _LIQUID):
        return 0
    if last == _S and _among(before, _SIBILANT):
        return 0
    return 0 if last == _D and _among(before, _DENTAL) else 1
