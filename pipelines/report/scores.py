"""Scores: the distribution of each, what the composite makes of them, and documents from its bottom to its top."""

import json
import re
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from corpus.artifacts import Artifact
from corpus.keyed_random import keyed_hashes
from corpus.rank_correlation import spearman
from corpus.scores import Score
from pipelines.report.excerpts import excerpt, web_link
from pipelines.report.figure import INK, colour, drawing, short_count, svg
from pipelines.report.quantities import count, percent, signed
from pipelines.report.workspace import (
    COMPOSITE,
    SCORED_DOCUMENTS,
    Section,
    Workspace,
    definitions,
    manifest_link,
    rows_by_id,
    score_values,
    table_of,
)
from raters.composite import read_composite

BINS = 40
SERIES = 5  # arms have the first colours, so scores take a later one
DECILES = 10
EXAMPLES = 3
EXCERPT_CHARACTERS = 220
EVALUATION = "evaluation.json"
GRADED_EVALUATION = "graded_evaluation.json"
WORDS = 12
SCORES_SHOWN = 40
_ARROWS = {"high": "higher is better", "low": "lower is better", "middle": "best in the middle"}


def section(workspace: Workspace) -> Section:
    """Histograms, weights and examples of every artifact `scores/...`."""
    sidecars = [artifact for artifact in workspace.below("scores") if artifact.name != COMPOSITE]
    composite = workspace.get(COMPOSITE)
    if not sidecars and composite is None:
        return Section("scores", "Scores", absent="No document has been scored yet.")
    columns = [(score, score_values(artifact, score.name)) for artifact in sidecars for score in definitions(artifact)]
    whole = score_values(composite, "composite") if composite else np.zeros(0)
    facts: dict[str, Any] = {
        "histograms": [_histogram(score, values) for score, values in columns[:SCORES_SHOWN]],
        "more": max(0, len(columns) - SCORES_SHOWN),
        "links": [(artifact.name, manifest_link(artifact)) for artifact in workspace.below("scores")],
        "composite": None,
        "classifiers": _classifiers(workspace),
        "graded": _graded(workspace),
    }
    if composite is not None and np.isfinite(whole).any():
        weights = _weights(workspace, columns, whole)
        facts["composite"] = {
            "histogram": _histogram(definitions(composite)[0], whole, width=400, height=210),
            "finding": _finding(whole, weights),
            "weights": weights,
            "deciles": _deciles(workspace, composite),
        }
    return Section("scores", "Scores", "scores.html", facts)


def short_name(score: str) -> str:
    """A score's name to read: RedPajama's prefixes and the underscores are left out."""
    return re.sub(r"^rps_(doc|lines)_", "", score).replace("_", " ")


