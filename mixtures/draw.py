"""Draw the visits that fill an allocation, each phase and component to the token, and the place of each on the token
axis.

A component, or a quality band of it, is an endless stream: epoch after epoch, each a permutation of its documents by
the hash of (seed, document, epoch), or the documents as they lie where the sequence is `original`. A phase takes the
next tokens of each stream: it begins where the phase before ended, if need be inside a document, whose two pieces
then have the same visit number. So a larger budget or another later phase keeps what came before; only the run's end
is cut anew.

`place` says where in its phase a visit belongs so that every component keeps its share all along
(curriculum/policies/ mixed.py sorts by it): where the component's cumulative share reaches the middle of the visit,
or, with turns, the first token of the visit's piece in the sequence that the component's turn fills. Other policies
do not look at it.

How it is used: `visits = draw(candidates, allocate(available(candidates, config), config), seed)`.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curriculum.keyed_hash import visit_hashes
from curriculum.order import codes_and_names
from curriculum.visits import VISIT_SCHEMA, canonical_sort
from mixtures.allocation import Allocation, Component
from mixtures.bands import Quality, band_numbers
from mixtures.ramps import places
from mixtures.shares import MixtureError, Turns, keyed_blocks
from mixtures.turns import turns_of

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.integer]
PLACE = pa.field("place", pa.int64(), nullable=False)
_THREADS = 8
# Apart from the seed of orders: the last epoch takes the documents of the lowest hashes, and a shuffle by the same
# hashes would read all of them at its beginning.
_DRAW_SEED = 0x64726177


def draw(candidates: pa.Table, allocation: Allocation, seed: int) -> pa.Table:
    """The visits of all phases.

    Args:
        candidates: curriculum.visits.CANDIDATE_SCHEMA and the scores that bands are cut by, in any row order; the same
            that were allocated.

    Returns: VISIT_SCHEMA, `place` (tokens of its phase, int64) and the candidates' scores: stream by stream, whatever
    the order of the candidates. It is a set, to be arranged by a policy.

    Raises: MixtureError when the candidates are not those that were allocated.
    """
    work = _Draw(candidates.combine_chunks(), allocation, seed)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        parts = list(pool.map(lambda numbers: work.component(*numbers), enumerate(allocation.components)))
    return pa.concat_tables([work.empty(), *(stream for streams in parts for stream in streams)])


class _Draw:
    """What all streams of a draw share: the candidates as arrays, and whose turn it is."""

    def __init__(self, candidates: pa.Table, allocation: Allocation, seed: int) -> None:
        self.candidates, self.allocation, self.seed = candidates, allocation, seed
        self.codes, self.sources = codes_and_names(candidates["source"])
        self.length, self.digest = candidates["length"].to_numpy(), candidates["digest"].to_numpy()
        self.turns = _turns(allocation, seed)
        self.scores = [field for field in candidates.schema if field.name not in (*VISIT_SCHEMA.names, PLACE.name)]
        self.schema = pa.schema([*VISIT_SCHEMA, PLACE, *self.scores])

    def empty(self) -> pa.Table:
        """No visits, in the draw's schema."""
        return self.schema.empty_table()

    def component(self, number: int, component: Component) -> list[pa.Table]:
        """The visits of each band of a component, checked against what was allocated."""
        own = [code for code, name in enumerate(self.sources) if name in component.sources]
        rows = np.flatnonzero(self.codes == own[0] if len(own) == 1 else np.isin(self.codes, own))
        streams = [rows]
        if component.by is not None and component.tokens:
            edges = (*(band.low for band in component.bands), Fraction(1))
            number_of = band_numbers(self.candidates, rows, Quality(component.by, edges), component.name)
            streams = [rows[number_of == i] for i in range(len(component.bands))]
        made = []
        for i, (stream, band) in enumerate(zip(streams, component.bands, strict=False)):
            if not sum(band.tokens):
                continue
            total = int(self.length[stream].sum(dtype=np.int64))
            if (len(stream), total) != (band.documents, band.available_tokens):
                raise MixtureError(
                    f"the candidates of {component.name!r} are not those the mixture was made for",
                    expected=f"{band.documents:,} documents, {band.available_tokens:,} tokens",
                    found=f"{len(stream):,} documents, {total:,} tokens",
                )
            made.append(self._stream(stream, number, i))
        return made

    def _stream(self, rows: Rows, number: int, band_number: int) -> pa.Table:
        """The visits of one stream, cut at the borders of phases, and of turns where there are any."""
        component = self.allocation.components[number]
        tokens = component.bands[band_number].tokens
        order, epochs = self._read(rows, sum(tokens), component.sequence)
        length = self.length[order]
        ends = np.cumsum(length, dtype=np.int64)
        borders = np.cumsum([0, *tokens])
        slots = [self._slots(number, band_number, phase) for phase in range(len(tokens))]
        cuts = [borders, *(borders[i] + self._unit * np.arange(len(slot)) for i, slot in enumerate(slots))]
        stops, at = _cut(ends, np.unique(np.concatenate(cuts)), int(borders[-1]))
        begins = np.concatenate([[0], stops])[:-1]
        row = order[at]
        place, phase = np.empty(len(row), np.int64), np.empty(len(row), np.int32)
        for i, slot in enumerate(slots):
            inside = slice(*np.searchsorted(begins, borders[i : i + 2]).tolist())
            phase[inside] = i
            place[inside] = self._places(
                begins[inside] - borders[i], stops[inside] - borders[i], slot, number, band_number, i
            )
        made = {
            "visit": np.repeat(np.arange(epochs, dtype=np.int32), len(rows))[at],
            "length": (stops - begins).astype(np.int32),
            "start": self.candidates["start"].to_numpy()[row] + (begins - (ends[at] - length[at])),
            "place": place,
        }
        return self._table(row, made, phase, number)

    @property
    def _unit(self) -> int:
        return self.allocation.turns or 1

    def _places(self, begins: Ints, stops: Ints, slot: Ints, number: int, band_number: int, phase: int) -> Ints:
        """Places of the pieces [begins, stops) of a stream, counted in its tokens from the phase's beginning."""
        if self.allocation.turns:
            return slot[begins // self._unit] * self._unit + begins % self._unit
        interval = self.allocation.intervals[phase]
        row, weight = interval.rows[number], self.allocation.components[number].bands[band_number].weights[phase]
        line = (row.start_share * weight, row.share * weight, interval.ramp_tokens)
        place = np.floor(places((begins + stops) / 2, *line)).astype(np.int64)
        # visits of a stream are a token apart or more: only the last digits at the end of a ramp to zero can hide it
        step = np.arange(len(place))
        return np.maximum.accumulate(place - step) + step if len(place) else place

    def _read(self, rows: Rows, needed: int, sequence: str) -> tuple[Rows, int]:
        """Rows of a stream, epoch after epoch, until it holds what is to be read; and how many epochs these are."""
        epochs = -(-needed // int(self.length[rows].sum(dtype=np.int64)))
        if sequence == "original":
            part = self.candidates.select(["digest", "shard", "doc"]).take(pa.array(rows)).combine_chunks()
            order = [rows[canonical_sort(part, [part["shard"].to_numpy(), part["doc"].to_numpy()])]] * epochs
        else:
            seed, digest = self.seed ^ _DRAW_SEED, self.digest[rows]
            order = [self._permuted(rows, visit_hashes(seed, digest, epoch)) for epoch in range(epochs)]
        return np.concatenate(order), epochs

    def _permuted(self, rows: Rows, hashes: Ints) -> Rows:
        """Rows by hash; where hashes collide, by document and place."""
        order = np.argsort(hashes)
        ordered = hashes[order]
        if (ordered[1:] == ordered[:-1]).any():
            part = self.candidates.select(["digest", "shard", "doc"]).take(pa.array(rows)).combine_chunks()
            return rows[canonical_sort(part, [hashes])]
        return rows[order]

    def _slots(self, number: int, band_number: int, phase: int) -> Ints:
        """The sequences of a phase that a band fills; none where documents are merged one by one."""
        taken = self.turns[phase]
        if taken is None:
            return np.empty(0, np.int64)
        own = np.flatnonzero(taken == number)
        weights = [band.weights[phase] for band in self.allocation.components[number].bands]
        if len(weights) == 1 or not len(own):
            return own
        return own[turns_of(weights, weights, 0, len(own)) == band_number]

    def _table(self, row: Rows, made: dict[str, Ints], phase: npt.NDArray[np.int32], number: int) -> pa.Table:
        index = pa.array(row)
        names = [component.name for component in self.allocation.components]
        named = {
            "source": _names(self.codes[row], self.sources),
            "phase": _names(phase, self.allocation.phases),
            "component": _names(np.full(len(row), number, np.int32), names),
        }
        columns = [
            named.get(field.name)
            or (pa.array(made[field.name]) if field.name in made else self.candidates[field.name].take(index))
            for field in self.schema
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)


def _cut(ends: Ints, cuts: Ints, stop: int) -> tuple[Ints, Ints]:
    """Ends of pieces, and the visit each is of, when visits with these ends are cut and the stream stops at `stop`."""
    kept = ends[: int(np.searchsorted(ends, stop, side="right"))]
    at = np.searchsorted(ends, cuts, side="left")
    new = (ends[at] != cuts) & (cuts > 0)
    return np.insert(kept, at[new], cuts[new]), np.insert(np.arange(len(kept)), at[new], at[new])


def _turns(allocation: Allocation, seed: int) -> list[Turns | None]:
    """Whose turn it is in each phase; None where documents are merged one by one."""
    unit = allocation.turns
    if not unit:
        return [None] * len(allocation.intervals)
    made: list[Turns | None] = []
    for interval in allocation.intervals:
        starts, shares = [row.start_share for row in interval.rows], [row.share for row in interval.rows]
        turns = turns_of(starts, shares, interval.ramp_tokens // unit, interval.tokens // unit)
        if allocation.batch:
            names = [f"{interval.name} {row.component}" for row in interval.rows]
            turns = keyed_blocks(turns, block=allocation.batch, names=names, seed=seed)
        made.append(turns)
    return made


def _names(codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))
