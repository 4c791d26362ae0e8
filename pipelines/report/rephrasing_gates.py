"""What the gates let through: attempts seen and stopped by each gate, by style, with retries and missing answers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.report.quantities import count, listed, percent
from pipelines.report.rephrasing_attempts import GATES, UNANSWERED, Attempts, Marks, by_style, in_order
from pipelines.report.workspace import Section
from rephrase.gates.limits import Limits

_WHY_NOT = {
    "server_error": "the server failed for this request alone",
    "timeout": "no answer in time",
    "bad_answer": "an answer that could not be read",
    "poison": "the engine died each time it worked on it",
}


def section(attempts: Attempts, outcomes: pa.Table | None, links: Sequence[tuple[str, str]] = ()) -> Section:
    """The funnel of each style, and the gates of all styles together and of each. `links`: names and addresses."""
    styles = by_style(attempts)
    tables = [{"name": "", "rows": gate_rows(attempts, attempts.counted)}]
    if len(styles) > 1:
        tables += [{"name": style, "rows": gate_rows(attempts, rows)} for style, rows in styles]
    facts = {
        "styles": [_funnel(attempts, style, rows, outcomes) for style, rows in styles],
        "tables": tables,
        "retries": _retries(attempts),
        "unanswered": _reasons(attempts.reasons[attempts.unanswered], _WHY_NOT),
        "unsent": _reasons(attempts.reasons[~attempts.sent]),
        "lost": _lost(outcomes),
        "links": links,
    }
    return Section("gates", "What the gates let through", "rephrasing_gates.html", facts)


def gate_rows(attempts: Attempts, rows: Marks) -> list[dict[str, Any]]:
    """For each gate that was reached: how many attempts it saw, how many it stopped, in the order of the gates.

    What nobody answered reached no gate. A gate that measured nothing says so: it let everything through unseen.
    """
    stopped = Counter(str(reason) for reason in attempts.reasons[rows & ~attempts.unanswered] if reason)
    left = int((rows & ~attempts.unanswered).sum())
    found = []
    for gate in [*GATES, *in_order(set(stopped) - set(GATES))]:
        if not left:
            break
        measured = gate not in GATES or bool(
            np.isfinite(attempts.gates[gate][rows]).any() if gate in attempts.gates else 0
        )
        found.append(
            {
                "gate": gate,
                "about": Limits.model_fields[gate].description
                if gate in GATES
                else "not one of the gates of this version",
                "tried": left,
                "stopped": stopped[gate],
                "passed": 1 - stopped[gate] / left,
                "measured": measured or bool(stopped[gate]),
            }
        )
        left -= stopped[gate]
    return found


def finding(attempts: Attempts, made: int, tried: int) -> str:
    """One sentence: how many chunks passed, what they became, and the gate that stopped most."""
    counted, kept = int(attempts.counted.sum()), int(attempts.kept.sum())
    if not counted:
        return "No attempt counts: whatever was sent, a later step or try was to replace it."
    text = f"{count(kept)} of {count(counted, 'chunks')} passed every gate ({percent(kept / counted)})"
    text += f", which made {count(made, 'rephrased documents')} of {count(tried)} tried."
    stopped = Counter(str(reason) for reason in attempts.reasons[attempts.counted & ~attempts.unanswered] if reason)
    if stopped:
        reason, number = min(stopped.items(), key=lambda item: (-item[1], item[0]))
        text += f" The gate that stopped most is “{reason}”: {count(number, 'chunks')}."
    missing = int(attempts.unanswered.sum())
    if missing:
        text += f" {count(missing)} got no answer."
    return text


def _funnel(attempts: Attempts, style: str, rows: Marks, outcomes: pa.Table | None) -> dict[str, Any]:
    sent, kept = int(rows.sum()), int((rows & attempts.kept).sum())
    missing = int((rows & attempts.unanswered).sum())
    parts = (("kept", kept), ("held-out", missing), ("dropped", sent - kept - missing))
    documents = [reason for name, reason in _outcomes(outcomes) if name == style]
    return {
        "style": style, "sent": sent, "kept": kept, "unanswered": missing, "stopped": sent - kept - missing,
        "documents": len(documents), "documents_kept": documents.count(None),
        "bars": [{"kind": kind, "width": round(100 * n / sent, 3)} for kind, n in parts if n],
    }  # fmt: skip


def _outcomes(outcomes: pa.Table | None) -> Sequence[tuple[str, str | None]]:
    if outcomes is None:
        return []
    return list(zip(outcomes.column("style").to_pylist(), outcomes.column("reason").to_pylist(), strict=True))


def _retries(attempts: Attempts) -> str:
    """How many chunks were asked for again, why, and what came of it; empty when none was."""
    again = attempts.counted & (attempts.numbers > 0)
    if not again.any():
        return ""
    first = Counter(str(reason) for reason in attempts.reasons[attempts.sent & attempts.superseded & attempts.final])
    passed = int((again & attempts.kept).sum())
    why = listed([f"“{reason}” ({count(first[reason])})" for reason in in_order(first)])
    n = int(again.sum())
    asked = (
        f"{count(n, 'chunks')} {'was' if n == 1 else 'were'} asked for again; {count(passed)} of them passed in the end"
    )
    return f"{asked}. Tries that were repeated failed at {why}."


def _reasons(reasons: Any, about: dict[str, str] | None = None) -> list[tuple[str, int, str]]:
    counts = Counter(str(reason) for reason in reasons)
    return [
        (reason, n, (about or {}).get(reason, "")) for reason, n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))
    ]


def _lost(outcomes: pa.Table | None) -> list[tuple[str, int, str]]:
    return _reasons([reason for _, reason in _outcomes(outcomes) if reason is not None])


def unmeasured(attempts: Attempts) -> list[str]:
    """Gates without any value: nothing measured them, so they let everything through."""
    return [gate for gate in GATES if gate not in attempts.gates]


assert set(_WHY_NOT) == set(UNANSWERED)
