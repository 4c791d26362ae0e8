"""Rephrasings and quality scores: which gates stop which sources, and how scores change from parent to child.

A gate that stops poor sources alone does something else than its name says, so stops are told by the source's bucket.
The change of a score is a report, never a filter: quality scores mis-rank generated text (FinePhrase, arXiv 2604.13977:
rank correlation -.08 between an education score of outputs and what a model trained on them can do).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.rank_correlation import spearman
from corpus.scores import Score, scores_of
from corpus.shards import read_batches, read_schema, read_table
from pipelines.report.quantities import count, listed, percent, signed
from pipelines.report.rephrasing_attempts import Attempts, Floats, in_order
from pipelines.report.scores import short_name
from pipelines.report.workspace import COMPOSITE, Section, Workspace, score_values, table_of
from rephrase.routing import fit_buckets

Ints = npt.NDArray[np.int64]

BANDS = ((1, 2), (3, 8), (9, 11), (12, 17), (18, 20))
"""Bands of the 20 buckets, as routing by quality uses them."""
SCORES_SHOWN = 24
LOW_HIGH = 11  # Nemotron-CC's border between poor and good sources
MIN_STOPS, MIN_Z, MIN_RATIO = 10, 3.0, 3.0


@dataclass(frozen=True)
class _Change:
    """One score on pairs of parent and child, shape (n,) each."""

    score: Score
    style: str
    parent: Floats
    child: Floats


def buckets_section(workspace: Workspace, artifact: Artifact, attempts: Attempts) -> Section:
    """Stops by gate and the source's bucket: as the plan cut them, else of the composite score."""
    title = "Which sources the gates stop"
    parents = attempts.parents[attempts.counted]
    mine, of = _planned_buckets(workspace, artifact, parents), "the score that routed them, as the plan cut it"
    if not mine.any():
        mine, of = _composite_buckets(workspace, parents), "the composite score over all scored documents"
    if not mine.any():
        absent = "The sources have no score that was cut into buckets, so stops cannot be told by quality."
        return Section("buckets", title, absent=absent)
    reasons = attempts.reasons[attempts.counted].astype(str)
    bands = [(mine >= low) & (mine <= high) for low, high in BANDS]
    rows = [
        {"gate": gate, "cells": [_share((reasons == gate)[band]) for band in bands]}
        for gate in in_order(set(reasons) - {""})
    ]
    facts = {
        "bands": [f"{low}–{high}" for low, high in BANDS], "seen": [int(band.sum()) for band in bands], "rows": rows,
        "passed": [_share((reasons == "")[band]) for band in bands], "of": of,
        "finding": _one_sided(reasons, mine), "unscored": int((mine == 0).sum()),
    }  # fmt: skip
    return Section("buckets", title, "rephrasing_buckets.html", facts)


def _planned_buckets(workspace: Workspace, artifact: Artifact, parents: npt.NDArray[np.object_]) -> Ints:
    """The bucket of each document by the plan that the artifact was made from; 0 where it has none."""
    plan = next(
        (made for ref in artifact.manifest.inputs if (made := workspace.get(ref.name)) and _is_plan(made)), None
    )
    if plan is None:
        return np.zeros(len(parents), np.int64)
    table = pa.concat_tables([read_table(path, ["id", "bucket"]) for path in plan.files()])
    places = pc.index_in(pa.array(parents, pa.string()), value_set=table.column("id"))
    return np.asarray(table.column("bucket").take(places).fill_null(0).to_numpy(), dtype=np.int64)


def _is_plan(artifact: Artifact) -> bool:
    return artifact.manifest.kind == "rephrase_plan"


def _composite_buckets(workspace: Workspace, parents: npt.NDArray[np.object_]) -> Ints:
    composite = workspace.get(COMPOSITE)
    values = score_values(composite, "composite") if composite else np.zeros(0)
    if composite is None or not np.isfinite(values).any():
        return np.zeros(len(parents), np.int64)
    found = _values_of([composite], parents)
    buckets = fit_buckets(values, score="composite", rater="", better="high")
    return buckets.of(next(iter(found.values()), np.full(len(parents), np.nan)))


def _share(marks: npt.NDArray[np.bool_]) -> str:
    return percent(float(marks.mean())) if len(marks) else "–"


