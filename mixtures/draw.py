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

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curriculum.keyed_hash import visit_hashes
from curriculum.order import codes_and_names
from curriculum.visits import VISIT_SCHEMA, canonical_sort
from mixtures.allocation import Allocation, Band, Component
from mixtures.bands import Quality, band_numbers
from mixtures.ramps import places
from mixtures.shares import MixtureError, Turns
from mixtures.turns import turns_of

Ints = npt.NDArray[np.int64]
PLACE = pa.field("place", pa.int64(), nullable=False)


@dataclass(frozen=True)
class _Pieces:
    """Pieces of visits in the order of their stream: row of the candidates, visit, offset in the document, length, and
    phase and place, each of shape (n,)."""

    row: Ints
    visit: npt.NDArray[np.int32]
    offset: Ints
    length: Ints
    phase: npt.NDArray[np.int32]
    place: Ints


def draw(candidates: pa.Table, allocation: Allocation, seed: int) -> pa.Table:
    """The visits of all phases.

    Args:
        candidates: curriculum.visits.CANDIDATE_SCHEMA and the scores that bands are cut by, in any row order; the same
            that were allocated.

    Returns: VISIT_SCHEMA, `place` (tokens of its phase, int64) and the candidates' scores: stream by stream, whatever
    the order of the candidates. It is a set, to be arranged by a policy.

    Raises: MixtureError when the candidates are not those that were allocated.
    """
    candidates = candidates.combine_chunks()
    codes, names = codes_and_names(candidates["source"])
    turns = _turns(allocation)
    parts, owner = [], []
    for number, component in enumerate(allocation.components):
        if not component.tokens:
            continue
        own = [code for code, name in enumerate(names) if name in component.sources]
        rows = (
            np.flatnonzero(np.isin(codes, own) if len(own) > 1 else codes == own[0]) if own else np.empty(0, np.int64)
        )
        for i, stream in enumerate(_streams(candidates, rows, component)):
            slots = [_slots(turns, allocation, number, i, phase) for phase in range(len(allocation.phases))]
            made = _pieces(candidates, stream, component, i, allocation, number, slots, seed)
            parts.append(made)
            owner.append(np.full(len(made.row), number, np.int32))
    return _table(candidates, codes, names, parts, np.concatenate(owner), allocation)


def _streams(candidates: pa.Table, rows: Ints, component: Component) -> list[Ints]:
    """Rows of each band, checked against what was allocated."""
    if component.by is None:
        streams = [rows]
    else:
        edges = (*(band.low for band in component.bands), Fraction(1))
        number = band_numbers(candidates, rows, Quality(component.by, edges), component.name)
        streams = [rows[number == i] for i in range(len(component.bands))]
    length = candidates["length"].to_numpy()
    for stream, band in zip(streams, component.bands, strict=True):
        total = int(length[stream].sum(dtype=np.int64))
        if (len(stream), total) != (band.documents, band.available_tokens):
            raise MixtureError(
                f"the candidates of {component.name!r} are not those the mixture was made for",
                expected=f"{band.documents:,} documents, {band.available_tokens:,} tokens",
                found=f"{len(stream):,} documents, {total:,} tokens",
            )
    return streams


