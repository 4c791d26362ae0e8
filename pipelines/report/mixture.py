"""The mixture: for each source what was asked, what there is, what it gets, how often it is read, and what bound it.

`section` is a part of the report of a workspace; `write_mixture_page` is the page of `gradatim mix`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus.artifacts import Artifact
from corpus.fingerprints import fingerprint
from corpus.shards import write_text
from mixtures.allocation import Allocation, Component
from pipelines.mix_measure import Measured
from pipelines.mixing import ALLOCATION, read_allocation
from pipelines.report import making
from pipelines.report.figure import standalone
from pipelines.report.mixture_figures import curves_figure, shares_figure, visits_figure
from pipelines.report.page import page
from pipelines.report.quantities import count, percent, tokens
from pipelines.report.workspace import Section, Workspace, manifest_link

LEAD = (
    "Which sources a run reads, in which shares, how often, and when: as asked, as allocated to the token, and what "
    "decided it where the two differ."
)


@dataclass(frozen=True)
class MixturePage:
    """What the page of a mixture shows.

    Args:
        name: of the mixture; allocation: what it comes to.
        artifacts: what it was made from and into; none for a plan.
        measured: its order held against the allocation; None where there is no order yet.
        problems: what makes it impossible, where it is.
    """

    name: str
    allocation: Allocation
    artifacts: Sequence[Artifact] = ()
    measured: Measured | None = None
    problems: Sequence[str] = field(default=())


def section(workspace: Workspace) -> Section:
    """The allocation of the artifact `mixture`."""
    artifact = workspace.get("mixture")
    allocation = allocation_of(artifact)
    if artifact is None or allocation is None:
        return Section("mixture", "The mixture", absent="No mixture has been allocated yet.")
    visits = artifact.manifest.totals.get("visits")
    facts = {**allocation_facts(allocation), "link": manifest_link(artifact), "visits": visits}
    return Section("mixture", "The mixture", "mixture.html", facts)


def source_numbers(workspace: Workspace) -> dict[str, int]:
    """A number for each source of the mixture, in its order; the colour of a source everywhere on the page."""
    numbers: dict[str, int] = {}
    allocation = allocation_of(workspace.get("mixture"))
    for component in allocation.components if allocation else ():
        for source in component.sources:
            numbers.setdefault(source, len(numbers))
    return numbers


def write_mixture_page(root: Path, shown: MixturePage) -> tuple[Path, Path]:
    """Write `mix/<name>.html` and `.svg` in a workspace, atomically, and return their paths."""
    allocation = shown.allocation
    picture = shares_figure(allocation)
    facts = {**allocation_facts(allocation), "link": None, "visits": None, "problems": list(shown.problems)}
    banded = [one for one in allocation.components if one.by]
    sections = [
        Section("mixture", "What each source gets", "mixture.html", facts),
        Section("run", "Shares along the run", "mixture_figure.html", {"figure": picture, "note": _ramps(allocation)}),
        Section(
            "visits", "How often each source is read", "mixture_figure.html",
            {"figure": visits_figure(allocation), "note": _repeats(allocation)},
        ),
    ]  # fmt: skip
    if banded:
        drawn = {"figure": curves_figure(banded), "note": "Documents without the score are not read."}
        sections.append(Section("quality", "How often each quality is read", "mixture_figure.html", drawn))
    if shown.measured:
        measured = measured_facts(allocation, shown.measured)
        sections.append(Section("measured", "What the order gives", "mixture_measured.html", measured))
    identity = fingerprint([allocation.model_dump(mode="json"), [artifact.ref for artifact in shown.artifacts]])
    footer = making.footer_of(shown.artifacts, identity, "Mixture")
    base = root / "mix"  # beside artifacts, not inside the recipe's artifact `mixture`
    text = page(f"The mixture {shown.name}", sections, kicker="A mixture", lead=LEAD, footer=footer)
    html, image = base / f"{shown.name}.html", base / f"{shown.name}.svg"
    write_text(html, text)
    write_text(image, standalone(picture))
    return html, image


def allocation_facts(allocation: Allocation) -> dict[str, Any]:
    """The table of an allocation, for `mixture.html`."""
    return {
        "rows": [_row(allocation, i, one) for i, one in enumerate(allocation.components)],
        "phases": [{"name": one.name, "tokens": one.tokens} for one in allocation.intervals],
        "tokens": allocation.tokens,
        "warnings": allocation.warnings,
        "problems": [],
        "finding": _finding(allocation),
    }


def measured_facts(allocation: Allocation, found: Measured) -> dict[str, Any]:
    """An order held against its allocation, for `mixture_measured.html`."""
    rows = [
        {"name": one.name, "number": i, "tokens": [int(part) for part in found.tokens[:, i]]}
        for i, one in enumerate(allocation.components)
    ]
    drift = f"{found.drift_of} is at most {count(found.drift)} tokens from its share, at token {count(found.drift_at)}"
    return {
        "rows": rows,
        "phases": [interval.name or "tokens" for interval in allocation.intervals],
        "error": f"{100 * found.share_error:.2g} %" if found.share_error else "0",
        "drift": drift if found.drift_of else "no source ever leaves its share",
    }


def allocation_of(artifact: Artifact | None) -> Allocation | None:
    """What was allocated, out of a mixture's artifact; None where there is none."""
    for path in artifact.files(".json") if artifact else []:
        if path.name == ALLOCATION:
            return read_allocation(path)
    return None


