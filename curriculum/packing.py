"""Pack the visits of an order into sequences of T tokens without losing the order.

`concat` cuts the ordered stream every T tokens: sequence i is tokens [i T, (i + 1) T), nothing moves, and documents
are cut at the borders. `windowed` keeps documents whole: inside each window of W consecutive visits it packs
best-fit decreasing, and emits sequences by the earliest visit in them. Every visit stays in its window, so it moves
by fewer than W places. A visit longer than T is split in order: first what is over a multiple of T, which shares a
sequence with others, then whole sequences. No token is dropped and none is read twice.

How it is used: `pack(lengths, PackConfig(sequence_tokens=2048))`, or `curriculum.packed.write_pack` for an artifact.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.config import Config, Count
from corpus.errors import GradatimError

Ints = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


class PackingError(GradatimError):
    """Visits that cannot be packed as asked, or a sequence that does not exist."""


class PackConfig(Config):
    """How visits become sequences."""

    packer: Literal["concat", "windowed"] = Field(
        "windowed",
        description="concat: cut the stream every sequence_tokens; windowed: keep documents whole inside windows",
    )
    sequence_tokens: Count = Field(ge=1, lt=2**31, description="T, tokens of a sequence")
    window: Count = Field(1000, ge=1, description="W, visits of a window; no visit moves by W places or more")


@dataclass(frozen=True)
class Packed:
    """Sequences as pieces of visits: sequence i is pieces first[i] to first[i + 1], laid end to end.

    Attributes:
        sequence_tokens: T, the most tokens a sequence holds.
        first: shape (n_sequences + 1,), from 0 to n_pieces.
        visit, offset, length: shape (n_pieces,): a row of the order, where in that visit the piece begins, and its
            tokens, 1 to T.
    """

    sequence_tokens: int
    first: Ints
    visit: Ints
    offset: Lengths
    length: Lengths

    @property
    def n_sequences(self) -> int:
        """How many sequences there are."""
        return len(self.first) - 1

    @property
    def n_tokens(self) -> int:
        """How many tokens the sequences hold, without padding."""
        return int(self.length.sum(dtype=np.int64))

    def pieces(self, sequence: int) -> slice:
        """Where the pieces of a sequence are. Raises PackingError for a sequence that does not exist."""
        if not 0 <= sequence < self.n_sequences:
            raise PackingError(
                f"there is no sequence {sequence:,}", expected=f"0 to {self.n_sequences - 1:,}", found=f"{sequence:,}"
            )
        return slice(int(self.first[sequence]), int(self.first[sequence + 1]))

    def boundaries(self, sequence: int) -> npt.NDArray[np.int32]:
        """Where documents begin and end in a sequence of T tokens: 0, ..., T, as `cu_seqlens` of attention kernels.

        Two neighbours hold one piece of a document between them; padding, where there is any, is the last segment.
        """
        ends = np.cumsum(self.length[self.pieces(sequence)], dtype=np.int32)
        padded = [] if ends[-1] == self.sequence_tokens else [self.sequence_tokens]
        return np.concatenate([[0], ends, padded]).astype(np.int32)

    def position_ids(self, sequence: int) -> npt.NDArray[np.int32]:
        """Each token's place in its segment, shape (T,): 0 after every boundary, as the attention there begins anew."""
        borders = self.boundaries(sequence)
        inside = np.arange(self.sequence_tokens, dtype=np.int32)
        return inside - np.repeat(borders[:-1], np.diff(borders))

    def sequence_of_piece(self) -> Ints:
        """The sequence that each piece belongs to, shape (n_pieces,)."""
        return np.repeat(np.arange(self.n_sequences), np.diff(self.first))

    def take(self, sequences: npt.ArrayLike) -> "Packed":
        """The sequences in another order: how a curriculum over packed sequences is written down.

        `sequences` names each sequence exactly once; raises PackingError otherwise.
        """
        chosen = np.asarray(sequences, np.int64)
        if not np.array_equal(np.sort(chosen), np.arange(self.n_sequences)):
            raise PackingError(
                "these are not the sequences of this pack",
                expected=f"each of 0 to {self.n_sequences - 1:,} once",
                found=f"{len(chosen):,} numbers, {len(np.unique(chosen)):,} different",
            )
        counts = np.diff(self.first)[chosen]
        first = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(first[-1]) + np.repeat(self.first[chosen] - first[:-1], counts)
        return replace(
            self, first=first, visit=self.visit[rows], offset=self.offset[rows], length=self.length[rows]
        )  # fmt: skip


