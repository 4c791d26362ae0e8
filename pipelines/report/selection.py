"""The page of a selection: what was taken, where the ranking was cut, and how the choice shifts the corpus.

Many scores follow length, and some follow a source or a language; a selection can so be a choice of length in
disguise. The page puts what was chosen from beside what was chosen: lengths, sources, languages, in documents and
tokens. The same numbers are in `selection.json`.

Run it:  gradatim select clean --budget 10M -w ws    writes ws/selected.report/selection.html
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from corpus.artifacts import Artifact
from corpus.shards import read_batches, read_table, write_text
from pipelines.report.figure import SERIES, colour, drawing, percent_axis, short_count, svg
from pipelines.report.making import footer_of
from pipelines.report.page import page
from pipelines.report.quantities import count, percent, signed, tokens
from pipelines.report.workspace import Section
from pipelines.selecting import CutFile
from pipelines.stages.select_work import OCTAVE_BINS, SHIFT, bin_middle

PAGE, FACTS = "selection.html", "selection.json"
LEAD = (
    "The documents that rank highest, up to a budget of tokens: where the ranking was cut, what was left out and why, "
    "and how what was chosen differs from what it was chosen from."
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHOWN = 30
UNKNOWN = "unknown"
_SIDES = ("before", "after")
_RULES = {
    "prefix": "the longest prefix of the ranking that fits",
    "crossing": "up to and with the document that crosses the budget",
    "fill": "what does not fit is skipped, and smaller documents further down are taken",
}


def write_selection_report(
    folder: Path, chosen: Artifact, cut: CutFile, origin: str, *, duplicates: Artifact | None, evidence: str
) -> dict[str, Any]:
    """Write the page and its numbers into a folder; returns the totals for the manifest.

    Args:
        chosen: the documents selected, with their shift tables; cut: where the ranking was cut.
        origin: the name of the documents selected from; duplicates: the workspace's list, if it has one.
        evidence: where the weights come from, if the score is a composite.
    """
    facts = {**selection_facts(chosen, cut, origin, duplicates), "evidence": evidence}
    write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    sections = [_choice(facts, cut, chosen), _lengths(facts), _shares(facts, "sources"), _shares(facts, "languages")]
    footer = footer_of([chosen], chosen.manifest.fingerprint, "Selection")
    title = f"{chosen.name}, from {origin}"
    write_text(folder / PAGE, page(title, sections, kicker="Report of a selection", lead=LEAD, footer=footer))
    return {"documents": facts["documents"]["after"], "tokens": facts["tokens"]["after"]}


def selection_facts(chosen: Artifact, cut: CutFile, origin: str, duplicates: Artifact | None) -> dict[str, Any]:
    """Everything the page shows, as plain JSON; `before` is all documents, `after` those selected."""
    shift = pa.concat_tables([read_table(path) for path in chosen.files(folder=SHIFT)])
    sides = dict(zip(_SIDES, (shift, shift.filter(shift.column("selected"))), strict=True))
    facts: dict[str, Any] = {
        "name": chosen.name,
        "origin": origin,
        "settings": cut.settings.model_dump(mode="json"),
        "score": {"name": cut.score, "better": cut.better},
        "documents": {}, "tokens": {}, "score_range": {}, "length": {}, "length_bins": {},
        "groups": [_group(item) for item in cut.groups],
        "left_out": chosen.manifest.totals["dropped"],
        "duplicates": None if duplicates is None else _listed_in(chosen, duplicates),
    }  # fmt: skip
    for side, table in sides.items():
        facts["documents"][side] = _sum(table, "documents")
        facts["tokens"][side] = _sum(table, "tokens")
        facts["score_range"][side] = [pc.min(table["score_min"]).as_py(), pc.max(table["score_max"]).as_py()]
        bins, documents = _binned(table)
        facts["length"][side] = {
            f"{q:g}": length for q, length in zip(QUANTILES, _quantiles(bins, documents), strict=True)
        }
        facts["length_bins"][side] = dict(zip(map(str, bins.tolist()), documents.tolist(), strict=True))
    for key, column in (("sources", "source"), ("languages", "lang")):
        facts[key] = _by(sides, column)
    return facts


def _group(item: Any) -> dict[str, Any]:
    cut = item.cut
    place = {"key": cut.key, "takes": cut.takes_what} if cut.takes_what in ("before", "through") else None
    return {
        "name": item.name, "budget": item.budget, "documents": cut.documents, "tokens": cut.tokens,
        "shortfall": item.budget - cut.tokens, "cut": place, "skipped_to": len(cut.beyond),
    }  # fmt: skip


def _sum(table: pa.Table, column: str) -> int:
    return int(pc.sum(table.column(column)).as_py() or 0)


def _binned(table: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Length bins in rising order and the documents in each; documents of unknown length are left out."""
    known = table.filter(pc.greater_equal(table.column("bin"), 0))
    sums = known.group_by("bin", use_threads=False).aggregate([("documents", "sum")]).sort_by("bin")
    return sums.column("bin").to_numpy(), sums.column("documents_sum").to_numpy()


