"""Order policies: pure functions that arrange a set of visits, and never add, drop or change one.

`shuffled` is the control. `sorted` puts all visits in one line by score. `interleaved` climbs within each source
at the same pace, so that source shares stay constant along the order. Each is total (equal scores follow a hash
of seed, id and visit), so the result does not depend on the order or the partitions its input came in.

Several visits of one document have one score, so a sort reads them close together. Where that is not wanted,
give each epoch a phase of its own and arrange the phases one by one.

Run it:  order: {kind: interleaved, by: composite, ascending: true}     in a recipe
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.config import Config
from corpus.scores import Better
from curriculum.order import OrderError, codes_and_names, encode_names
from curriculum.visits import canonical_sort, check_visits, visit_hashes

Floats = npt.NDArray[np.float64]
Missing = Literal["first", "last", "error"]
_MISSING = "where documents without a score go in their line: first, last, or error to refuse them"


class Shuffled(Config):
    """Visits by a keyed hash: no order at all, and the control for every other."""

    kind: Literal["shuffled"] = "shuffled"
    by: str | None = Field(default=None, description="the score carried along for the report; it moves nothing")
    seed: int = Field(default=0, description="another seed gives another shuffle")


class Sorted(Config):
    """All visits in one line by score. Sources whose scores differ drift to opposite ends."""

    kind: Literal["sorted"] = "sorted"
    by: str = Field(description="the score to sort by")
    ascending: bool = Field(default=True, description="true: the lowest score first")
    missing: Missing = Field(default="error", description=_MISSING)
    seed: int = Field(default=0, description="decides between equal scores")


class Interleaved(Config):
    """Each source sorted by score, all sources merged at the same pace: every prefix keeps the mixture's shares."""

    kind: Literal["interleaved"] = "interleaved"
    by: str = Field(description="the score to sort by within each source")
    ascending: bool = Field(default=True, description="true: the lowest score first")
    unit: Literal["tokens", "documents"] = Field(default="tokens", description="what the pace is counted in")
    missing: Missing = Field(default="error", description=_MISSING + "; a source without any is shuffled")
    seed: int = Field(default=0, description="decides between equal scores and between sources at equal places")


Policy = Annotated[Shuffled | Sorted | Interleaved, Field(discriminator="kind")]


def arrange(visits: pa.Table, policy: Shuffled | Sorted | Interleaved) -> pa.Table:
    """Put visits in the order of a policy.

    Args:
        visits: VISIT_SCHEMA, in any row order.

    Returns: the same rows in reading order, with `rule` saying why each is where it is.

    Raises: OrderError for tables that hold no visits, documents without a score where the policy refuses them,
    and rephrasings rated by themselves in one line with originals.
    """
    check_visits(visits)
    ties = visit_hashes(policy.seed, visits["id"], visits["visit"].to_numpy())
    if isinstance(policy, Shuffled):
        codes, names = np.zeros(visits.num_rows, np.int32), [f"shuffled, seed {policy.seed}"]
        rows = canonical_sort(visits, [ties])
    elif isinstance(policy, Sorted):
        codes, names = _sorted_rules(visits, policy)
        rows = canonical_sort(visits, [_sort_key(visits, policy), ties])
    else:
        codes, names = _interleaved_rules(visits, policy)
        rows = canonical_sort(visits, [_place(visits, policy, ties), ties])
    ordered = visits.combine_chunks().take(pa.array(rows))
    rule = pa.DictionaryArray.from_arrays(pa.array(codes[rows], pa.int32()), pa.array(names, pa.string()))
    at = visits.column_names.index("rule")
    return ordered.set_column(at, visits.schema.field("rule"), encode_names(rule))


def centred_places(groups: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64]) -> Floats:
    """Where each row lies within its group's mass: (mass before it + half its own) / the group's mass.

    Args:
        groups: shape (n,), codes from 0; rows of one group are in the order they are to be read.
        sizes: shape (n,), tokens of each row, or ones to count documents; each at least 1.

    Returns: shape (n,), in (0, 1). With ones this is (j + .5) / n_g. The numbers are quotients of exact integers,
    so equal places are equal floats. Source: the token-mass form of the interleaved order of the Puro-2B recipe
    (2608.27370); centring it keeps the share of a group within half a document at every prefix.
    """
    rows = np.argsort(groups, kind="stable")
    mass = np.cumsum(sizes[rows])
    first = np.flatnonzero(np.r_[True, np.diff(groups[rows]) != 0])
    counts = np.diff(np.r_[first, len(rows)])
    before_group = np.repeat(mass[first] - sizes[rows][first], counts)
    total = np.repeat(np.add.reduceat(sizes[rows], first), counts)
    places = np.empty(len(rows), np.float64)
    places[rows] = (2 * (mass - before_group) - sizes[rows]) / (2 * total)
    return places


