"""Outputs to read beside their sources: drawn blindly, the worst that still passed, and rejected ones by reason.

A draw goes by the hash of the document's id, so samples are not picked to please. The worst are those nearest to
something that gates cannot decide: most new facts, most copied, least alike, longest.
"""

from collections import Counter
from typing import Any

import numpy as np

from pipelines.report.excerpts import passage
from pipelines.report.quantities import count
from pipelines.report.rephrasing_attempts import Attempts, Marks, Rows, by_style
from pipelines.report.word_diff import Piece, word_diff
from pipelines.report.workspace import Section
from rephrase.fidelity import Profile
from rephrase.gates.facts import new_fact_words

PASSAGE_CHARACTERS = 1_100
PAIRS_SHOWN = 100  # bounds the page, whatever the number of styles
_PER_STYLE = {"random": 3, "worst": 4, "rejected": 5}
_WORST = (
    ("facts", 1, "the largest share of new facts"),
    ("copy_8", -1, "the most copied"),
    ("drift", 1, "the fewest words shared with its source"),
    ("length", -1, "the longest beside its source"),
    ("length", 1, "the shortest beside its source"),
    ("loops", -1, "the most repetitive"),
    ("meaning", 1, "the farthest from its source in meaning"),
)


def section(attempts: Attempts) -> Section:
    """Samples of every style, fewer of each where there are many styles."""
    found = [(style, _chosen(attempts, rows)) for style, rows in by_style(attempts)]
    share = min(1.0, PAIRS_SHOWN / max(1, sum(len(rows) for _, groups in found for rows in groups.values())))
    for _, groups in found:
        for kind, rows in groups.items():
            groups[kind] = rows[: max(1, int(share * _PER_STYLE[kind]))]
    shown = found[: PAIRS_SHOWN // len(_PER_STYLE)]
    texts = attempts.texts(row for _, groups in shown for rows in groups.values() for row, _ in rows)
    styles = [
        {
            "style": style,
            **{kind: [_pair(attempts, row, why, *texts[row]) for row, why in rows] for kind, rows in groups.items()},
        }
        for style, groups in shown
    ]
    return Section(
        "samples", "Sources and outputs", "rephrasing_samples.html", {"styles": styles, "more": len(found) - len(shown)}
    )


def _chosen(attempts: Attempts, rows: Marks) -> dict[str, list[tuple[int, str]]]:
    kept = rows & attempts.kept
    random = attempts.drawn(kept, _PER_STYLE["random"])
    return {
        "random": [(int(row), "") for row in random],
        "worst": _worst(attempts, np.setdiff1d(np.flatnonzero(kept), random)),
        "rejected": _rejected(attempts, rows & ~attempts.kept & ~attempts.unanswered),
    }


def _worst(attempts: Attempts, rows: Rows) -> list[tuple[int, str]]:
    """For each criterion the worst of those rows that no earlier criterion took."""
    found: dict[int, str] = {}
    for gate, sign, why in _WORST:
        left = np.array(
            [row for row in rows if row not in found and np.isfinite(_value(attempts, gate, row))], dtype=int
        )
        if len(left):
            worst = left[np.lexsort((attempts.draws[left], sign * attempts.gates[gate][left]))[0]]
            found[int(worst)] = f"{why} ({gate} {attempts.gates[gate][worst]:.3g})"
    return list(found.items())[: _PER_STYLE["worst"]]


def _rejected(attempts: Attempts, rows: Marks) -> list[tuple[int, str]]:
    """Rejected rows in their drawn order, as many different reasons first as there are."""
    seen: Counter[str] = Counter()
    turns = []
    for row in attempts.drawn(rows, int(rows.sum())):
        reason = str(attempts.reasons[row])
        turns.append((seen[reason], int(row), reason))
        seen[reason] += 1
    return [(row, f"stopped by “{reason}”") for _, row, reason in sorted(turns, key=lambda turn: turn[0])][
        : _PER_STYLE["rejected"]
    ]


def _value(attempts: Attempts, gate: str, row: int) -> float:
    return float(attempts.gates[gate][row]) if gate in attempts.gates else float("nan")


def _pair(attempts: Attempts, row: int, why: str, source: str, output: str) -> dict[str, Any]:
    new = new_fact_words(Profile(output), Profile(source))  # of the whole texts: what is shown may be cut
    left, right = word_diff(passage(source, PASSAGE_CHARACTERS), passage(output, PASSAGE_CHARACTERS), new)
    values = [(gate, _value(attempts, gate, row)) for gate in attempts.gates]
    return {
        "why": why,
        "document": str(attempts.parents[row])[:12],
        "source": left,
        "output": right or [Piece("(empty)", "")],
        "gates": [
            (gate, f"{value:.3g}", gate == attempts.reasons[row]) for gate, value in values if np.isfinite(value)
        ],
        "n_in": count(int(attempts.n_in[row]), "tokens"),
        "n_out": count(int(attempts.n_out[row]), "tokens"),
        "again": int(attempts.numbers[row]),
    }
