"""The 64-bit hash XXH3 (Yann Collet's xxHash, specification of version 0.8) over numpy: what a bundle needs of xxhash.

All values are those of the library. Inputs of more than 240 bytes are hashed in blocks of 1 KiB, the products of many
blocks at once; no seed is taken for those, since none of ours has one.
"""

import numpy as np
import numpy.typing as npt

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_MASK = (1 << 64) - 1
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_MX1, _MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
_STRIPE, _BLOCK, _AT_ONCE = 64, 1024, 256
_U64 = npt.NDArray[np.uint64]


class xxh3_64:
    """A hash that is fed piece by piece."""

    def __init__(self, data: bytes = b"") -> None:
        self._acc = np.array([_P32[2], *_P64[:4], _P32[1], _P64[4], _P32[0]], np.uint64)
        self._before, self._rest, self._total = b"", b"", 0
        self.update(data)

    def update(self, data: bytes) -> None:
        """Take bytes in."""
        self._total += len(data)
        self._rest += data
        blocks = (len(self._rest) - 1) // _BLOCK  # the last byte is never in a block that is done
        if blocks > 0:
            done, self._rest = self._rest[: blocks * _BLOCK], self._rest[blocks * _BLOCK :]
            self._before = done[-_STRIPE:]
            for at in range(0, len(done), _AT_ONCE * _BLOCK):
                _take_blocks(self._acc, done[at : at + _AT_ONCE * _BLOCK])

    def intdigest(self) -> int:
        """The hash so far."""
        if self._total <= 240:
            return _short(self._rest, 0)
        acc = self._acc.copy()
        stripes = (len(self._rest) - 1) // _STRIPE
        if stripes:
            acc += _stripes(self._rest[: stripes * _STRIPE])[0]
        last = (self._before + self._rest)[-_STRIPE:]
        acc += _products(_words(last), _words(_SECRET[121:185]))
        return _merged(acc, self._total)

    def hexdigest(self) -> str:
        """The same in 16 hex digits."""
        return f"{self.intdigest():016x}"


def xxh3_64_intdigest(data: bytes, seed: int = 0) -> int:
    """The hash of bytes, under a seed where they are 240 or fewer."""
    if len(data) <= 240:
        return _short(data, seed % (1 << 64))
    assert seed == 0, "long inputs are hashed without a seed"
    return xxh3_64(data).intdigest()


def xxh3_64_hexdigest(data: bytes, seed: int = 0) -> str:
    """The same in 16 hex digits."""
    return f"{xxh3_64_intdigest(data, seed):016x}"


# ---- long inputs


def _words(data: bytes) -> _U64:
    words: _U64 = np.frombuffer(data, "<u8").astype(np.uint64, copy=False)
    return words


def _products(data: _U64, secret: _U64) -> _U64:
    """What stripes add to the accumulator, shape (..., 8)."""
    keyed = data ^ secret
    swapped = data.reshape(*data.shape[:-1], 4, 2)[..., ::-1].reshape(data.shape)
    return (keyed & np.uint64(0xFFFFFFFF)) * (keyed >> np.uint64(32)) + swapped


_KEYS = np.stack([_words(_SECRET[8 * stripe : 8 * stripe + _STRIPE]) for stripe in range(16)])
_SCRAMBLE = _words(_SECRET[128:192])


def _stripes(data: bytes) -> _U64:
    """The sums over the stripes of each block, or of one that is not whole; shape (blocks, 8)."""
    stripes = min(len(data), _BLOCK) // _STRIPE
    sums: _U64 = _products(_words(data).reshape(-1, stripes, 8), _KEYS[:stripes]).sum(1, dtype=np.uint64)
    return sums


def _take_blocks(acc: _U64, data: bytes) -> None:
    shift, prime = np.uint64(47), np.uint64(_P32[0])
    for added in _stripes(data):
        acc += added
        acc ^= acc >> shift
        acc ^= _SCRAMBLE
        acc *= prime


def _merged(acc: _U64, length: int) -> int:
    lanes = [int(lane) for lane in acc]
    total = length * _P64[0]
    for i in range(4):
        total += _fold((lanes[2 * i] ^ _read(_SECRET, 11 + 16 * i)), lanes[2 * i + 1] ^ _read(_SECRET, 19 + 16 * i))
    return _avalanche(total & _MASK)


# ---- short inputs


def _read(data: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product ^ (product >> 64)) & _MASK


def _avalanche(h: int) -> int:
    h ^= h >> 37
    h = h * _MX1 & _MASK
    return h ^ (h >> 32)


def _avalanche_64(h: int) -> int:
    h ^= h >> 33
    h = h * _P64[1] & _MASK
    h ^= h >> 29
    h = h * _P64[2] & _MASK
    return h ^ (h >> 32)


def _mix(data: bytes, at: int, key: int, seed: int) -> int:
    low = _read(data, at) ^ ((_read(_SECRET, key) + seed) & _MASK)
    return _fold(low, _read(data, at + 8) ^ ((_read(_SECRET, key + 8) - seed) & _MASK))


def _short(data: bytes, seed: int) -> int:
    if len(data) <= 16:
        return _tiny(data, seed)
    acc, n = len(data) * _P64[0], len(data)
    if n <= 128:
        for i in range((n - 1) // 32 + 1):
            acc += _mix(data, 16 * i, 32 * i, seed) + _mix(data, n - 16 * (i + 1), 32 * i + 16, seed)
        return _avalanche(acc & _MASK)
    acc += sum(_mix(data, 16 * i, 16 * i, seed) for i in range(8))
    rest = sum(_mix(data, 16 * i, 16 * (i - 8) + 3, seed) for i in range(8, n // 16))
    return _avalanche((_avalanche(acc & _MASK) + rest + _mix(data, n - 16, 119, seed)) & _MASK)


def _tiny(data: bytes, seed: int) -> int:
    n = len(data)
    if n > 8:
        low = _read(data, 0) ^ ((_read(_SECRET, 24) ^ _read(_SECRET, 32)) + seed & _MASK)
        high = _read(data, n - 8) ^ ((_read(_SECRET, 40) ^ _read(_SECRET, 48)) - seed & _MASK)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return _avalanche(n + swapped + high + _fold(low, high) & _MASK)
    if n >= 4:
        seed ^= int.from_bytes((seed & 0xFFFFFFFF).to_bytes(4, "little"), "big") << 32
        h = _read(data, n - 4, 4) + (_read(data, 0, 4) << 32)
        h ^= (_read(_SECRET, 8) ^ _read(_SECRET, 16)) - seed & _MASK
        h ^= _rotated(h, 49) ^ _rotated(h, 24)
        h = h * _MX2 & _MASK
        h ^= (h >> 35) + n
        h = h * _MX2 & _MASK
        return h ^ (h >> 28)
    if n:
        combined = data[0] << 16 | data[n >> 1] << 24 | data[-1] | n << 8
        return _avalanche_64(combined ^ ((_read(_SECRET, 0, 4) ^ _read(_SECRET, 4, 4)) + seed & _MASK))
    return _avalanche_64(seed ^ _read(_SECRET, 56) ^ _read(_SECRET, 64))


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK
