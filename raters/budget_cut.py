"""Find where a ranking must be cut for a token budget, in memory that does not grow with the corpus.

The selection is that of `select.take_budget`, document for document. A document's place in the ranking is a number of
128 bits (its score's bits, best first, then its hash) and its id; the cut is found digit by digit, as in a radix sort
weighted by tokens: a pass over the scores counts the tokens of 65,536 bins, the bin that the budget falls into is
opened in the next pass, and as soon as it holds few enough documents they are collected, sorted, and cut exactly.
Two or three passes do, also where millions of documents share a score. What comes out is a `Cut`, one place in the
ranking for each group of sources, and every shard can then be cut by itself.

How it is used:  cuts = find_cuts(chunks, [budget], seed=0, rule="prefix");  mask = cuts[0].takes(keys, ids, seed)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.config import Config
from corpus.keyed_random import keyed_hashes
from raters.normalise import Floats
from raters.select import Ints, Rule, fitting, taken

Bits = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
DIGIT_BITS = 16
COLLECTED = 1_000_000
"""Documents of the last bin that may be held at once."""
_KEY = 64
_PLACE = 128
_ORDER = [("bits", "ascending"), ("hash", "ascending"), ("id", "ascending")]


@dataclass(frozen=True)
class Chunk:
    """Some documents, in any order: a shard.

    Args:
        keys: shape (n,), what ranks them, higher is better; NaN for those that do not take part.
        tokens: shape (n,), whole numbers >= 0.
        groups: shape (n,), the number of the budget each falls under, below 0 for none.
        ids: gives the n ids; called only where ties must be broken or documents collected.
    """

    keys: Floats
    tokens: Ints
    groups: npt.NDArray[np.int64]
    ids: Callable[[], Sequence[str]]


Chunks = Callable[[], Iterator[Chunk]]
"""Goes through the corpus once a call."""


class Cut(Config):
    """Where a ranking is cut: everything or nothing is taken, or all before, or all through, one place."""

    takes_what: Literal["all", "none", "before", "through"]
    key: float = 0.0
    hash: int = 0
    id: str = ""
    beyond: tuple[str, ...] = ()  # taken after the cut, by the rule `fill`
    documents: int = 0
    tokens: int = 0

    def takes(self, keys: Floats, ids: Callable[[], Sequence[str]], seed: int) -> Mask:
        """Which of n documents are taken, shape (n,); never one whose key is NaN."""
        if self.takes_what in ("all", "none"):
            mask = ~np.isnan(keys) if self.takes_what == "all" else np.zeros(len(keys), np.bool_)
        else:
            mask = keys > self.key
            tied = np.flatnonzero(keys == self.key)
            names = ids() if len(tied) else ()
            for row, hashed in zip(tied, keyed_hashes(seed, [names[i] for i in tied]).tolist(), strict=True):
                place, cut = (hashed, names[row]), (self.hash, self.id)
                mask[row] = place < cut or (place == cut and self.takes_what == "through")
        if self.beyond:
            mask |= np.isin(np.array(ids(), object), np.array(self.beyond, object)) & ~np.isnan(keys)
        return np.asarray(mask)


def find_cuts(
    chunks: Chunks,
    budgets: Sequence[int],
    *,
    seed: int,
    rule: Rule = "prefix",
    digit_bits: int = DIGIT_BITS,
    collected: int = COLLECTED,
) -> list[Cut]:
    """The cut of each group of documents for its budget, in the order of `budgets`.

    Raises nothing of its own; a chunk whose ids repeat those of another breaks the count of what is taken.
    """
    searches = [_Search(budget, rule) for budget in budgets]
    collected = max(collected // max(len(budgets), 1), 1)
    while searching := [i for i, search in enumerate(searches) if search.too_many(collected)]:
        for bits, rows, chunk, search in _visit(chunks, searches, searching):
            search.count(bits, chunk.tokens[rows], _hashes_of(chunk, rows, seed), digit_bits)
        for i in searching:
            searches[i].descend(digit_bits)
    boundary = [i for i, search in enumerate(searches) if search.open]
    held = {i: _Best() for i in boundary}
    if boundary:
        for bits, rows, chunk, search in _visit(chunks, searches, boundary):
            inside = search.inside(bits, _hashes_of(chunk, rows, seed))
            held[searches.index(search)].add(chunk, rows[inside], bits[inside], seed)
    cuts = [search.cut(held[i].table() if i in held else None) for i, search in enumerate(searches)]
    return _filled(chunks, cuts, budgets, seed, collected) if rule == "fill" else cuts


def ranked_bits(keys: Floats) -> Bits:
    """Keys as numbers that sort best first: the bits of a float64, made monotone and turned."""
    bits = (np.ascontiguousarray(keys, np.float64) + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    return np.where(negative, bits, bits ^ np.uint64(2**63 - 1))


def key_of(bits: int) -> float:
    """The key whose ranked bits these are."""
    plain = bits if bits >> 63 else bits ^ (2**63 - 1)
    return float(np.array([plain], np.uint64).view(np.float64)[0])


@dataclass(eq=False)
class _Search:
    """How far the search for one group's cut has come: the leading `depth` bits of the cut's place are known."""

    budget: int
    rule: Rule
    depth: int = 0
    place: int = 0
    tokens: int = 0  # of the documents before the open bin
    documents: int = 0
    in_bin: int | None = None  # documents in the open bin; None before the first pass
    ended: Literal["all", "none"] | None = None
    _tokens: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    _documents: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if self.rule == "crossing" and self.budget == 0:
            self.ended = "none"

    @property
    def open(self) -> bool:
        return self.ended is None

    def too_many(self, collected: int) -> bool:
        return self.open and (self.in_bin is None or (self.in_bin > collected and self.depth < _PLACE))

    def inside(self, bits: Bits, hashes: Callable[[Mask], Bits]) -> Mask:
        """Which documents lie in the open bin. `hashes` gives those of the documents under a mask."""
        if self.depth == 0:
            return np.ones(len(bits), np.bool_)
        if self.depth <= _KEY:  # for a known key of 64 bits, the shift is by 0
            return np.asarray(bits >> np.uint64(_KEY - self.depth) == self.place)
        known = self.depth - _KEY
        mask = np.asarray(bits == self.place >> known)
        mask[mask] = hashes(mask) >> np.uint64(_KEY - known) == self.place & (2**known - 1)
        return np.asarray(mask)

    def count(self, bits: Bits, tokens: Ints, hashes: Callable[[Mask], Bits], digit_bits: int) -> None:
        """Add documents to the histogram of the next digit."""
        width = self._width(digit_bits)
        inside = self.inside(bits, hashes)
        if not len(self._tokens):
            self._tokens, self._documents = np.zeros(2**width, np.int64), np.zeros(2**width, np.int64)
        if not inside.any():
            return
        numbers = bits[inside] if self.depth < _KEY else hashes(inside)
        shift = np.uint64(_KEY - self.depth % _KEY - width)
        digits = ((numbers >> shift) & np.uint64(2**width - 1)).astype(np.int64)
        # sums of whole numbers in float64 are exact up to 2^53 tokens a chunk
        self._tokens += np.bincount(digits, tokens[inside], 2**width).astype(np.int64)
        self._documents += np.bincount(digits, minlength=2**width)

    def descend(self, digit_bits: int) -> None:
        """Open the bin that the budget falls into, or end: everything fits."""
        sums = self.tokens + np.cumsum(self._tokens)
        i = int(np.searchsorted(sums, self.budget, side="left" if self.rule == "crossing" else "right"))
        self.tokens = int(sums[i - 1]) if i else self.tokens
        self.documents += int(self._documents[:i].sum())
        if i == len(sums):
            self.ended = "all"
        else:
            self.in_bin = int(self._documents[i])
            width = self._width(digit_bits)
            self.place, self.depth = self.place << width | i, self.depth + width
        self._tokens, self._documents = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def cut(self, boundary: pa.Table | None) -> Cut:
        """The cut, from the sorted documents of the open bin."""
        if self.ended or boundary is None:
            return Cut(takes_what=self.ended or "all", documents=self.documents, tokens=self.tokens)
        tokens = boundary.column("tokens").to_numpy()
        rule: Rule = "crossing" if self.rule == "crossing" else "prefix"
        n = int(taken(tokens, self.budget - self.tokens, rule).sum())
        at = boundary.slice(n - 1 if rule == "crossing" else n, 1).to_pylist()[0]
        return Cut(
            takes_what="through" if rule == "crossing" else "before",
            key=key_of(at["bits"]), hash=at["hash"], id=at["id"],
            documents=self.documents + n, tokens=self.tokens + int(tokens[:n].sum()),
        )  # fmt: skip

    def _width(self, digit_bits: int) -> int:
        return min(digit_bits, _KEY - self.depth % _KEY)


class _Best:
    """Documents by place, best first; with a limit, only so many of the best."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.cut_short = limit, False
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._worst = np.uint64(2**64 - 1)

    def add(self, chunk: Chunk, rows: Ints, bits: Bits, seed: int) -> None:
        """Take in `rows` of a chunk, whose keys are `bits`."""
        near = bits <= self._worst
        self.cut_short |= not near.all()
        rows, bits = rows[near], bits[near]
        if not len(rows):
            return
        names = chunk.ids()
        ids = [names[i] for i in rows]
        columns = {"bits": bits, "hash": keyed_hashes(seed, ids), "id": pa.array(ids, pa.string())}
        self._tables.append(pa.table({**columns, "tokens": chunk.tokens[rows]}))
        self._rows += len(rows)
        if self.limit is not None and self._rows > 2 * self.limit:
            self._tables, self._rows = [self.table()], self.limit
            self._worst = np.uint64(self._tables[0].column("bits")[-1].as_py())

    def table(self) -> pa.Table:
        """The documents held, sorted by place."""
        held = pa.concat_tables(self._tables)
        order = pc.sort_indices(held, sort_keys=_ORDER)
        if self.limit is not None and len(order) > self.limit:
            order, self.cut_short = order[: self.limit], True
        return held.take(order)

    def __bool__(self) -> bool:
        return bool(self._tables)


def _filled(chunks: Chunks, cuts: Sequence[Cut], budgets: Sequence[int], seed: int, collected: int) -> list[Cut]:
    """Take what still fits after each cut, from the best of the rest on, so many documents at a time."""
    filled = list(cuts)
    start = {i: cut for i, cut in enumerate(cuts) if cut.takes_what == "before" and budgets[i] > cut.tokens}
    while start:
        held = {i: _Best(collected) for i in start}
        for chunk in chunks():
            for i, cut in start.items():
                fits = (chunk.groups == i) & (chunk.tokens <= budgets[i] - filled[i].tokens)
                keys = np.where(fits, chunk.keys, np.nan)
                rows = np.flatnonzero(~np.isnan(keys) & ~cut.takes(keys, chunk.ids, seed))
                held[i].add(chunk, rows, ranked_bits(keys[rows]), seed)
        start = {}
        for i, best in held.items():
            if best:
                rest = best.table()
                filled[i] = _with_more(filled[i], rest, budgets[i] - filled[i].tokens)
                if best.cut_short and budgets[i] > filled[i].tokens:
                    last = rest.slice(len(rest) - 1, 1).to_pylist()[0]
                    start[i] = Cut(takes_what="through", key=key_of(last["bits"]), hash=last["hash"], id=last["id"])
    return filled