def _quantiles(bins: npt.NDArray[np.int64], documents: npt.NDArray[np.int64]) -> list[float | None]:
    if not len(bins):
        return [None] * len(QUANTILES)
    sums = np.cumsum(documents)
    rows = [int(np.searchsorted(sums, q * sums[-1], side="left")) for q in QUANTILES]
    return [round(float(length), 1) for length in bin_middle(bins[rows])]


def _by(sides: dict[str, pa.Table], column: str) -> list[dict[str, Any]]:
    """Documents and tokens of each value of a column, before and after; the largest before come first."""
    rows: dict[str, dict[str, Any]] = {}
    for side, table in sides.items():
        sums = table.group_by(column, use_threads=False).aggregate([("documents", "sum"), ("tokens", "sum")])
        for row in sums.to_pylist():
            name = UNKNOWN if row[column] is None else row[column]
            entry = rows.setdefault(name, {"name": name, "documents": dict.fromkeys(_SIDES, 0)})
            entry.setdefault("tokens", dict.fromkeys(_SIDES, 0))
            entry["documents"][side] += row["documents_sum"]
            entry["tokens"][side] += row["tokens_sum"]
    return sorted(rows.values(), key=lambda row: (-row["tokens"]["before"], row["name"]))


def _listed_in(chosen: Artifact, duplicates: Artifact) -> int:
    """How many selected documents the workspace's list of duplicates names."""
    listed = pa.concat_tables([read_table(path, ["id"]) for path in duplicates.files()]).column("id")
    return sum(
        pc.sum(pc.is_in(batch.column("id"), value_set=listed)).as_py() or 0
        for path in chosen.files()
        for batch in read_batches(path, ["id"])
    )


# ---- sections


def _choice(facts: dict[str, Any], cut: CutFile, chosen: Artifact) -> Section:
    settings = cut.settings
    budget = settings.budget
    taken, documents = facts["tokens"]["after"], facts["documents"]
    share = taken / facts["tokens"]["before"] if facts["tokens"]["before"] else 0.0
    finding = (
        f"{count(documents['after'], 'documents')} of {count(documents['before'])} were selected: {tokens(taken)}, "
        f"{percent(share)} of the tokens on offer."
    )
    finding += _of_budget(budget, taken)
    low, high = facts["score_range"]["after"]
    rows = [
        ("ranked by", f"{cut.score} ({'best in the middle' if cut.better == 'middle' else f'{cut.better} is better'})"),
        ("rule", _RULES[settings.rule]),
        (
            "drawn",
            f"temperature {settings.temperature:g}, seed {settings.seed}" if settings.temperature else "no: the best",
        ),
        ("score of what was selected", "none" if low is None else f"{low:.6g} to {high:.6g}"),
        ("score of all", _range(facts["score_range"]["before"])),
        ("tokens", f"estimated at {settings.bytes_per_token:g} bytes each" if settings.bytes_per_token else "counted"),
    ]
    if facts["evidence"]:
        rows.insert(1, ("its weights", facts["evidence"]))
    if facts["duplicates"] is not None:
        rows.append(("known duplicates among the selected", count(facts["duplicates"])))
    left_out = sorted(facts["left_out"].items(), key=lambda item: (-item[1], item[0]))
    link = f"../{chosen.name}/manifest.json"
    shown = {"finding": finding, "rows": rows, "groups": facts["groups"], "left_out": left_out, "link": link,
             "documents": documents["before"]}  # fmt: skip
    return Section("choice", "The choice", "selection_choice.html", shown)


