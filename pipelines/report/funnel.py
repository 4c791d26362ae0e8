"""The funnel: how many records went into each stage, how many came out, and why each of the others did not.

It must add up, and the section says whether it does: in = kept + dropped for each stage, and what one stage
keeps is what the next one takes in. Faults of the input are listed with file and offset.
"""

from itertools import pairwise
from typing import Any

from corpus.artifacts import Artifact
from corpus.shards import read_batches
from pipelines.report.excerpts import excerpt, web_link
from pipelines.report.quantities import count, listed, percent
from pipelines.report.workspace import Section, Workspace, json_lines, manifest_link

STAGES = (
    ("documents", "Read and extract"),
    ("filtered", "Quality filters"),
    ("clean", "Duplicates and held-out documents"),
)
HELD_OUT = "held out"
PROBLEMS_SHOWN = 25
REASONS_SHOWN = 40
EXAMPLES = 2


def section(workspace: Workspace) -> Section:
    """The funnel over the stages that are finished."""
    made = [(artifact, label) for name, label in STAGES if (artifact := workspace.get(name)) is not None]
    if not made:
        return Section("funnel", "The funnel", absent="No document artifact is finished yet.")
    stages = [_stage(artifact, label) for artifact, label in made]
    first = stages[0]["records_in"]
    for stage in stages:
        stage["bars"] = _bars(stage, first)
    facts = {
        "stages": stages,
        "finding": _finding(stages),
        "faults": _faults(stages),
        "first": first,
        "last": stages[-1]["kept"],
        "problems": _problems(made[0][0]),
        "held_out": sum(stage["held_out"] for stage in stages),
    }
    return Section("funnel", "The funnel", "funnel.html", facts)


def _stage(artifact: Artifact, label: str) -> dict[str, Any]:
    totals = artifact.manifest.totals
    dropped = sorted(totals["dropped"].items(), key=lambda item: (-item[1], item[0]))
    examples = _examples(artifact, {reason for reason, _ in dropped[:REASONS_SHOWN]})
    reasons = [
        {
            "reason": reason,
            "records": number,
            "share": number / totals["records_in"],
            "examples": examples.get(reason, []),
            "kept_aside": reason == HELD_OUT,
        }
        for reason, number in dropped[:REASONS_SHOWN]
    ]
    return {
        "name": artifact.name,
        "label": label,
        "link": manifest_link(artifact),
        "records_in": totals["records_in"],
        "kept": totals["kept"],
        "dropped": sum(number for _, number in dropped),
        "held_out": totals["dropped"].get(HELD_OUT, 0),
        "reasons": reasons,
        "more_reasons": len(dropped) - len(reasons),
    }


def _bars(stage: dict[str, Any], first: int) -> list[dict[str, Any]]:
    """Widths of kept, held out and dropped, in per cent of the records that went into the first stage."""
    lost = stage["dropped"] - stage["held_out"]
    parts = (("kept", stage["kept"]), ("held out", stage["held_out"]), ("dropped", lost))
    return [{"kind": kind, "records": n, "width": round(100 * n / first, 3)} for kind, n in parts if n and first]


def _finding(stages: list[dict[str, Any]]) -> str:
    first, last = stages[0]["records_in"], stages[-1]["kept"]
    causes: dict[str, int] = {}
    for stage in stages:
        for row in stage["reasons"]:
            if not row["kept_aside"]:
                causes[row["reason"]] = causes.get(row["reason"], 0) + row["records"]
    top = sorted(causes.items(), key=lambda item: (-item[1], item[0]))[:3]
    sentence = f"{count(last)} of {count(first, 'records')} reached training ({percent(last / first if first else 0)})."
    if not top:
        return f"{sentence} Nothing was dropped."
    return f"{sentence} The most common reasons to drop one: {listed([f'{reason} ({count(n)})' for reason, n in top])}."


def _faults(stages: list[dict[str, Any]]) -> list[str]:
    """Sentences about sums that do not agree; empty when the funnel adds up."""
    faults = []
    for stage in stages:
        if stage["records_in"] != stage["kept"] + stage["dropped"]:
            given, out = stage["records_in"], stage["kept"] + stage["dropped"]
            faults.append(f"{stage['name']}: {count(given)} in, {count(out)} kept or dropped.")
    for before, after in pairwise(stages):
        if before["kept"] != after["records_in"]:
            kept, taken = count(before["kept"]), count(after["records_in"])
            faults.append(f"{before['name']} kept {kept}, {after['name']} took {taken}.")
    return faults


def _examples(artifact: Artifact, reasons: set[str]) -> dict[str, list[dict[str, Any]]]:
    """The first dropped documents of each reason, in shard order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in artifact.files(folder="dropped"):
        for batch in read_batches(path, ["reason", "url", "excerpt"]):
            for row in batch.to_pylist():
                rows = found.setdefault(row["reason"], [])
                if row["reason"] in reasons and len(rows) < EXAMPLES:
                    rows.append({"url": web_link(row["url"]), "text": excerpt(row["excerpt"], 160)})
    return found


def _problems(documents: Artifact) -> dict[str, Any]:
    lines = [line for path in documents.files(".jsonl", "problems") for line in json_lines(path)]
    kinds = documents.manifest.totals.get("problems", {})
    shown = [
        {
            "kind": line["kind"],
            "file": line["file"],
            "offset": "" if line["offset"] is None else count(line["offset"]),
            "detail": excerpt(line["detail"], 160),
        }
        for line in lines[:PROBLEMS_SHOWN]
    ]
    total = sum(kinds.values())
    return {"kinds": sorted(kinds.items()), "total": total, "rows": shown, "more": total - len(shown)}