def pack(lengths: npt.NDArray[Any], config: PackConfig) -> Packed:
    """Pack visits of these lengths, shape (n,), each 1 or more, in reading order.

    The same lengths and settings give the same arrays on any machine. Raises PackingError for no visits, or a visit
    without tokens.
    """
    if not len(lengths) or lengths.min() < 1:
        raise PackingError(
            "these visits cannot be packed",
            expected="one or more, each with a token or more",
            found=f"{len(lengths):,} visits, {int((np.asarray(lengths) < 1).sum()):,} without tokens",
        )
    lengths = np.asarray(lengths, np.int64)
    if config.packer == "concat":
        return _concat(lengths, config.sequence_tokens)
    return _windowed(lengths, config.sequence_tokens, config.window)


def _concat(lengths: Ints, capacity: int) -> Packed:
    ends = np.cumsum(lengths)
    starts = ends - lengths
    counts = (ends - 1) // capacity - starts // capacity + 1
    visit = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(visit)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = np.maximum(starts[visit], (starts[visit] // capacity + nth) * capacity)
    length = np.diff(np.append(begins, ends[-1]))
    first = np.append(np.flatnonzero(begins % capacity == 0), len(visit))
    return Packed(capacity, first, visit, (begins - starts[visit]).astype(np.int32), length.astype(np.int32))


def _windowed(lengths: Ints, capacity: int, window: int) -> Packed:
    from curriculum.packing_kernel import pack_windows

    n = int((-(-lengths // capacity)).sum())
    first, visit = np.empty(n + 1, np.int64), np.empty(n, np.int64)
    offset, length = np.empty(n, np.int32), np.empty(n, np.int32)
    sequences = pack_windows(lengths, capacity, window, first, visit, offset, length)
    return Packed(capacity, first[: sequences + 1].copy(), visit, offset, length)


def sequence_scores(packed: Packed, scores: pa.Array | pa.ChunkedArray) -> pa.FloatArray:
    """The token-weighted mean score of each sequence, shape (n_sequences,), null where no token of it is scored.

    `scores` has one value a visit, null where it was not rated; such tokens do not count. With these a policy can
    arrange sequences in place of documents, and `Packed.take` writes its answer down. Sums run piece by piece in
    reading order, so the last bit does not depend on the machine.
    """
    tokens, mass = score_mass(packed, scores)
    means = np.divide(mass, tokens, out=np.zeros_like(mass), where=tokens > 0)
    return pa.array(means.astype(np.float32), pa.float32(), mask=tokens == 0)


def score_mass(packed: Packed, scores: pa.Array | pa.ChunkedArray) -> tuple[Floats, Floats]:
    """Scored tokens of each sequence, and the sum of score times tokens over them; both of shape (n_sequences,)."""
    column = pa.chunked_array([scores]) if isinstance(scores, pa.Array) else scores
    rated = (~column.is_null().to_numpy()).astype(np.float64)[packed.visit] * packed.length
    value = column.fill_null(0.0).to_numpy().astype(np.float64)[packed.visit]
    sequence, n = packed.sequence_of_piece(), packed.n_sequences
    return np.bincount(sequence, rated, n).astype(np.float64), np.bincount(sequence, rated * value, n).astype(
        np.float64
    )
