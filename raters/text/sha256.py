"""SHA-256 of many messages at once, compiled, as numbers modulo a bucket count: `int(sha256(bytes)) % buckets`.

FIPS 180-4. The 64 rounds of a message depend on each other, so LANES messages go through them side by side, one array
entry each, which the compiler turns into vector instructions of whatever width the machine has. Messages of unlike
lengths may stand side by side: each lane is read after its own last block, and what comes later is ignored.
"""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import math
from typing import NamedTuple

import numba
import numpy as np

from raters.text.compiled import helper

LANES = 64
BLOCK_BYTES = 64
MAX_BUCKETS = 2**24
"""So that eight products of a remainder and 32 bits add up within 64 bits, with room to spare."""

_inlined = numba.njit(inline="always", nogil=True, error_model="numpy")
"""Into the caller, where the places of the variables are constants: only then are the rounds vectorised well."""


def _root_bits(root: int, n: int) -> np.ndarray:
    """The first 32 bits of the fractional parts of the square or cube roots of the first n primes."""
    primes = [p for p in range(2, 312) if all(p % q for q in range(2, math.isqrt(p) + 1))][:n]
    found = []
    for prime in primes:
        scaled = prime << (32 * root)  # its root is the prime's root shifted by 32 bits
        low, high = 0, 1 << 37
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**root <= scaled else (low, middle)
        found.append(low & 0xFFFFFFFF)
    return np.array(found, np.uint32)


_INITIAL = _root_bits(2, 8)
_ROUNDS = _root_bits(3, 64)


class Hasher(NamedTuple):
    """What one thread needs to hash into `buckets` buckets.

    Attributes:
        words: uint32, shape (64 * LANES,): the message schedule, word by word, one entry a lane.
        state, work: uint32, shape (8 * LANES,): the hash so far, and the eight variables of a block.
        powers: uint64, shape (8,): 2**(32 * (7 - i)) modulo buckets.
        buckets: uint64.
    """

    words: np.ndarray
    state: np.ndarray
    work: np.ndarray
    powers: np.ndarray
    buckets: np.uint64


def hasher(buckets: int) -> Hasher:
    """Scratch memory for a bucket count in [1, MAX_BUCKETS]."""
    powers = np.array([pow(2, 32 * (7 - i), buckets) for i in range(8)], np.uint64)
    words, state, work = (np.empty(size * LANES, np.uint32) for size in (64, 8, 8))
    return Hasher(words, state, work, powers, np.uint64(buckets))


@helper
def last_block(n: int) -> int:
    """The number, from 0, of the last block of a message of n bytes: a closing bit and the length must fit."""
    return (n + 8) // BLOCK_BYTES


@helper
def start_lanes(hasher: Hasher) -> None:
    """Begin new messages in all lanes; then, for each block: `clear_block`, `put_block` in each lane, `hash_block`."""
    for i in range(8):
        hasher.state[i * LANES : (i + 1) * LANES] = _INITIAL[i]


@helper
def clear_block(hasher: Hasher) -> None:
    """Make the block of all lanes zero."""
    hasher.words[: 16 * LANES] = 0


@helper
def put_block(data, start, end, block, lane, hasher: Hasher) -> None:
    """Write one block of the message data[start:end] into a lane whose block is zero."""
    n, at = end - start, block * BLOCK_BYTES
    for k in range(min(n - at, BLOCK_BYTES)):
        hasher.words[(k >> 2) * LANES + lane] |= np.uint32(data[start + at + k]) << np.uint32(24 - 8 * (k & 3))
    if at <= n < at + BLOCK_BYTES:
        k = n - at
        hasher.words[(k >> 2) * LANES + lane] |= np.uint32(0x80) << np.uint32(24 - 8 * (k & 3))
    if block == last_block(n):
        hasher.words[14 * LANES + lane] = np.uint32((8 * n) >> 32)
        hasher.words[15 * LANES + lane] = np.uint32((8 * n) & 0xFFFFFFFF)


@helper
def lane_bucket(lane, hasher: Hasher) -> int:
    """The bucket of a lane's message, after its last block was hashed."""
    total = np.uint64(0)
    for i in range(8):
        total += np.uint64(hasher.state[i * LANES + lane]) * hasher.powers[i]
    return np.int64(total % hasher.buckets)


@helper
def hash_block(hasher: Hasher) -> None:
    """One block of every lane: FIPS 180-4, section 6.2.2. After eight rounds the variables are in their places."""
    words, state, work = hasher.words, hasher.state, hasher.work
    for t in range(16, 64):
        for i in range(t * LANES, (t + 1) * LANES):
            x, y = words[i - 15 * LANES], words[i - 2 * LANES]
            small_0 = _turn(x, 7) ^ _turn(x, 18) ^ (x >> np.uint32(3))
            small_1 = _turn(y, 17) ^ _turn(y, 19) ^ (y >> np.uint32(10))
            words[i] = np.uint32(words[i - 16 * LANES] + small_0 + words[i - 7 * LANES] + small_1)
    for i in range(8 * LANES):
        work[i] = state[i]
    for t in range(0, 64, 8):
        _round(work, words, t, 0, 1, 2, 3, 4, 5, 6, 7)
        _round(work, words, t + 1, 7, 0, 1, 2, 3, 4, 5, 6)
        _round(work, words, t + 2, 6, 7, 0, 1, 2, 3, 4, 5)
        _round(work, words, t + 3, 5, 6, 7, 0, 1, 2, 3, 4)
        _round(work, words, t + 4, 4, 5, 6, 7, 0, 1, 2, 3)
        _round(work, words, t + 5, 3, 4, 5, 6, 7, 0, 1, 2)
        _round(work, words, t + 6, 2, 3, 4, 5, 6, 7, 0, 1)
        _round(work, words, t + 7, 1, 2, 3, 4, 5, 6, 7, 0)
    for i in range(8 * LANES):
        state[i] = np.uint32(state[i] + work[i])


@helper
def _turn(x, n):
    """A 32-bit word rotated to the right."""
    return np.uint32((x >> np.uint32(n)) | np.uint32(x << np.uint32(32 - n)))


@_inlined
def _round(work, words, t, a, b, c, d, e, f, g, h):
    """Round t; a to h are the places of the eight variables in `work`, new a is written over h, new e over d."""
    for i in range(LANES):
        x, y, z = work[a * LANES + i], work[b * LANES + i], work[c * LANES + i]
        u, v, w = work[e * LANES + i], work[f * LANES + i], work[g * LANES + i]
        big_1 = _turn(u, 6) ^ _turn(u, 11) ^ _turn(u, 25)
        first = np.uint32(work[h * LANES + i] + big_1 + ((u & v) ^ (~u & w)) + _ROUNDS[t] + words[t * LANES + i])
        big_0 = _turn(x, 2) ^ _turn(x, 13) ^ _turn(x, 22)
        work[d * LANES + i] = np.uint32(work[d * LANES + i] + first)
        work[h * LANES + i] = np.uint32(first + big_0 + ((x & y) ^ (x & z) ^ (y & z)))