def ends_with(policy: Shuffled | Sorted | Interleaved, better: Better) -> str:
    """What the last tokens of an order are, given which end of the score is the good one."""
    if isinstance(policy, Shuffled):
        return "documents of every score"
    if better == "middle":
        return f"the {'highest' if policy.ascending else 'lowest'} scores (this score is best in the middle)"
    return "the best" if policy.ascending == (better == "high") else "the worst"


def _sort_key(visits: pa.Table, policy: Sorted | Interleaved) -> Floats:
    """Scores with the lowest to be read first, shape (n,); +-inf where there is none. Minus zero becomes zero."""
    missing = visits["score"].is_null().to_numpy()
    score = visits["score"].fill_null(0.0).to_numpy().astype(np.float64)
    key = (score if policy.ascending else -score) + 0.0
    key[missing] = -np.inf if policy.missing == "first" else np.inf
    return key


def _place(visits: pa.Table, policy: Interleaved, ties: npt.NDArray[np.uint64]) -> Floats:
    groups, _ = codes_and_names(visits["source"])
    climb = canonical_sort(visits, [groups, _sort_key(visits, policy), ties])
    sizes = visits["length"].to_numpy().astype(np.int64) if policy.unit == "tokens" else np.ones(len(ties), np.int64)
    places = np.empty(len(ties), np.float64)
    places[climb] = centred_places(groups[climb], sizes[climb])
    return places


def _sorted_rules(visits: pa.Table, policy: Sorted) -> tuple[npt.NDArray[np.int32], list[str]]:
    line = np.zeros(visits.num_rows, np.int32)
    missing = visits["score"].is_null().to_numpy()
    _refuse_unlike(visits, line, ["all sources"], missing)
    if policy.missing == "error":
        _refuse_missing(line, ["all sources"], missing, policy)
    names = [f"{_direction(policy)} over all sources", f"no score: {policy.missing} of all sources"]
    return missing.astype(np.int32), names


def _interleaved_rules(visits: pa.Table, policy: Interleaved) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Three rules a source: scored, without a score among scored ones, and in a source without any score."""
    groups, sources = codes_and_names(visits["source"])
    missing = visits["score"].is_null().to_numpy()
    scored = np.bincount(groups[~missing], minlength=len(sources)) > 0
    _refuse_unlike(visits, groups, [f"source {name!r}" for name in sources], missing)
    if policy.missing == "error":
        _refuse_missing(groups, [f"source {name!r}" for name in sources], missing & scored[groups], policy)
    names = []
    for source in sources:
        pace = f"source {source}, paced by {policy.unit}"
        names += [f"{_direction(policy)} within {pace}", f"no score: {policy.missing} within {pace}"]
        names.append(f"no scores: shuffled within {pace}")
    return (3 * groups + np.where(missing, np.where(scored[groups], 1, 2), 0)).astype(np.int32), names


def _direction(policy: Sorted | Interleaved) -> str:
    return f"{'ascending' if policy.ascending else 'descending'} by {policy.by}"


def _refuse_missing(
    lines: npt.NDArray[np.int32], names: Sequence[str], missing: npt.NDArray[np.bool_], policy: Sorted | Interleaved
) -> None:
    if not missing.any():
        return
    counts = np.bincount(lines[missing], minlength=len(names))
    found = ", ".join(f"{count:,} in {name}" for name, count in zip(names, counts.tolist(), strict=True) if count)
    raise OrderError(
        f"{int(missing.sum()):,} of {len(missing):,} visits have no score {policy.by!r} to be ordered by",
        expected="a score for every document of a line",
        found=found,
        fix="rate them, or set order.missing: first (or last) to place them at that end",
    )


def _refuse_unlike(
    visits: pa.Table, lines: npt.NDArray[np.int32], names: Sequence[str], missing: npt.NDArray[np.bool_]
) -> None:
    """Raters mis-rank rewritten text, so a rephrasing's own score is not comparable with an original's."""
    rephrased, inherited = visits["rephrased"].to_numpy(), visits["inherited"].to_numpy()
    alone = np.bincount(lines[rephrased & ~inherited & ~missing], minlength=len(names))
    originals = np.bincount(lines[~rephrased], minlength=len(names))
    for name, count, others in zip(names, alone.tolist(), originals.tolist(), strict=True):
        if count and others:
            raise OrderError(
                f"one sort over {name} would rank rephrasings against originals",
                expected="rephrasings that inherit their parent's score, or that stand in a source of their own",
                found=f"{count:,} visits of rephrasings with a score of their own, {others:,} of originals",
                fix="set order.kind: interleaved, with a source of their own for rephrasings; or rate originals only",
            )