def _with_more(cut: Cut, rest: pa.Table, gap: int) -> Cut:
    """A cut, and those of the documents after it that fit into the gap."""
    more = rest.take(fitting(rest.column("tokens").to_numpy(), gap))
    return cut.model_copy(
        update={
            "beyond": (*cut.beyond, *more.column("id").to_pylist()),
            "documents": cut.documents + more.num_rows,
            "tokens": cut.tokens + sum(more.column("tokens").to_pylist()),
        }
    )


def _visit(
    chunks: Chunks, searches: Sequence[_Search], which: Sequence[int]
) -> Iterator[tuple[Bits, Ints, Chunk, _Search]]:
    """Every chunk, once for each group it holds documents of: their ranked bits and row numbers."""
    for chunk in chunks():
        takes_part = ~np.isnan(chunk.keys)
        for i in which:
            rows = np.flatnonzero(takes_part & (chunk.groups == i))
            if len(rows):
                yield ranked_bits(chunk.keys[rows]), rows, chunk, searches[i]


def _hashes_of(chunk: Chunk, rows: Ints, seed: int) -> Callable[[Mask], Bits]:
    def hashes(mask: Mask) -> Bits:
        if not mask.any():
            return np.zeros(0, np.uint64)
        names = chunk.ids()
        return keyed_hashes(seed, [names[i] for i in rows[mask]])

    return hashes