def _of_budget(budget: int, taken: int) -> str:
    if taken > budget:
        return f" That is {count(taken - budget, 'tokens')} above the budget of {tokens(budget)}."
    if taken == budget:
        return f" That is the budget, {tokens(budget)}, to the token."
    return f" {count(budget - taken, 'tokens')} of the budget of {tokens(budget)} are left."


def _range(ends: list[float | None]) -> str:
    return "none" if ends[0] is None or ends[1] is None else f"{ends[0]:.6g} to {ends[1]:.6g}"


def _lengths(facts: dict[str, Any]) -> Section:
    before, after = (facts["length"][side] for side in _SIDES)
    if before["0.5"] is None or after["0.5"] is None:
        return Section("length", "Length", absent="There is no length to compare.")
    change = after["0.5"] / before["0.5"] - 1 if before["0.5"] else 0.0
    finding = (
        f"The median selected document has {count(after['0.5'], 'tokens')}, the median of all {count(before['0.5'])} "
        f"({signed(100 * change, 0)} %)."
    )
    rows = [(f"{100 * q:g} %", count(before[f"{q:g}"]), count(after[f"{q:g}"])) for q in QUANTILES]
    return Section(
        "length", "Length", "selection_length.html",
        {"finding": finding, "rows": rows, "figure": _length_figure(facts["length_bins"])},
    )  # fmt: skip


def _length_figure(length_bins: dict[str, dict[str, int]]) -> Markup:
    """Documents by length, as shares, in quarters of a doubling."""
    step = OCTAVE_BINS // 4
    with drawing(620, 240) as (figure, (axes,)):
        for number, side in enumerate(_SIDES):
            bins = np.array([int(name) for name in length_bins[side]], np.int64) // step
            heights = np.bincount(bins, list(length_bins[side].values()))
            first = int(bins.min())
            edges = bin_middle(np.arange(first, len(heights) + 1) * step)
            label = "all" if side == "before" else "selected"
            shares = heights[first:] / heights.sum()
            axes.stairs(shares, edges, color=SERIES[7] if number == 0 else colour(0), label=label, linewidth=1.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.set_xlabel("tokens a document")
        axes.set_ylabel("documents")
        percent_axis(axes)
        return svg(figure, "length", "Documents by length in tokens: all, and those selected, as shares.")


def _shares(facts: dict[str, Any], key: str) -> Section:
    """Shares of tokens by source or language, before and after."""
    total = facts["tokens"]
    title = key.capitalize()
    rows = []
    for number, row in enumerate(facts[key][:SHOWN]):
        share = {side: row["tokens"][side] / total[side] if total[side] else 0.0 for side in _SIDES}
        rows.append(
            {**row, "share": share, "number": number, "change": signed(100 * (share["after"] - share["before"]), 1)}
        )
    if not rows or not total["after"]:
        return Section(key, title, absent="Nothing was selected.")
    most = max(rows, key=lambda row: abs(row["share"]["after"] - row["share"]["before"]))
    ends = [percent(most["share"][side]) for side in _SIDES]
    said = f"{most['name']} goes from {ends[0]} of the tokens to {ends[1]}."
    one = f"All tokens are of one {key.removesuffix('s')}, {rows[0]['name']}."
    facts_shown = {
        "finding": one if len(facts[key]) == 1 else f"The largest change: {said}",
        "rows": rows, "what": key.removesuffix("s"), "more": max(0, len(facts[key]) - SHOWN),
    }  # fmt: skip
    return Section(key, title, "selection_shares.html", facts_shown)
