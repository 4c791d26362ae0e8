"""Rephrasings: what the gates let through, what they stopped, and both beside their sources.

Opening shares follow the warning case of FinePhrase (arXiv 2604.13977): a model that begins many outputs with
the same words teaches those words.
"""

from collections import Counter
from typing import Any

import pyarrow as pa

from corpus.artifacts import Artifact
from corpus.keyed_random import keyed_hashes
from pipelines.report.excerpts import passage
from pipelines.report.quantities import count, percent
from pipelines.report.workspace import Section, Workspace, manifest_link, table_of
from rephrase.fidelity import words
from rephrase.gates.judging import Limits

ACCEPTED_SHOWN = 3
REJECTED_SHOWN = 5
PASSAGE_CHARACTERS = 1_100
OPENING_WORDS = 5
NOTE_ABOVE = 0.03
STOP_ABOVE = 0.10


def section(workspace: Workspace) -> Section:
    """Pass rates, openings and samples of the attempts."""
    artifact = workspace.get("rephrased")
    pieces = table_of(artifact, folder="attempts") if artifact else None
    attempts = pieces.filter(pieces.column("chunk_index").is_valid()) if pieces is not None else None
    if artifact is None or pieces is None or attempts is None or not attempts.num_rows:
        return Section("rephrasings", "Rephrasings", absent="No document was rephrased in this workspace.")
    reasons = attempts.column("reason").to_pylist()
    rows = artifact.files()
    documents = table_of(artifact, ["id", "style", "generator"]) if rows else None
    facts = {
        "finding": _finding(reasons, documents, artifact.manifest.totals.get("records_in")),
        "unsent": pieces.num_rows - attempts.num_rows,
        "gates": _gates(reasons),
        "openings": _openings(attempts),
        "accepted": _samples(attempts, kept=True),
        "rejected": _samples(attempts, kept=False),
        "lengths": _lengths(attempts),
        "generators": _generators(documents),
        "link": manifest_link(artifact),
    }
    return Section("rephrasings", "Rephrasings", "rephrasings.html", facts)


def gate_values(row: dict[str, Any]) -> dict[str, float]:
    """The gate values of an attempt, in the order the gates are tried; gates with nothing to measure are left out."""
    found = {gate["key"]: gate["value"] for gate in row["gates"] or ()}
    return {gate: float(found[gate]) for gate in Limits.model_fields if found.get(gate) is not None}


def _finding(reasons: list[str | None], documents: pa.Table | None, tried: int | None) -> str:
    kept = reasons.count(None)
    made = documents.num_rows if documents is not None else 0
    text = f"{count(kept)} of {count(len(reasons), 'attempts')} passed every gate ({percent(kept / len(reasons))})"
    text += f", which made {count(made, 'rephrased documents')}" + (f" of {count(tried)} tried." if tried else ".")
    worst = Counter(reason for reason in reasons if reason is not None).most_common()
    if worst:
        reason, number = min(worst, key=lambda item: (-item[1], item[0]))
        text += f" The gate that stopped most is “{reason}”: {count(number, 'attempts')}."
    return text


def _gates(reasons: list[str | None]) -> list[dict[str, Any]]:
    """For each gate that was reached: how many attempts it saw, how many it stopped, in the order of the gates."""
    stopped = Counter(reason for reason in reasons if reason is not None)
    rows, left = [], len(reasons)
    for gate, field in Limits.model_fields.items():
        if not left:
            break
        rows.append(
            {
                "gate": gate,
                "about": field.description,
                "tried": left,
                "stopped": stopped[gate],
                "passed": 1 - stopped[gate] / left,
            }
        )
        left -= stopped[gate]
    return rows


def _openings(attempts: pa.Table) -> dict[str, Any] | None:
    """How often the most common first five words open an accepted output, beside the same for the sources."""
    accepted = attempts.filter(attempts.column("reason").is_null())
    if not accepted.num_rows:
        return None
    outputs, sources = (
        [" ".join(words(text or "")[:OPENING_WORDS]) for text in accepted.column(name).to_pylist()]
        for name in ("output_text", "source_text")
    )
    (opening, most), distinct = _commonest(outputs), len(set(outputs))
    share = most / len(outputs)
    # One output is the least an opening can have; below 1 / NOTE_ABOVE outputs its share says nothing.
    few = len(outputs) < 1 / NOTE_ABOVE
    level = "few" if few else "stop" if share > STOP_ABOVE else "note" if share > NOTE_ABOVE else "fine"
    return {
        "opening": opening,
        "most": most,
        "outputs": len(outputs),
        "share": percent(share),
        "distinct": distinct,
        "source_share": percent(_commonest(sources)[1] / len(sources)),
        "level": level,
    }


def _commonest(openings: list[str]) -> tuple[str, int]:
    return min(Counter(openings).items(), key=lambda item: (-item[1], item[0]))


def _samples(attempts: pa.Table, *, kept: bool) -> list[dict[str, Any]]:
    """Attempts drawn by the hash of their document's id; rejected ones show as many different reasons as fit."""
    reasons = attempts.column("reason").to_pylist()
    parents = attempts.column("parent_id").to_pylist()
    rows = [i for i, reason in enumerate(reasons) if (reason is None) == kept]
    hashes = keyed_hashes(0, [parents[i] for i in rows])
    drawn = [rows[i] for i in sorted(range(len(rows)), key=lambda i: (hashes[i], rows[i]))]
    seen: Counter[str | None] = Counter()
    turns = []
    for row in drawn:
        turns.append((seen[reasons[row]], row))
        seen[reasons[row]] += 1
    chosen = [row for _, row in sorted(turns, key=lambda turn: turn[0])][: ACCEPTED_SHOWN if kept else REJECTED_SHOWN]
    return [_sample(attempts.slice(row, 1).to_pylist()[0]) for row in chosen]


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "reason": row["reason"],
        "source": passage(row["source_text"], PASSAGE_CHARACTERS),
        "output": passage(row["output_text"], PASSAGE_CHARACTERS),
        "gates": [(gate, f"{value:.3g}", gate == row["reason"]) for gate, value in gate_values(row).items()],
        "n_in": count(row["n_in"], "tokens") if row.get("n_in") is not None else "",
        "n_out": count(row["n_out"], "tokens") if row.get("n_out") is not None else "",
    }


def _lengths(attempts: pa.Table) -> str:
    n_in, n_out = (sum(value or 0 for value in attempts.column(name).to_pylist()) for name in ("n_in", "n_out"))
    return f"The model read {count(n_in)} and wrote {count(n_out)} of its own tokens."


def _generators(documents: pa.Table | None) -> list[str]:
    if documents is None:
        return []
    pairs = zip(documents.column("style").to_pylist(), documents.column("generator").to_pylist(), strict=True)
    return sorted({f"style {style}, written by {generator}" for style, generator in pairs})


def rephrased_documents(artifact: Artifact | None) -> int:
    """How many rephrased documents there are, 0 without the artifact."""
    return sum(part.rows or 0 for part in artifact.manifest.parts if "/" not in part.file) if artifact else 0
