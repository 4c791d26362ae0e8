"""Tokens, pieces and orders of a bundle: small on disk, and read as any order is; it needs only numpy.

All orders of a bundle visit the same PIECES, spans of tokens. The tokens that some order visits lie one after the other
in one array; a piece is a start and a length in it; an order is an array of piece numbers. So a visit costs as many
bytes as a piece's number has, and less where orders are sorted (`packed`, `unpacked`).
"""

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from corpus.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

Integers = npt.NDArray[Any]


@dataclass(frozen=True)
class Spans:
    """Spans of a line of tokens, by where they start and how long they are; int64, shape (n,) each."""

    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]


class PackedOrder:
    """An order out of piece numbers: what `trainer_hooks.loader.OrderedLoader` needs of one."""

    def __init__(self, pieces: Spans, numbers: Integers, fingerprint: str) -> None:
        """`numbers`: the piece of each visit, in reading order; `fingerprint`: that of the order it was packed from."""
        self._pieces, self._numbers, self.fingerprint = pieces, numbers, fingerprint
        self._ends = np.cumsum(pieces.length[numbers], dtype=np.int64)

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole ordered stream."""
        return int(self._ends[-1])

    def visits_between(self, token_a: int, token_b: int) -> tuple[int, int]:
        """The visits that tokens [a, b) touch, as a half-open range. Raises ConfigError outside the order."""
        if not 0 <= token_a < token_b <= self.n_tokens:
            raise ConfigError(
                f"this order has no tokens {token_a:,} to {token_b:,}", expected=f"a range in its {self.n_tokens:,}"
            )
        first, last = np.searchsorted(self._ends, [token_a, token_b - 1], side="right")
        return int(first), int(last) + 1

    def visit_numbers(self, token_a: int, token_b: int) -> npt.NDArray[np.int64]:
        """The visit of each token in [a, b), shape (b - a,)."""
        first, stop = self.visits_between(token_a, token_b)
        ends = np.minimum(self._ends[first:stop], token_b)
        return np.repeat(np.arange(first, stop), np.diff(ends, prepend=token_a))

    def read(self, token_a: int, token_b: int, token_arrays: Sequence[Integers]) -> Integers:
        """Tokens [a, b) of the ordered stream, shape (b - a,), out of the one array of tokens."""
        first, stop = self.visits_between(token_a, token_b)
        numbers = self._numbers[first:stop]
        low, high = self._pieces.start[numbers], self._pieces.start[numbers] + self._pieces.length[numbers]
        low[0] += token_a - (int(self._ends[first - 1]) if first else 0)
        high[-1] -= int(self._ends[stop - 1]) - token_b
        tokens = token_arrays[0]
        return np.concatenate([tokens[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True)])

    def visits(self, first: int, stop: int) -> "pa.Table":
        """Not there: a bundle has no table of visits."""
        raise ConfigError("a bundle's orders have no table of visits", fix="train this study without a bundle")


def packed(values: Integers, *, planes: bool = True) -> bytes:
    """Whole numbers, shape (n,), in few bytes: a header line, then LZMA.

    Args:
        planes: the low bytes of all first, which is good for numbers that are as good as random, such as a shuffle's;
            false for tokens, which repeat each other in sequences.
    """
    values = smallest(values)
    data = values.astype(values.dtype.newbyteorder("<"), copy=False)
    header = {"dtype": f"u{values.itemsize}", "n": len(values), "planes": planes}
    if planes and len(values):
        data = np.ascontiguousarray(data.view(np.uint8).reshape(len(values), values.itemsize).T)
    return json.dumps(header).encode() + b"\n" + lzma.compress(data.tobytes(), preset=6)


def unpacked(data: bytes) -> Integers:
    """The numbers that `packed` wrote. Raises ArtifactError for other bytes."""
    try:
        line, _, rest = data.partition(b"\n")
        header = json.loads(line)
        dtype = np.dtype("<" + header["dtype"])
        values = np.frombuffer(lzma.decompress(rest), np.uint8)
        if header["planes"]:
            values = np.ascontiguousarray(values.reshape(dtype.itemsize, header["n"]).T).reshape(-1)
        return values.view(dtype)
    except (ValueError, KeyError, lzma.LZMAError) as error:
        raise ArtifactError("this is not an array of a bundle", found=str(error)) from None


def smallest(values: Integers) -> Integers:
    """The same numbers, none below 0, in the smallest unsigned type that holds them."""
    top = int(values.max()) if len(values) else 0
    assert not len(values) or int(values.min()) >= 0
    return values.astype(np.min_scalar_type(top))


def spans_of(visits: Sequence[Spans]) -> tuple[Spans, list[npt.NDArray[np.int64]]]:
    """The different spans that orders visit, sorted, and each order as numbers of them, shape (visits,)."""
    cuts = np.cumsum([len(one.start) for one in visits])[:-1]
    start, length = (np.concatenate([getattr(one, name) for one in visits]) for name in ("start", "length"))
    span = int(length.max()) + 1
    keys, numbers = np.unique(start * span + length, return_inverse=True)
    return Spans(keys // span, keys % span), np.split(numbers.reshape(-1), cuts)


def gathered(spans: Spans, token_arrays: Sequence[Integers]) -> tuple[Integers, Spans]:
    """The tokens of spans, each once, in one array, and the spans as they lie in it.

    Args:
        spans: sorted by start; they may overlap. Positions count through all shards. token_arrays: of each shard.
    """
    begins = np.cumsum([0, *map(len, token_arrays)])
    taken: list[Integers] = []
    start = np.empty_like(spans.start)
    reached, position = 0, 0  # `position`: where `reached` lies in the new array
    for row, (begin, length) in enumerate(zip(spans.start.tolist(), spans.length.tolist(), strict=True)):
        reached = max(reached, begin)
        start[row] = position - (reached - begin)
        if (end := begin + length) > reached:
            shard = int(np.searchsorted(begins, reached, side="right")) - 1
            taken.append(np.asarray(token_arrays[shard][reached - begins[shard] : end - begins[shard]]))
            position, reached = position + end - reached, end
    return np.concatenate(taken), Spans(start, spans.length)
