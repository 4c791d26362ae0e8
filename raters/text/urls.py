"""Whether a token is a web or mail address, compiled; such tokens are not cut at their dots and slashes.

The grammar of spaCy's URL match, without its ranges of private IP numbers:
[scheme://] [anything@] host [:port] [/ ? or # and anything], where host is labels of letters, digits, hyphens and
underscores, joined by dots, and ends in two or more letters that are not upper case, or in a number (an IP address).
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper
from raters.text.english_tables import DIGIT, LOWER, PLAIN

_STOP, _COLON, _SLASH, _AT, _HYPHEN, _UNDERSCORE = (ord(c) for c in ".:/@-_")
_QUESTION, _HASH = ord("?"), ord("#")


@helper
def is_url(points: np.ndarray, start: int, end: int, flags: np.ndarray) -> bool:
    """Whether all of points[start:end] is one address."""
    dots = 0
    for i in range(start, end):
        dots += points[i] == _STOP
    if dots == 0:
        return False
    if host_fits(points, start, end, flags):
        return True
    for i in range(start, end):
        if points[i] == _AT and i > start and host_fits(points, i + 1, end, flags):
            return True
        scheme = points[i] == _COLON and i - start >= 2 and i + 2 < end
        if scheme and points[i + 1] == _SLASH and points[i + 2] == _SLASH and host_fits(points, i + 3, end, flags):
            return True
    return False


@helper
def host_fits(points: np.ndarray, start: int, end: int, flags: np.ndarray) -> bool:
    """Whether points[start:end] is a host with an optional port and path, to its very end."""
    i, label, dots, numeric = start, start, 0, True
    while i < end:
        point = points[i]
        if point == _STOP:
            if i == label or points[i - 1] == _HYPHEN or points[i - 1] == _UNDERSCORE:
                return False
            dots += 1
            label = i + 1
        elif not (flags[point] & PLAIN or 161 <= point <= 65535 or point in (_HYPHEN, _UNDERSCORE)):
            break
        elif not flags[point] & DIGIT:
            numeric = False
        i += 1
    if dots == 0 or i == label:
        return False
    if not (numeric and dots == 3):
        if i - label < 2:
            return False
        for k in range(label, i):
            if not flags[points[k]] & LOWER:
                return False
    if i < end and points[i] == _COLON:
        port = i + 1
        while port < end and flags[points[port]] & DIGIT:
            port += 1
        if not 3 <= port - i <= 6:
            return False
        i = port
    return i == end or points[i] == _SLASH or points[i] == _QUESTION or points[i] == _HASH
