"""Where the records of a segment lie, by key: sorted numbers that are searched without reading any text.

A key is 32 hex digits, held as two 64-bit halves. An index is one array of shape (4, n): upper halves, lower halves,
times, rows; columns sorted by key, each key once. Large ones are mapped from their file, so that many processes share
one copy in memory. 32 bytes a record.

How it is used: `places = KeyIndex.of(halves(keys), times).find(halves(wanted))`
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError
from corpus.shards import atomic_path

MAPPED_FROM = 1 << 20  # bytes; smaller files are read whole, since a mapping holds a file open
Numbers = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def halves(keys: Sequence[str]) -> Numbers:
    """Keys as numbers, shape (2, n). Raises ConfigError for one that is not 32 small hex digits."""
    joined = "".join(keys)
    try:
        raw = bytes.fromhex(joined)
    except ValueError:
        raw = b""
    if len(raw) != 16 * len(keys) or any(len(key) != 32 for key in keys) or joined != joined.lower():
        wrong = next((key for key in keys if len(key) != 32 or set(key) - set("0123456789abcdef")), "")
        raise ConfigError("a record's key has another form", expected="32 hex digits, small letters", found=repr(wrong))
    return np.ascontiguousarray(np.frombuffer(raw, ">u8").reshape(-1, 2).T.astype(np.uint64))


class KeyIndex:
    """Rows by key. `table`: shape (4, n), as the module says."""

    def __init__(self, table: Numbers) -> None:
        self.table = table

    @classmethod
    def of(cls, keys: Numbers, times: npt.NDArray[np.int64]) -> "KeyIndex":
        """The index of rows 0 to n-1, keys of shape (2, n), times of shape (n,); of equal keys the earliest counts."""
        order = np.lexsort((times, keys[1], keys[0]))  # stable: of equal times the first row
        table = np.vstack([keys, times.astype(np.uint64), np.arange(len(times), dtype=np.uint64)])[:, order]
        first = np.ones(len(times), bool)
        first[1:] = (table[:2, 1:] != table[:2, :-1]).any(axis=0)
        return cls(np.ascontiguousarray(table[:, first]))

    @classmethod
    def load(cls, path: Path) -> "KeyIndex | None":
        """The index in a file, or None where there is none that can be read."""
        try:
            table = np.load(path, mmap_mode="r" if path.stat().st_size > MAPPED_FROM else None, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return cls(table) if table.dtype == np.uint64 and table.ndim == 2 and len(table) == 4 else None

    def save(self, path: Path) -> None:
        """Write the index, atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, self.table)

    def __len__(self) -> int:
        return int(self.table.shape[1])

    def find(self, wanted: Numbers) -> tuple[Places, Places]:
        """The row (-1: not here) and time of each key of shape (2, m)."""
        high, low, times, rows = self.table
        at = np.searchsorted(high, wanted[0])
        found_rows, found_times = np.full(len(at), -1), np.zeros(len(at), np.int64)
        open_ones = np.flatnonzero(at < len(high))
        while open_ones.size:  # a second time only where two keys share their upper half
            open_ones = open_ones[high[at[open_ones]] == wanted[0, open_ones]]
            hit = low[at[open_ones]] == wanted[1, open_ones]
            hits = open_ones[hit]
            found_rows[hits], found_times[hits] = rows[at[hits]], times[at[hits]]
            open_ones = open_ones[~hit]
            at[open_ones] += 1
            open_ones = open_ones[at[open_ones] < len(high)]
        return found_rows, found_times


def later_copies(indexes: Sequence[KeyIndex]) -> list[Places]:
    """Rows of each index whose key another index holds with an earlier time (or the same time, and comes before it).

    Takes some 30 bytes of memory a record for a moment.
    """
    high = np.sort(np.concatenate([np.empty(0, np.uint64), *(index.table[0] for index in indexes)]))
    repeated = np.unique(high[1:][high[1:] == high[:-1]])
    doubtful = []
    for i, index in enumerate(indexes):
        places = np.flatnonzero(np.isin(index.table[0], repeated, kind="sort")) if repeated.size else np.empty(0, int)
        owner = np.full((1, len(places)), i, np.uint64)
        doubtful.append(np.vstack([index.table[:, places], owner]))
    found = np.hstack([np.empty((5, 0), np.uint64), *doubtful])
    high, low, times, rows, owners = found
    order = np.lexsort((owners, times, low, high))
    again = np.zeros(len(order), bool)
    again[1:] = (found[:2, order[1:]] == found[:2, order[:-1]]).all(axis=0)
    lost = order[again]
    return [np.sort(rows[lost[owners[lost] == i]]).astype(np.int64) for i in range(len(indexes))]
