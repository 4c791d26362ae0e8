"""What the rephrasings cost: tokens read and written, how many of them became text, the time, and money if told.

Times are in the workspace's events, so they differ between two runs of one recipe and stand between the comments that a
comparison leaves out. The rate counts only what was generated, never what came from the cache.
"""

from dataclasses import dataclass
from typing import Any

from corpus.artifacts import Artifact
from corpus.events import EVENTS
from corpus.fingerprints import fingerprint
from pipelines.rephrase_notes import noted_rate
from pipelines.report.quantities import count, percent, seconds
from pipelines.report.quantities import tokens as shown_tokens
from pipelines.report.rephrasing_attempts import Attempts
from pipelines.report.workspace import Section, Workspace, json_lines


@dataclass(frozen=True)
class Cost:
    """Tokens over all attempts, kept or not; the rate of generation and the time of the last build, null if unknown."""

    prompt: int
    written: int
    kept: int
    rate: float | None
    seconds: float | None

    @property
    def hours_per_million(self) -> float | None:
        """Hours of generation that a million kept tokens take, at the rate of the engines together."""
        return self.written / self.rate / 3600 * 1e6 / self.kept if self.rate and self.kept else None


def cost_of(workspace: Workspace, artifact: Artifact, attempts: Attempts) -> Cost:
    """Tokens of the attempts; the rate at which this generator wrote in this workspace; the last build's time."""
    builds = [
        float(line["seconds"])
        for line in json_lines(workspace.root / EVENTS)
        if line.get("artifact") == artifact.name and "seconds" in line and line.get("ran", 1)
    ]
    generator = artifact.manifest.config.get("generator")
    rate = noted_rate(workspace.root / EVENTS, fingerprint(generator)) if generator else None
    kept = int(attempts.n_out[attempts.kept].sum())
    n_in, n_out = int(attempts.n_in.sum()), int(attempts.n_out.sum())
    return Cost(n_in, n_out, kept, rate, builds[-1] if builds else None)


def section(cost: Cost, attempts: Attempts, price: float | None) -> Section:
    """Tokens and rates; `price`: what an hour of the machine costs, in whatever currency."""
    facts: dict[str, Any] = {
        "finding": _finding(cost),
        "rows": [
            ("requests sent", count(int(attempts.sent.sum()))),
            ("prompt tokens read", count(cost.prompt)),
            ("tokens written", count(cost.written)),
            ("tokens that passed the gates", count(cost.kept)),
        ],
        "times": _times(cost, price),
    }
    return Section("cost", "What it cost", "rephrasing_cost.html", facts)


def _finding(cost: Cost) -> str:
    text = f"The model read {shown_tokens(cost.prompt)} and wrote {shown_tokens(cost.written)} of its own"
    if not cost.kept:
        return f"{text}; none of them passed the gates."
    share = cost.kept / cost.written
    return f"{text}; {percent(share)} of that passed the gates, so a kept token costs {1 / share:.2f} written ones."


def _times(cost: Cost, price: float | None) -> list[tuple[str, str]]:
    rows = []
    if cost.rate is not None:
        rows.append(("tokens written a second, all engines together", f"{cost.rate:,.1f}"))
    if cost.hours_per_million is not None:
        rows.append(("hours for a million kept tokens", f"{cost.hours_per_million:.3g}"))
        if price is not None:
            rows.append(("price of a million kept tokens", f"{price * cost.hours_per_million:,.2f}"))
    if cost.seconds is not None:
        rows.append(("time of the last build", seconds(cost.seconds)))
    return rows
