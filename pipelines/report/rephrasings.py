"""Rephrasings in the report: what came of them in a few lines, and where the whole audit is."""

from typing import Any

from corpus.artifacts import Artifact
from pipelines.report import rephrasing_gates
from pipelines.report.audit_page import PAGE, audit_folder
from pipelines.report.quantities import count, percent
from pipelines.report.rephrasing_attempts import Attempts, by_style, read_attempts
from pipelines.report.rephrasing_change import new_facts
from pipelines.report.workspace import Section, Workspace, manifest_link, table_of

NAME = "rephrased"
STYLES_SHOWN = 24


def section(workspace: Workspace) -> Section:
    """Pass rates by style, what stopped most, and a link to the audit page where there is one."""
    artifact = workspace.get(NAME)
    attempts = read_attempts(artifact) if artifact else None
    if artifact is None or attempts is None:
        return Section("rephrasings", "Rephrasings", absent="No document was rephrased in this workspace.")
    outcomes = table_of(artifact, ["style", "reason"], "outcomes")
    tried = outcomes.num_rows if outcomes is not None else int(artifact.manifest.totals.get("records_in", 0))
    page = audit_folder(workspace.root, artifact) / PAGE
    rows = [_row(attempts, style, rows) for style, rows in by_style(attempts)]
    facts = {
        "finding": rephrasing_gates.finding(attempts, rephrased_documents(artifact), tried),
        "rows": rows[:STYLES_SHOWN],
        "more": max(0, len(rows) - STYLES_SHOWN),
        "gates": [row for row in rephrasing_gates.gate_rows(attempts, attempts.counted) if row["stopped"]],
        "unsent": int((~attempts.sent).sum()),
        "generators": _generators(artifact),
        "link": manifest_link(artifact),
        "audit": page.relative_to(workspace.root).as_posix() if page.is_file() else "",
    }
    return Section("rephrasings", "Rephrasings", "rephrasings.html", facts)


def rephrased_documents(artifact: Artifact | None) -> int:
    """How many rephrased documents there are, 0 without the artifact."""
    return sum(part.rows or 0 for part in artifact.manifest.parts if "/" not in part.file) if artifact else 0


def _row(attempts: Attempts, style: str, rows: Any) -> dict[str, Any]:
    sent, kept = int(rows.sum()), int((rows & attempts.kept).sum())
    rate, _ = new_facts(attempts, rows & attempts.kept)
    return {
        "style": style, "sent": sent, "kept": kept, "passed": kept / sent,
        "new": percent(rate) if rate == rate else "–",
    }  # fmt: skip


def _generators(artifact: Artifact) -> str:
    """Who wrote: the generators that the documents name."""
    table = table_of(artifact, ["generator"])
    names = sorted({name for name in table.column("generator").to_pylist() if name}) if table is not None else []
    return (
        f"Written by {', '.join(names[:8])}{f' and {count(len(names) - 8)} more' if len(names) > 8 else ''}."
        if names
        else ""
    )
