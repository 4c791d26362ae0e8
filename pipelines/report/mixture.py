"""The mixture: for each source what was asked, what there is, what it gets, and how often it is read."""

import json
from typing import Any

from corpus.artifacts import Artifact
from pipelines.report.quantities import count, percent, tokens
from pipelines.report.workspace import Section, Workspace, manifest_link

ALLOCATION = "allocation.json"


def section(workspace: Workspace) -> Section:
    """The allocation of the artifact `mixture`."""
    artifact = workspace.get("mixture")
    allocation = _allocation(artifact)
    if artifact is None or not allocation:
        return Section("mixture", "The mixture", absent="No mixture has been allocated yet.")
    numbers = source_numbers(workspace)
    # A key that stands for no source is allowed where shares are spread; it gets no tokens, and no colour of its own.
    rows = [
        _row(row, allocation["tokens"], numbers.get(next(iter(row["sources"]), ""), 0)) for row in allocation["rows"]
    ]
    facts = {
        "rows": rows,
        "tokens": allocation["tokens"],
        "warnings": allocation["warnings"],
        "finding": _finding(rows, allocation["tokens"]),
        "link": manifest_link(artifact),
        "visits": artifact.manifest.totals.get("visits"),
    }
    return Section("mixture", "The mixture", "mixture.html", facts)


def source_numbers(workspace: Workspace) -> dict[str, int]:
    """A number for each source of the mixture, in its order; the colour of a source everywhere on the page."""
    numbers: dict[str, int] = {}
    for row in _allocation(workspace.get("mixture")).get("rows", ()):
        for source in row["sources"]:
            numbers.setdefault(source, len(numbers))
    return numbers


def _allocation(artifact: Artifact | None) -> dict[str, Any]:
    for path in artifact.files(".json") if artifact else []:
        if path.name == ALLOCATION:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return {}


def _row(row: dict[str, Any], budget: int, number: int) -> dict[str, Any]:
    given = row["tokens"] / budget if budget else 0.0
    return {
        **row,
        "number": number,
        "given_share": given,
        "epochs": row["tokens"] / row["available_tokens"] if row["available_tokens"] else 0.0,
    }


def _finding(rows: list[dict[str, Any]], budget: int) -> str:
    most = max(rows, key=lambda row: row["epochs"])
    gap = max(abs(row["given_share"] - row["asked_share"]) for row in rows)
    met = "every source gets the share it asks for"
    if gap >= 0.0005:
        met = f"given shares differ from asked ones by up to {percent(gap)}"
    text = f"Of {tokens(budget)}, {met}."
    if most["epochs"] > 1:
        held = count(most["available_tokens"])
        text += f" The most repeated source is {most['name']}: each of its {held} tokens is read"
        text += f" {most['epochs']:.2f} times on average."
    elif len(rows) > 1:
        text += f" No source is read more than once; {most['name']} is used most fully, at {percent(most['epochs'])}."
    return text