def _histogram(score: Score, values: np.ndarray, width: int = 250, height: int = 120) -> dict[str, Any]:
    """One small histogram; the far tail of an open scale is cut off and said to be."""
    finite = values[np.isfinite(values)]
    facts = {
        "name": score.name,
        "short": short_name(score.name),
        "description": score.description,
        "better": _ARROWS[score.better],
        "missing": len(values) - len(finite),
        "beyond": 0,
        "svg": Markup(""),
        "median": "",
    }
    if not len(finite):
        return facts
    low = float(finite.min()) if score.low is None else min(score.low, float(finite.min()))
    high = float(finite.max()) if score.high is None else score.high
    if score.high is None and len(finite) > 20:
        high = float(np.quantile(finite, 0.98))
    high = high if high > low else low + 1
    inside = finite[finite <= high]
    heights, edges = np.histogram(inside, bins=BINS, range=(low, high))
    median = float(np.median(finite))
    name = "".join(character for character in score.name if character.isalnum())
    with drawing(width, height, left=36, right=10, top=6, bottom=22) as (figure, (axes,)):
        axes.stairs(heights, edges, fill=True, color=colour(SERIES), linewidth=0)
        axes.axvline(median, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        label = f"Histogram of {score.name}: median {median:.3g} over {count(len(finite), 'documents')}."
        drawn = svg(figure, f"score-{name}", label)
    return {**facts, "svg": drawn, "median": f"{median:.3g}", "beyond": len(finite) - len(inside)}


def _weights(
    workspace: Workspace, columns: list[tuple[Score, np.ndarray]], composite: np.ndarray
) -> list[dict[str, Any]]:
    """For each score: its weight, its effective weight (weight x spread), its rank correlation with the composite."""
    rater = workspace.get("raters/composite")
    files = rater.files(".json") if rater else []
    parts = {part.name: part for part in read_composite(files[0]).components} if files else {}
    rows: list[dict[str, Any]] = []
    for score, values in columns:
        both = np.isfinite(values) & np.isfinite(composite) if len(values) == len(composite) else np.zeros(0, bool)
        rho = spearman(composite[both], values[both]) if both.any() else None
        part = parts.get(score.name)
        rows.append(
            {
                "name": score.name,
                "short": short_name(score.name),
                "better": _ARROWS[score.better],
                "weight": percent(part.weight) if part else "",
                "effective": percent(part.effective) if part else "",
                "share": part.effective if part else 0.0,
                "rho": rho,
                "shown": "none" if rho is None else signed(rho),
            }
        )
    rows.sort(key=lambda row: (-row["share"], -abs(row["rho"] or 0.0), row["name"]))
    largest = max((row["share"] for row in rows), default=0.0)
    return [{**row, "bar": round(100 * row["share"] / largest, 2) if largest else 0.0} for row in rows[:SCORES_SHOWN]]


def _classifiers(workspace: Workspace) -> list[dict[str, Any]]:
    """What is known of each trained classifier, from texts it was not trained on."""
    found = []
    for artifact in workspace.below("raters"):
        for path in artifact.files(".json"):
            if path.name == EVALUATION:
                facts = json.loads(path.read_text(encoding="utf-8"))
                for key in ("words_for", "words_against"):
                    facts[key] = [excerpt(word, 24) for word in facts[key][:WORDS]]
                found.append({**facts, "name": artifact.name, "link": manifest_link(artifact)})
    return found


def _graded(workspace: Workspace) -> list[dict[str, Any]]:
    """What is known of each trained model of levels, beside what the word count predicts."""
    found = []
    for artifact in workspace.below("raters"):
        for path in artifact.files(".json"):
            if path.name == GRADED_EVALUATION:
                facts = json.loads(path.read_text(encoding="utf-8"))
                for key in ("words_up", "words_down"):
                    facts[key] = [excerpt(word, 24) for word in facts[key][:WORDS]]
                found.append({**facts, "name": artifact.name, "link": manifest_link(artifact)})
    return found


def _finding(composite: np.ndarray, weights: list[dict[str, Any]]) -> str:
    finite = composite[np.isfinite(composite)]
    low, high = np.quantile(finite, [0.1, 0.9])
    documents = count(len(finite), "documents")
    text = f"The middle 80 % of {documents} lie between {low:.2f} and {high:.2f} on the composite."
    leading = sorted((row for row in weights if row["rho"] is not None), key=lambda row: -abs(row["rho"]))[:2]
    if leading:
        said = " and ".join(f"{row['short']} (rank correlation {signed(row['rho'])})" for row in leading)
        text += f" It moves most with {said}."
    missing = len(composite) - len(finite)
    if missing:
        text += f" {count(missing, 'documents')} ({percent(missing / len(composite))}) have no composite."
    return text


def _deciles(workspace: Workspace, composite: Artifact) -> list[dict[str, Any]]:
    """Documents drawn by the hash of their ids from each tenth of the composite, lowest first."""
    documents = workspace.get(SCORED_DOCUMENTS)
    table = table_of(composite, ["id", "composite"])
    if documents is None or table is None:
        return []
    ids = np.array(table.column("id").to_pylist(), dtype=object)
    values = table.column("composite").to_numpy().astype(np.float64)
    scored = np.flatnonzero(np.isfinite(values))
    hashes = keyed_hashes(0, ids[scored])
    ranked = scored[np.lexsort((hashes, values[scored]))]
    chosen = []
    for rows in np.array_split(ranked, DECILES):
        turn = np.argsort(keyed_hashes(0, ids[rows]), kind="stable")[:EXAMPLES]
        chosen.append(sorted(rows[turn].tolist(), key=lambda row: values[row]))
    texts = rows_by_id(documents, {str(ids[row]) for rows in chosen for row in rows}, ["url", "source", "text"])
    return [
        {"number": i + 1, "documents": [_example(texts[ids[row]], values[row]) for row in rows if ids[row] in texts]}
        for i, rows in enumerate(chosen)
    ]


def _example(row: dict[str, Any], score: float) -> dict[str, Any]:
    return {
        "score": f"{score:.3f}",
        "url": web_link(row["url"]),
        "source": row["source"],
        "text": excerpt(row["text"], EXCERPT_CHARACTERS),
    }