def _pieces(
    candidates: pa.Table,
    rows: Ints,
    component: Component,
    band_number: int,
    allocation: Allocation,
    number: int,
    slots: Sequence[Ints | None],
    seed: int,
) -> _Pieces:
    """The pieces of one stream, for all phases."""
    band = component.bands[band_number]
    order, visit = _read(candidates, rows, band, component.sequence, seed)
    length = candidates["length"].to_numpy()[order].astype(np.int64)
    ends = np.cumsum(length)
    borders = np.cumsum(np.array(band.tokens, np.int64))
    cuts = [borders]
    for begin, slot in zip(np.r_[0, borders], slots, strict=False):
        if slot is not None:
            assert allocation.turns
            cuts.append(begin + allocation.turns * np.arange(1, len(slot) + 1))
    bounds, at = _cut(ends, np.unique(np.concatenate(cuts)), int(borders[-1]))
    begin = np.concatenate([[0], bounds])[:-1].astype(np.int64)
    phase = np.searchsorted(borders, begin, side="right").astype(np.int32)
    before = np.r_[0, borders][phase]
    place = np.empty(len(begin), np.int64)
    for p, interval in enumerate(allocation.intervals):
        inside = slice(*np.searchsorted(phase, [p, p + 1]).tolist())
        inner, size = (begin - before)[inside], (bounds - begin)[inside]
        slot = slots[p]
        if slot is not None:
            assert allocation.turns
            place[inside] = slot[inner // allocation.turns] * allocation.turns + inner % allocation.turns
        elif len(inner):
            row, weight = interval.rows[number], band.weights[p]
            middle = inner + size / 2
            at_place = places(middle, row.start_share * weight, row.share * weight, interval.ramp_tokens)
            place[inside] = np.floor(at_place).astype(np.int64)
    offset = begin - (ends - length)[at]
    return _Pieces(order[at], visit[at], offset, bounds - begin, phase, place)


def _read(candidates: pa.Table, rows: Ints, band: Band, sequence: str, seed: int) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Rows and visit numbers of a stream, epoch after epoch, until it holds what is to be read."""
    needed = sum(band.tokens)
    if not needed:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    epochs = -(-needed // band.available_tokens)
    part = candidates.select(["digest", "shard", "doc"]).take(pa.array(rows)).combine_chunks()
    if sequence == "original":
        lying = rows[canonical_sort(part, [part["shard"].to_numpy(), part["doc"].to_numpy()])]
        order = [lying] * epochs
    else:
        digest = part["digest"].to_numpy()
        order = [rows[_permutation(part, visit_hashes(seed, digest, epoch))] for epoch in range(epochs)]
    return np.concatenate(order), np.repeat(np.arange(epochs, dtype=np.int32), len(rows))


def _permutation(part: pa.Table, hashes: Ints) -> npt.NDArray[np.integer]:
    """Rows by hash; where hashes collide, by document and place."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    return canonical_sort(part, [hashes]) if (ordered[1:] == ordered[:-1]).any() else order


def _cut(ends: Ints, cuts: Ints, stop: int) -> tuple[Ints, Ints]:
    """Ends of pieces, and the visit each is of, when visits with these ends are cut and the stream stops at `stop`."""
    cuts = cuts[(cuts > 0) & (cuts <= stop)]
    whole = int(np.searchsorted(ends, stop, side="left"))
    if whole < len(ends) and ends[whole] == stop:
        whole += 1
    kept = ends[:whole]
    at = np.searchsorted(ends, cuts, side="left")
    new = ends[at] != cuts
    return np.insert(kept, at[new], cuts[new]), np.insert(np.arange(whole), at[new], at[new])


def _turns(allocation: Allocation) -> list[Turns | None]:
    """Whose turn it is in each phase; None where documents are merged one by one."""
    if not allocation.turns:
        return [None] * len(allocation.intervals)
    unit = allocation.turns
    return [
        turns_of(
            [row.start_share for row in interval.rows], [row.share for row in interval.rows],
            interval.ramp_tokens // unit, interval.tokens // unit,
        )
        for interval in allocation.intervals
    ]  # fmt: skip


def _slots(turns: Sequence[Turns | None], allocation: Allocation, number: int, band: int, phase: int) -> Ints | None:
    """The turns of the phase that a band of a component has, as numbers of sequences."""
    taken = turns[phase]
    if taken is None:
        return None
    own = np.flatnonzero(taken == number)
    weights = [one.weights[phase] for one in allocation.components[number].bands]
    if len(weights) == 1 or not len(own):
        return own
    return own[turns_of(weights, weights, 0, len(own)) == band]


def _table(
    candidates: pa.Table,
    codes: npt.NDArray[np.int32],
    names: Sequence[str],
    parts: Sequence[_Pieces],
    owner: npt.NDArray[np.int32],
    allocation: Allocation,
) -> pa.Table:
    row = np.concatenate([part.row for part in parts])
    joined = {
        "visit": np.concatenate([part.visit for part in parts]),
        "length": np.concatenate([part.length for part in parts]).astype(np.int32),
        "start": candidates["start"].to_numpy()[row] + np.concatenate([part.offset for part in parts]),
        "place": np.concatenate([part.place for part in parts]),
    }
    named = {
        "source": _names(codes[row], names),
        "phase": _names(np.concatenate([part.phase for part in parts]), allocation.phases),
        "component": _names(owner, [component.name for component in allocation.components]),
    }
    scores = [field for field in candidates.schema if field.name not in (*VISIT_SCHEMA.names, "place")]
    kept = ["digest", "shard", "doc", "rephrased", "inherited", *(field.name for field in scores)]
    taken = candidates.select(kept).take(pa.array(row)).combine_chunks()
    schema = pa.schema([*VISIT_SCHEMA, PLACE, *scores])
    columns = [named.get(one.name) or (joined[one.name] if one.name in joined else taken[one.name]) for one in schema]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) if isinstance(c, np.ndarray) else c for c, f in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _names(codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))
