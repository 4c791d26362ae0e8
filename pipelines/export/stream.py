"""What an export writes: the tokens of an order in reading order, and where documents, units and files end.

A unit is what a file never cuts: a visit, or with a pack one sequence padded to T. A segment is what a format calls a
document: a visit, or with a pack one piece of a visit or the padding after them. Tokens are read in slices of a few
megabytes, so memory holds the bounds of one file, never its tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.errors import ArtifactError, ConfigError
from corpus.shards import atomic_path
from corpus.tokens import Ids
from curriculum.order import Order
from curriculum.packed import PackedOrder

Ints = npt.NDArray[np.int64]
SLICE_TOKENS = 1 << 22


@dataclass(frozen=True)
class Span:
    """The content of one file.

    Attributes:
        number: counts files from 0.
        tokens: the range of the stream, half-open.
        units: tokens of each unit; segments: tokens of each segment; both in order, with the range's sum.
        segments_of_unit: how many segments each unit has.
    """

    number: int
    tokens: tuple[int, int]
    units: Ints
    segments: Ints
    segments_of_unit: Ints

    @property
    def n_tokens(self) -> int:
        """Tokens of the file."""
        return self.tokens[1] - self.tokens[0]


class TokenStream:
    """An order, or an order with a pack, as one stream of tokens."""

    def __init__(self, order: Order | PackedOrder, arrays: list[Ids]) -> None:
        """Prepare to read. Raises ArtifactError for token arrays that cannot be the order's shards."""
        shards = order.order.shards if isinstance(order, PackedOrder) else order.shards
        dtypes = sorted({array.dtype.name for array in arrays})
        if len(arrays) != len(shards) or len(dtypes) != 1 or dtypes[0] not in ("uint16", "uint32"):
            raise ArtifactError(
                "these arrays are not the token shards of the order",
                expected=f"{len(shards)} arrays, all uint16 or all uint32",
                found=f"{len(arrays)} of {', '.join(dtypes) or 'no dtype'}",
                fix="give one array for each of the order's `shards`, in that order",
            )
        self.dtype = arrays[0].dtype
        self.packed = order.packed if isinstance(order, PackedOrder) else None
        self._read, self._arrays = order.read, arrays
        self._unit_ends = _unit_ends(order)

    @property
    def n_tokens(self) -> int:
        """Tokens of the stream, padding included."""
        return int(self._unit_ends[-1])

    @property
    def n_units(self) -> int:
        """Visits, or packed sequences."""
        return len(self._unit_ends)

    def spans(self, most: int | None) -> Iterator[Span]:
        """Files of whole units with at most that many tokens each; None: one file.

        Raises ConfigError for a unit that no file holds.
        """
        first = number = 0
        while first < self.n_units:
            begins = int(self._unit_ends[first - 1]) if first else 0
            stop = self.n_units
            if most is not None:
                stop = first + int(np.searchsorted(self._unit_ends[first:], begins + most, side="right"))
            if stop == first:
                size = int(self._unit_ends[first]) - begins
                raise ConfigError(
                    "a document or sequence is larger than a file may be",
                    expected=f"max_tokens_per_file of {size:,} or more",
                    found=f"{most:,}",
                    fix="raise max_tokens_per_file, or cut long documents into sequences with a pack",
                )
            yield self._span(number, first, stop, begins)
            first, number = stop, number + 1

    def _span(self, number: int, first: int, stop: int, begins: int) -> Span:
        ends = self._unit_ends[first:stop]
        units = np.diff(ends, prepend=begins)
        segments, counts = units, np.ones(len(units), np.int64)
        if self.packed is not None:
            borders = self.packed.first[first : stop + 1]
            pieces = self.packed.length[borders[0] : borders[-1]].astype(np.int64)
            rooms = units - np.add.reduceat(pieces, borders[:-1] - borders[0])
            padded = rooms > 0
            segments = np.insert(pieces, (borders[1:] - borders[0])[padded], rooms[padded])
            counts = np.diff(borders) + padded
        return Span(number, (begins, int(ends[-1])), units, segments, counts)

    def slices(self, token_a: int, token_b: int) -> Iterator[Ids]:
        """The tokens of a range, a few million at a time."""
        for begins in range(token_a, token_b, SLICE_TOKENS):
            yield self._read(begins, min(begins + SLICE_TOKENS, token_b), self._arrays)

    def write(
        self, path: Path, span: Span, *, header: bytes = b"", convert: Callable[[Ids], npt.NDArray[Any]] | None = None
    ) -> None:
        """Write a header and the tokens of a span, atomically; a file that is there already is left as it is.

        Whoever builds an export removes files of other content first, so one that is there is whole and the same.
        """
        if path.exists():
            return
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            out.write(header)
            for ids in self.slices(*span.tokens):
                out.write((convert(ids) if convert else ids).data)


def _unit_ends(order: Order | PackedOrder) -> Ints:
    if isinstance(order, PackedOrder):
        return np.arange(1, order.n_sequences + 1) * order.sequence_tokens
    ends = next(path for path in order.artifact.files(".npy") if path.name == "ends.npy")
    return np.asarray(np.load(ends, mmap_mode="r"))


def write_array(path: Path, *parts: bytes | npt.NDArray[Any]) -> None:
    """Write bytes and arrays one after another, atomically; a file that is there already is left as it is."""
    if path.exists():
        return
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        for part in parts:
            out.write(part if isinstance(part, bytes) else part.data)
