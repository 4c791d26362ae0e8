"""A mixture: shares of sources over a budget of tokens, and the visits that fill them exactly.

`allocate` turns shares into whole token counts and refuses what the sources cannot give under the cap on visits.
`draw` picks the documents: whole ones in a keyed permutation, one epoch after the other, the very last one cut,
so each share is met to the token. What it gives is a set; a policy of `curriculum.policies` arranges it, so
runs with different orders read the same tokens.

Run it:  mixture: {sources: {web: 45%, wrap/*: 45%, replay/old: 10%}, tokens: 2M, max_visits: 4}     in a recipe
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.config import Config, Count, Share, nearest
from curriculum.order import codes_and_names
from curriculum.keyed_hash import visit_hashes
from curriculum.visits import VISIT_SCHEMA, canonical_sort
from mixtures.shares import MixtureError, largest_remainder, normalised

MANY_EPOCHS = 4


class MixtureConfig(Config):
    """Shares of sources over a budget of tokens."""

    sources: dict[str, Share] = Field(
        description="share of each source; a name also stands for what lies below it (wrap for wrap/easy), and may "
        "hold * ? and [..]; a source belongs to the key that is its exact name, else to the longest that matches"
    )
    tokens: Count | None = Field(default=None, description="tokens in all; null: as many as the cap on visits allows")
    max_visits: float = Field(default=4, gt=0, allow_inf_nan=False, description="epochs a source may be read at most")
    when_short: Literal["error", "spread"] = Field(
        default="error",
        description="a source that cannot fill its share: error refuses the mixture; spread gives it all it may have, "
        "and what it leaves to the others in proportion to their shares",
    )


@dataclass(frozen=True)
class SourceAllocation:
    """What one key of a mixture asked for and gets.

    Args:
        name: the key; sources: the sources of the token shards it stands for.
        asked_share, asked_tokens: as written, before shares are made to sum to one; tokens rounded.
        documents, available_tokens: what the sources hold, read once.
        tokens: what it gets, exactly; epochs: tokens over available tokens.
    """

    name: str
    sources: tuple[str, ...]
    asked_share: float
    asked_tokens: int
    documents: int
    available_tokens: int
    tokens: int

    @property
    def epochs(self) -> float:
        """How often the source is read; 1.45 means all of it once and 45 % of it twice."""
        return self.tokens / self.available_tokens if self.available_tokens else 0.0


@dataclass(frozen=True)
class Allocation:
    """A mixture that can be had: whole tokens for each key, summing to the budget, and what is worth knowing."""

    rows: tuple[SourceAllocation, ...]
    tokens: int
    warnings: tuple[str, ...]


def available(candidates: pa.Table) -> dict[str, tuple[int, int]]:
    """Documents and tokens of each source of a candidates table, by name."""
    codes, names = codes_and_names(candidates["source"])
    documents, tokens = _totals(codes, candidates["length"].to_numpy(), len(names))
    return {name: (int(documents[code]), int(tokens[code])) for code, name in enumerate(names)}


def allocate(available: Mapping[str, tuple[int, int]], config: MixtureConfig) -> Allocation:
    """Turn shares into whole token counts.

    Args:
        available: documents and tokens of each source, each document counted once.
        config: with `tokens` null the budget is the largest that keeps every key within max_visits.

    Raises: MixtureError for a key that stands for no source, shares that cannot be used, an empty budget, or a
    source that cannot fill its share.
    """
    exact, said = normalised(list(config.sources.values()))
    owned = _owned(available, list(config.sources), empty_allowed=config.when_short == "spread")
    held = [_sum(available, sources) for sources in owned]
    caps = [int(Fraction(str(config.max_visits)) * tokens) for _, tokens in held]
    budget = config.tokens
    if budget is None:
        asked = [(cap, share) for cap, share in zip(caps, exact, strict=True) if share]
        spread = config.when_short == "spread"
        budget = sum(cap for cap, _ in asked) if spread else min(int(cap / share) for cap, share in asked)
    if not budget:
        raise MixtureError("the mixture holds no tokens", expected="a budget of 1 or more", fix="set mixture.tokens")
    plain = largest_remainder(exact, budget)
    counts = _spread(exact, caps, budget) if config.when_short == "spread" else plain
    short = [
        f"{name} asked for {wanted:,} tokens and could give {count:,}; the others took the rest"
        for name, wanted, count in zip(config.sources, plain, counts, strict=True)
        if count < wanted
    ]
    rows = []
    for i, (count, (name, share)) in enumerate(zip(counts, config.sources.items(), strict=True)):
        row = SourceAllocation(name, owned[i], share, round(share * budget), *held[i], count)
        if count > caps[i]:
            raise _cannot_fill(row, exact[i], budget, caps[i], config.max_visits)
        rows.append(row)
    taken = {source for sources in owned for source in sources}
    return Allocation(tuple(rows), budget, (*short, *_warnings(rows, said, sorted(set(available) - taken))))


def draw(candidates: pa.Table, allocation: Allocation, seed: int, phase: str = "") -> pa.Table:
    """The visits that fill an allocation, each source to the token.

    Within a key, epoch n reads its documents in the permutation of a hash of (seed, id, n), and ends before
    epoch n + 1 begins; the last document of the last epoch is cut where the share is full (it then loses its
    end-of-text). So a larger budget keeps the visits of a smaller one, but for that cut.

    Args:
        candidates: curriculum.visits.CANDIDATE_SCHEMA, in any row order; the same that were allocated.
        phase: the name of the plan's phase these visits are for, kept with each.

    Returns: VISIT_SCHEMA, by shard, document and visit: a set, to be arranged by a policy.

    Raises: MixtureError when the candidates are not those that were allocated.
    """
    codes, names = codes_and_names(candidates["source"])
    owner = np.full(len(names), -1, np.int32)
    for i, row in enumerate(allocation.rows):
        owner[[code for code, name in enumerate(names) if name in row.sources]] = i
    key_of = owner[codes]
    parts = [
        _draw_one(candidates, np.flatnonzero(key_of == i), row, seed)
        for i, row in enumerate(allocation.rows)
        if row.tokens
    ]
    rows, visit, length = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    shard, doc = candidates["shard"].to_numpy()[rows], candidates["doc"].to_numpy()[rows]
    by_place = canonical_sort(candidates, [shard, doc, visit])
    carried = candidates.select([name for name in candidates.column_names if name != "length"])
    drawn = carried.combine_chunks().take(pa.array(rows[by_place])).combine_chunks()
    made = {
        "visit": pa.array(visit[by_place], pa.int32()),
        "length": pa.array(length[by_place], pa.int32()),
        "phase": _names(np.zeros(len(rows), np.int32), [phase]),
        "component": _names(key_of[rows[by_place]], [row.name for row in allocation.rows]),
    }
    columns = [made[name] if name in made else drawn[name] for name in VISIT_SCHEMA.names]
    visits = pa.Table.from_arrays(columns, schema=VISIT_SCHEMA)
    for field in candidates.schema:
        if field.name not in VISIT_SCHEMA.names:
            visits = visits.append_column(field, drawn[field.name])
    return visits


def allocation_table(allocation: Allocation) -> list[dict[str, str]]:
    """Asked beside given, as rows of text for a terminal or a page; the last row is the total."""
    rows = [
        {
            "source": row.name,
            "asked": f"{_percent(row.asked_share)}",
            "asked tokens": f"{row.asked_tokens:,}",
            "documents": f"{row.documents:,}",
            "available tokens": f"{row.available_tokens:,}",
            "epochs": f"{row.epochs:.2f}",
            "given tokens": f"{row.tokens:,}",
            "given": f"{row.tokens / allocation.tokens:.2%}",
        }
        for row in allocation.rows
    ]
    documents = sum(row.documents for row in allocation.rows)
    held = sum(row.available_tokens for row in allocation.rows)
    asked = sum(Fraction(str(row.asked_share)) for row in allocation.rows)
    total = {
        "source": "total",
        "asked": _percent(float(asked)),
        "asked tokens": f"{sum(row.asked_tokens for row in allocation.rows):,}",
        "documents": f"{documents:,}",
        "available tokens": f"{held:,}",
        "epochs": f"{allocation.tokens / held:.2f}",
        "given tokens": f"{allocation.tokens:,}",
        "given": "100.00%",
    }
    return [*rows, total]


def _spread(exact: Sequence[Fraction], caps: Sequence[int], budget: int) -> list[int]:
    """Whole counts under caps: sources over theirs are clipped, the others rescaled, until none is over.

    Where even that does not reach the budget, the plain counts are returned, for the caller to refuse.
    """
    clipped: set[int] = set()
    while True:
        free = [i for i in range(len(exact)) if i not in clipped and exact[i]]
        if not free:
            return largest_remainder(exact, budget)
        rest = budget - sum(caps[i] for i in clipped)
        counts = dict(zip(free, largest_remainder([exact[i] for i in free], rest), strict=True))
        over = {i for i in free if counts[i] > caps[i]}
        if not over:
            return [caps[i] if i in clipped else counts.get(i, 0) for i in range(len(exact))]
        clipped |= over


def _owned(
    available: Mapping[str, object], keys: Sequence[str], *, empty_allowed: bool = False
) -> list[tuple[str, ...]]:
    """The sources each key stands for. Raises MixtureError for a key without one, unless that is allowed."""
    owned: dict[str, list[str]] = {key: [] for key in keys}
    for source in sorted(available):
        fits = [key for key in keys if fnmatchcase(source, key) or source.startswith(f"{key}/")]
        if source in owned:
            owned[source].append(source)
        elif fits:
            owned[max(fits, key=len)].append(source)
    for key, sources in owned.items():
        if not sources and not empty_allowed:
            raise MixtureError(
                f"the mixture names {key!r}, and no token shard holds such a source{nearest(key, available)}",
                where=f"mixture.sources.{key}",
            )
    return [tuple(sources) for sources in owned.values()]


def _cannot_fill(row: SourceAllocation, share: Fraction, budget: int, cap: int, max_visits: float) -> MixtureError:
    lower = math.floor(1000 * cap / budget) / 10
    return MixtureError(
        f"source {row.name!r} cannot fill its share of the mixture",
        expected=f"{_amount(row.tokens)} tokens: {_percent(float(share))} of {_amount(budget)}",
        found=f"{_amount(row.available_tokens)} tokens in {row.documents:,} documents: {row.epochs:.2f} epochs, "
        f"and max_visits is {max_visits:g}",
        where=f"mixture.sources.{row.name}",
        fix=f"set max_visits: {math.ceil(row.epochs)}, or lower its share to {lower:g}%, "
        f"or set tokens: {int(cap / share)}",
    )


def _warnings(rows: Sequence[SourceAllocation], said: str, unused: Sequence[str]) -> list[str]:
    warnings = [said] if said else []
    for row in rows:
        if row.epochs > MANY_EPOCHS:
            warnings.append(f"{row.name} is read {row.epochs:.1f} times; repeats past {MANY_EPOCHS} teach little")
    if unused:
        warnings.append(f"not in the mixture, and not read: {', '.join(unused)}")
    return warnings


def _draw_one(
    candidates: pa.Table, rows: npt.NDArray[np.int64], asked: SourceAllocation, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Row, visit number and length of each visit of one key."""
    lengths = candidates["length"].to_numpy()[rows]
    total = int(lengths.sum(dtype=np.int64))
    if (len(rows), total) != (asked.documents, asked.available_tokens):
        raise MixtureError(
            f"the candidates of {asked.name!r} are not those the mixture was made for",
            expected=f"{asked.documents:,} documents, {asked.available_tokens:,} tokens",
            found=f"{len(rows):,} documents, {total:,} tokens",
        )
    epochs, rest = divmod(asked.tokens, total)
    visit = np.repeat(np.arange(epochs, dtype=np.int32), len(rows))
    taken = (np.tile(rows, epochs), visit, np.tile(lengths, epochs))
    if not rest:
        return taken
    part = candidates.select(["digest", "shard", "doc"]).take(pa.array(rows))
    turn = canonical_sort(part, [visit_hashes(seed, part["digest"].to_numpy(), epochs)])
    ends = np.cumsum(lengths[turn], dtype=np.int64)
    n = int(np.searchsorted(ends, rest, side="left")) + 1
    last = lengths[turn[:n]].copy()
    last[-1] -= ends[n - 1] - rest
    new = (rows[turn[:n]], np.full(n, epochs, np.int32), last)
    return np.r_[taken[0], new[0]], np.r_[taken[1], new[1]], np.r_[taken[2], new[2]]


def _names(codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))


def _sum(available: Mapping[str, tuple[int, int]], sources: Sequence[str]) -> tuple[int, int]:
    return sum(available[source][0] for source in sources), sum(available[source][1] for source in sources)


def _totals(
    codes: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    sums = np.zeros(n, np.int64)
    np.add.at(sums, codes, lengths)
    return np.bincount(codes, minlength=n), sums


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _amount(tokens: int) -> str:
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if tokens >= size:
            return f"{tokens / size:.2f} {unit}"
    return f"{tokens:,}"
