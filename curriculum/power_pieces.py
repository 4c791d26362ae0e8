"""Visits cut into pieces whose lengths are powers of two, so that a sequence need not join several documents.

A document of 700 tokens becomes pieces of 512, 128, 32, 16, 8 and 4 tokens, in this order: its length in binary. No
token is lost and none is moved; what is below the shortest piece stays as one piece of its own. It is done to visits
before they are arranged; the policy `length_cycles` then orders the pieces. Source: dataset decomposition
(2405.13226).

How it is used: `cut_to_powers(visits, shortest=256, longest=8192)`.
"""

import numpy as np
import pyarrow as pa

from corpus.errors import ConfigError
from curriculum.arrangement import Ints


def check_powers(shortest: int, longest: int) -> None:
    """Raise ConfigError unless both are powers of two, the shortest first."""
    if not (0 < shortest <= longest and shortest & (shortest - 1) == 0 and longest & (longest - 1) == 0):
        raise ConfigError(
            "pieces of documents need lengths that are powers of two",
            expected="shortest <= longest, such as 256 and 8192",
            found=f"shortest {shortest}, longest {longest}",
        )


def cut_to_powers(visits: pa.Table, *, shortest: int = 1, longest: int = 8192) -> pa.Table:
    """Cut every visit into pieces.

    Args:
        visits: a table with `start` and `length` (tokens), such as VISIT_SCHEMA.
        shortest, longest: lengths of pieces, powers of two. A visit longer than `longest` gives several of those first;
            the tokens left over below `shortest` are one last piece.

    Returns: the same columns, the pieces of a visit in the order of its tokens, visits in the order given.

    Raises: ConfigError for lengths that are not powers of two, or out of order.
    """
    check_powers(shortest, longest)
    length = visits["length"].to_numpy().astype(np.int64)
    whole = length // longest
    rows = [np.repeat(np.arange(len(length)), whole)]
    offsets = [(np.arange(len(rows[0])) - np.repeat(np.cumsum(whole) - whole, whole)) * longest]
    sizes = [np.full(len(rows[0]), longest)]
    size = longest // 2
    while size >= shortest:
        rows.append(np.flatnonzero(length & size))
        offsets.append(length[rows[-1]] // (2 * size) * (2 * size))
        sizes.append(np.full(len(rows[-1]), size))
        size //= 2
    rows.append(np.flatnonzero(length % shortest))
    offsets.append(length[rows[-1]] // shortest * shortest)
    sizes.append(length[rows[-1]] % shortest)
    return _pieces(visits, np.concatenate(rows), np.concatenate(offsets), np.concatenate(sizes))


def _pieces(visits: pa.Table, rows: Ints, offsets: Ints, sizes: Ints) -> pa.Table:
    order = np.lexsort((offsets, rows))
    pieces = visits.take(pa.array(rows[order]))
    start = pieces["start"].to_numpy() + offsets[order]
    for name, values in (("start", start), ("length", sizes[order])):
        field = visits.schema.field(name)
        pieces = pieces.set_column(pieces.schema.get_field_index(name), field, pa.array(values, field.type))
    return pieces