def _row(allocation: Allocation, number: int, one: Component) -> dict[str, Any]:
    phases = []
    for interval in allocation.intervals:
        row = interval.rows[number]
        start = f"{percent(float(row.start_share))} to " if row.start_share != row.share else ""
        visits = row.tokens / one.available_tokens if one.available_tokens else 0.0
        phases.append({"share": f"{start}{percent(float(row.share))}", "visits": f"{visits:.2f}"})
    return {
        "number": number, "name": one.name, "documents": one.documents, "available_tokens": one.available_tokens,
        "asked_tokens": one.asked_tokens, "tokens": one.tokens, "asked_share": one.asked_tokens / allocation.tokens,
        "given_share": one.tokens / allocation.tokens, "epochs": one.epochs, "worth": one.effective_epochs,
        "cap": f"{one.max_visits:g}", "bound": one.bound, "phases": phases,
    }  # fmt: skip


def _finding(allocation: Allocation) -> str:
    rows = allocation.components
    most = max(rows, key=lambda row: row.epochs)
    gap = max(abs(row.tokens - row.asked_tokens) for row in rows) / allocation.tokens
    met = "every source gets the share it asks for"
    if gap >= 0.0005:
        met = f"given shares differ from asked ones by up to {percent(gap)}"
    text = f"Of {tokens(allocation.tokens)}, {met}."
    if most.epochs > 1:
        text += f" The most repeated source is {most.name}: each of its {count(most.available_tokens)} tokens is read"
        text += f" {most.epochs:.2f} times on average."
    elif len(rows) > 1:
        text += f" No source is read more than once; {most.name} is used most fully, at {percent(most.epochs)}."
    return text


def _ramps(allocation: Allocation) -> str:
    ramps = [f"{count(one.ramp_tokens)} tokens into {one.name}" for one in allocation.intervals if one.ramp_tokens]
    return f"Shares move in a straight line over {', '.join(ramps)}." if ramps else ""


def _repeats(allocation: Allocation) -> str:
    repeated = [one for one in allocation.components if one.epochs > 1]
    said = ", ".join(f"{one.name} {one.epochs:.2f} visits as {one.effective_epochs:.2f}" for one in repeated)
    law = "By the law of arXiv 2305.16264 (its constant is unverified) repeats are worth less than fresh text: "
    return f"{law}{said}. By a later law, 2605.01640, they can also hurt." if said else ""
