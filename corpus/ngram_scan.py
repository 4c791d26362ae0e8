"""Find runs of n tokens of a text that may stand in a set of them, compiled: a sieve before an exact look-up.

A token is a run of bytes between separators. Its hash is made as the bytes are read, the hash of n tokens in a row from
theirs, and two bits of it are looked up in a bitmap of the wanted runs. Text that shares nothing with the set, which is
nearly all of it, never leaves this file; what passes is a candidate, and the caller compares it exactly.

How it is used:  tokens = tokenise(data);  places = candidates(tokens.hashes, 8, bitmap)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True)
_BITS_PER_RUN = 32  # with two probes about 0.4 % of other runs pass


class Tokens(NamedTuple):
    """The tokens of a text.

    Attributes:
        joined: uint8, the tokens with one blank between them.
        starts, ends: int64, shape (n,): where each token lies in `joined`.
        hashes: uint64, shape (n,).
    """

    joined: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]

    def run(self, first: int, n: int) -> bytes:
        """n tokens in a row, joined by blanks."""
        return self.joined[self.starts[first] : self.ends[first + n - 1]].tobytes()


def tokenise(data: bytes, separators: npt.NDArray[np.bool_]) -> Tokens:
    """Cut bytes into tokens; `separators`: bool, shape (256,), the bytes that end one."""
    joined, starts, ends, hashes, n, length = _tokenise(np.frombuffer(data, np.uint8), separators)
    return Tokens(joined[:length], starts[:n], ends[:n], hashes[:n])


def bitmap(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """A bitmap that `candidates` looks runs up in, of m hashes of runs (`run_hashes`); a power of two of bytes."""
    size = 1 << max(int(len(hashes) * _BITS_PER_RUN).bit_length(), 10)
    bits = np.zeros(size // 8, np.uint8)
    _set(bits, hashes)
    return bits


@kernel
def run_hashes(hashes, n):  # type: ignore[no-untyped-def]
    """Hashes of the runs of n tokens, uint64, shape (max(tokens - n + 1, 0),), from those of the tokens."""
    found = np.empty(max(len(hashes) - n + 1, 0), np.uint64)
    for i in range(len(found)):
        found[i] = _run_hash(hashes, i, n)
    return found


@kernel
def candidates(hashes, n, bits):  # type: ignore[no-untyped-def]
    """Numbers of the first tokens of runs of n that may be in the bitmap: int64, ascending; none that is gets lost."""
    found = np.empty(16, np.int64)
    count = 0
    mask = np.uint64(len(bits) * 8 - 1)
    for i in range(len(hashes) - n + 1):
        value = _run_hash(hashes, i, n)
        first, second = value & mask, (value >> np.uint64(32)) & mask
        if (bits[first >> np.uint64(3)] >> (first & np.uint64(7))) & np.uint64(1) == np.uint64(0):
            continue
        if (bits[second >> np.uint64(3)] >> (second & np.uint64(7))) & np.uint64(1) == np.uint64(0):
            continue
        if count == len(found):
            grown = np.empty(2 * count, np.int64)
            grown[:count] = found
            found = grown
        found[count] = i
        count += 1
    return found[:count]


@kernel
def _set(bits, hashes):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(bits) * 8 - 1)
    for value in hashes:
        for place in (value & mask, (value >> np.uint64(32)) & mask):
            bits[place >> np.uint64(3)] |= np.uint8(1) << np.uint8(place & np.uint64(7))


@numba.njit(nogil=True, inline="always")
def _run_hash(hashes, first, n):  # type: ignore[no-untyped-def]
    value = np.uint64(0x9E3779B97F4A7C15)
    for i in range(first, first + n):
        value = (value ^ hashes[i]) * np.uint64(0xD6E8FEB86659FD93)
        value ^= value >> np.uint64(32)
    return value


@kernel
def _tokenise(data, separators):  # type: ignore[no-untyped-def]
    joined = np.empty(len(data) + 1, np.uint8)
    most = len(data) // 2 + 1
    starts, ends, hashes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint64)
    n, length, inside = 0, 0, False
    value = np.uint64(0)
    for byte in data:
        if separators[byte]:
            if inside:
                ends[n - 1], hashes[n - 1] = length, value
                joined[length] = 32
                length += 1
                inside = False
            continue
        if not inside:
            starts[n] = length
            value = np.uint64(0xCBF29CE484222325)
            inside = True
            n += 1
        value = (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        joined[length] = byte
        length += 1
    if inside:
        ends[n - 1], hashes[n - 1] = length, value
    elif n:
        length -= 1
    return joined, starts, ends, hashes, n, length
