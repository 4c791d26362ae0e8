"""The page of `gradatim weigh`: what was learned, how sure that is, and every run behind it.

It claims what the intervals allow. The measured comparison (learned, equal, random, seed by seed) comes first, the
regression that chose the weights after it.

Run it:  gradatim weigh documents -w rated    writes rated/weigh/report.html
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from corpus.artifacts import Artifact
from corpus.events import EVENTS
from corpus.shards import read_table, write_text
from mixtures.learned_shares import LearnedShares, ShareEstimate
from mixtures.share_evidence import Interval
from pipelines.paired import Gain, Losses
from pipelines.proxies import results_of
from pipelines.report import making
from pipelines.report.figure import INK, MUTED, RULE, colour, drawing, percent_axis, svg
from pipelines.report.page import page
from pipelines.report.quantities import count, percent, seconds, signed, tokens
from pipelines.report.scores import short_name
from pipelines.report.workspace import Section, Workspace, json_lines
from pipelines.weigh.weighing import read_confirmation, read_learned

FOLDER = "weigh"
LEAD = (
    "Small models were trained on what different weightings of the scores select, and their losses were regressed on "
    "the weights. The weighting found that way was then trained beside equal weights and beside random documents."
)
KINDS = ("random", "uniform", "dirichlet", "vertex", "learned")
SAID = {"random": "random documents", "uniform": "equal weights", "learned": "learned weights",
        "dirichlet": "random weights", "vertex": "one score alone"}  # fmt: skip


def write_weights_page(root: Path) -> Path:
    """Write `weigh/report.html` in a workspace, atomically, and return its path."""
    workspace = Workspace(root)
    learned = read_learned(_artifact(workspace, "learned"))
    sections = [
        _comparison(workspace),
        _weights(learned),
        _regression(learned),
        _runs(workspace),
        _selections(workspace),
        _cost(workspace),
    ]
    footer = making.footer(workspace)
    text = page("The weights of the scores", sections, kicker="Learned weights", lead=LEAD, footer=footer)
    write_text(root / FOLDER / "report.html", text)
    return root / FOLDER / "report.html"


def _artifact(workspace: Workspace, name: str) -> Artifact:
    return Artifact(workspace.root / FOLDER / name)


def _comparison(workspace: Workspace) -> Section:
    found = read_confirmation(_artifact(workspace, "weights"))
    rows = [("learned", found.learned), ("uniform", found.equal), ("random", found.random)]
    gains = [
        ("learned weights over equal ones", found.over_equal),
        ("learned weights over random documents", found.over_random),
        ("equal weights over random documents", found.equal_over_random),
    ]
    facts = {
        "verdict": found.verdict,
        "losses": [{"name": SAID[kind], "n": item.n, "loss": _loss(item), "sd": _sd(item)} for kind, item in rows],
        "gains": [{"name": name, "shown": _gain(item), "real": item.real} for name, item in gains],
    }
    return Section("comparison", "What the weights are worth", "weights_comparison.html", facts)


def _loss(item: Losses) -> str:
    return "not run" if item.mean is None else f"{item.mean:.4f}"


def _sd(item: Losses) -> str:
    return "" if item.sd is None else f"{item.sd:.4f}"


def _gain(item: Gain) -> str:
    if item.mean is None:
        return "not run"
    if item.low is None or item.high is None:
        return f"{signed(item.mean, 4)} (one pair)"
    return f"{signed(item.mean, 4)} ({signed(item.low, 4)} to {signed(item.high, 4)}, {item.pairs} pairs)"


def _weights(learned: LearnedShares) -> Section:
    order = sorted(learned.shares, key=lambda one: -one.share)
    rows = [
        {
            "name": one.name, "short": short_name(one.name), "weight": percent(one.share),
            "interval": f"{percent(one.low)} to {percent(one.high)}", "statement": one.statement,
        }
        for one in order
    ]  # fmt: skip
    facts = {
        "rows": rows, "equal": percent(learned.equal), "n": len(rows), "n_effective": f"{learned.n_effective:.1f}",
        "of_best": f"{learned.n_effective_of_best:.1f}", "figure": _interval_figure(order, learned.equal),
        "verdict": learned.verdict, "warnings": learned.warnings,
    }  # fmt: skip
    return Section("weights", "The weights", "weights_table.html", facts)


def _interval_figure(order: Sequence[ShareEstimate], equal: float) -> Markup:
    with drawing(560, 60 + 20 * len(order), left=220) as (figure, (axes,)):
        y = np.arange(len(order))[::-1]
        axes.hlines(y, [one.low for one in order], [one.high for one in order], color=colour(0), linewidth=2)
        axes.plot([one.share for one in order], y, "o", color=colour(0), markersize=5)
        axes.axvline(equal, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_yticks(y, [short_name(one.name)[:30] for one in order])
        axes.grid(axis="x", color=RULE)
        axes.grid(axis="y", visible=False)
        percent_axis(axes, which="x")
        axes.set_xlim(left=0)
        return svg(figure, "weights", "Weights of the scores with their intervals; the dashed line is equal weights")


def _regression(learned: LearnedShares) -> Section:
    noise = learned.repeat_noise
    facts = {
        "chosen": learned.regressor.replace("_", " "),
        "candidates": [
            {
                "name": item.name.replace("_", " "), "refused": item.refused, "error": percent(item.error),
                "spearman": "" if item.spearman is None else f"{item.spearman:.3f}",
            }
            for item in learned.candidates
        ],
        "held_out": _interval(learned.held_out, 2), "gain": _interval(learned.gain, 4),
        "predicted": signed(learned.predicted_gain, 4), "spread": f"{learned.loss_spread:.4f}",
        "noise": "were not trained often enough to tell" if noise is None else f"spread by {noise:.4f}",
        "vectors": learned.vectors,
    }  # fmt: skip
    return Section("regression", "From weights to losses", "weights_regression.html", facts)


def _interval(found: Interval, digits: int) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "not defined"
    return f"{signed(found.value, digits)} ({signed(found.low, digits)} to {signed(found.high, digits)})"


def _runs(workspace: Workspace) -> Section:
    table = read_table(_artifact(workspace, "weights").folder / "runs.parquet").to_pylist()
    finished = [row for row in table if row["status"] == "finished"]
    failed = [row for row in table if row["status"] != "finished"]
    with drawing(680, 240, left=150) as (figure, (axes,)):
        present = [kind for kind in KINDS if any(row["kind"] == kind for row in finished)]
        for y, kind in enumerate(present):
            values = [row["target"] for row in finished if row["kind"] == kind]
            axes.plot(values, np.full(len(values), y), "o", color=colour(KINDS.index(kind)), markersize=6, alpha=0.75)
            axes.plot(np.mean(values), y, "|", color=INK, markersize=18, markeredgewidth=2)
        axes.set_yticks(range(len(present)), [SAID[kind] for kind in present])
        axes.set_ylim(-0.6, len(present) - 0.4)
        axes.grid(axis="x", color=RULE)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("target loss, bits per byte; left is better; the bar is the mean")
        drawn = svg(figure, "runs", "Target loss of every run, by kind")
    sources = sorted(key.removeprefix("loss_") for key in (finished or table)[0] if key.startswith("loss_"))
    facts = {
        "figure": drawn, "n": len(table), "failed": failed, "sources": sources,
        "means": [
            {"name": SAID[kind], "n": len(rows), "losses": [_mean(rows, f"loss_{source}") for source in sources]}
            for kind in KINDS if (rows := [row for row in finished if row["kind"] == kind])
        ],
    }  # fmt: skip
    return Section("runs", "Every run", "weights_runs.html", facts)


def _mean(rows: Sequence[dict[str, Any]], column: str) -> str:
    return f"{np.mean([row[column] for row in rows]):.4f}"


def _selections(workspace: Workspace) -> Section:
    results = {**results_of(_artifact(workspace, "runs")), **results_of(_artifact(workspace, "confirmed"))}
    chosen = [(kind, item) for kind in ("random", "uniform", "learned")
              if (item := next((r for r in results.values() if r.kind == kind), None))]  # fmt: skip
    sources = sorted({source for _, item in chosen for source in item.tokens_by_source})
    rows = [
        {
            "source": source,
            "shares": [percent(item.tokens_by_source.get(source, 0) / item.tokens) for _, item in chosen],
        }
        for source in sources
    ]
    facts = {
        "kinds": [SAID[kind] for kind, _ in chosen], "rows": rows,
        "documents": [count(item.documents) for _, item in chosen],
        "tokens": [tokens(item.tokens) for _, item in chosen],
        "lengths": [count(item.tokens / max(1, item.documents)) for _, item in chosen],
    }  # fmt: skip
    return Section("selections", "What each weighting selects", "weights_selections.html", facts)


def _cost(workspace: Workspace) -> Section:
    table = read_table(_artifact(workspace, "weights").folder / "runs.parquet", ["read_tokens", "status"])
    made = {
        line["artifact"]: line["seconds"]
        for line in json_lines(workspace.root / EVENTS)
        if "seconds" in line and "artifact" in line
    }
    own = {name: taken for name, taken in made.items() if name.startswith(f"{FOLDER}/")}
    rated = {name: taken for name, taken in made.items() if name.startswith("scores/")}
    facts = {
        "runs": table.num_rows, "tokens": tokens(sum(table["read_tokens"].to_pylist())),
        "proxies": seconds(own.get("weigh/runs", 0) + own.get("weigh/confirmed", 0)),
        "all": seconds(sum(own.values())), "rated": [(name, seconds(taken)) for name, taken in sorted(rated.items())],
    }  # fmt: skip
    return Section("cost", "What it cost", "weights_cost.html", facts)