def _one_sided(reasons: npt.NDArray[np.str_], buckets: npt.NDArray[np.int64]) -> str:
    """A sentence about gates that stop one side of Nemotron-CC's border far more often than the other."""
    low, high = (buckets >= 1) & (buckets <= LOW_HIGH), buckets > LOW_HIGH
    said = []
    for gate in in_order(set(reasons) - {""}):
        shares = [float((reasons[side] == gate).mean()) if side.any() else 0.0 for side in (low, high)]
        n = [int(side.sum()) for side in (low, high)]
        pooled = sum(share * size for share, size in zip(shares, n, strict=True)) / max(1, sum(n))
        spread = np.sqrt(pooled * (1 - pooled) * sum(1 / max(1, size) for size in n))
        unlike = max(shares) >= MIN_RATIO * min(shares) and abs(shares[0] - shares[1]) > MIN_Z * spread
        if all(n) and pooled * sum(n) >= MIN_STOPS and unlike:
            side = "poor" if shares[0] > shares[1] else "good"
            said.append(f"“{gate}” ({percent(max(shares))} of {side} sources, {percent(min(shares))} of the others)")
    if not low.any() or not high.any():
        return "All sources lie on one side of bucket 11, so no gate can be told to prefer a side."
    if not said:
        return (
            "No gate stops sources of one side of the border between buckets 11 and 12 far more often than the other."
        )
    return (
        f"Look at {listed(said)}: a gate that stops one side of the border at bucket 11 so much more often may judge "
        "the source, not the output."
    )


def change_section(workspace: Workspace, artifact: Artifact) -> Section:
    """The change of every score that the same rater gave to parents and to children."""
    changes = _changes(workspace, artifact)
    title = "Scores, from parent to child"
    if not changes:
        how = f"gradatim rate {artifact.name} -r 'child_signals={{kind: signals}}'"
        return Section(
            "scores", title,
            absent="No rater has scored both the sources and their rephrasings. Name the sources' rater again for the "
            f"rephrasings, under another name, so that its first scores stay: {how}. "
            "Read such a change with care: quality scores mis-rank generated text.",
        )  # fmt: skip
    rows = [_row(change) for change in changes]
    rows.sort(key=lambda row: (row["style"], -abs(row["effect"]), row["name"]))
    facts = {"rows": rows[:SCORES_SHOWN], "more": max(0, len(rows) - SCORES_SHOWN), "finding": _finding(changes)}
    return Section("scores", title, "rephrasing_scores.html", facts)


def _changes(workspace: Workspace, artifact: Artifact) -> list[_Change]:
    children = table_of(artifact, ["id", "parent_id", "style"]) if artifact.files() else None
    if children is None or not children.num_rows:
        return []
    ids, parents, styles = (np.array(children.column(name).to_pylist(), dtype=object) for name in children.column_names)
    scores = workspace.below("scores")
    theirs, ours = _values_of(scores, parents), _values_of(scores, ids)
    found = []
    for key in theirs:
        if key in ours:
            both = np.isfinite(theirs[key]) & np.isfinite(ours[key])
            for style in sorted(set(styles[both])):
                mine = both & (styles == style)
                found.append(_Change(key[0], style, theirs[key][mine], ours[key][mine]))
    return found


def _values_of(sidecars: Iterable[Artifact], ids: npt.NDArray[np.object_]) -> dict[tuple[Score, str], Floats]:
    """Every score that some of these ids have, by score and fingerprint of its rater: shape (n,), NaN where missing."""
    wanted = pa.array(ids, pa.string())
    found: dict[tuple[Score, str], Floats] = {}
    for artifact in sidecars:
        for path in artifact.files():
            schema = read_schema(path)
            keys = {
                score: (schema.field(score.name).metadata or {}).get(b"rater", b"").decode()
                for score in scores_of(schema)
            }
            for batch in read_batches(path, ["id", *(score.name for score in keys)]):
                places = pc.index_in(wanted, value_set=batch.column("id"))
                if places.null_count == len(places):
                    continue
                mine = places.is_valid().to_numpy(zero_copy_only=False)
                rows = places.drop_null()
                for score, rater in keys.items():
                    values = batch.column(score.name).take(rows).to_numpy(zero_copy_only=False).astype(np.float64)
                    found.setdefault((score, rater), np.full(len(ids), np.nan))[mine] = values
    return {key: values for key, values in found.items() if np.isfinite(values).any()}


def _row(change: _Change) -> dict[str, Any]:
    before, after = float(np.median(change.parent)), float(np.median(change.child))
    spread = float(np.std(change.parent))
    difference = change.child - change.parent
    better = difference if change.score.better == "high" else -difference
    rho = spearman(change.parent, change.child)
    return {
        "style": change.style, "name": change.score.name, "short": short_name(change.score.name),
        "n": len(change.parent), "before": f"{before:.3g}", "after": f"{after:.3g}",
        "effect": float(difference.mean()) / spread if spread else 0.0,
        "effect_said": signed(float(difference.mean()) / spread) if spread else "–",
        "better": percent(float((better > 0).mean())) if change.score.better != "middle" else "–",
        "rho": "–" if rho is None else signed(rho),
    }  # fmt: skip


def _finding(changes: list[_Change]) -> str:
    n = max(len(change.parent) for change in changes)
    scores = count(len({change.score.name for change in changes}), "scores")
    pairs = count(n, "pairs")
    return f"{scores} were given to sources and rephrasings by the same raters, on up to {pairs} a style."
