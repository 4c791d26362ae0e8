"""Write the report of a workspace: one HTML page that works offline and never runs a script.

Everything shown is computed from the finished artifacts; a section whose artifact is absent says so. Text from
the web is escaped by the templates, and a content policy in the page forbids scripts and network besides.
The same artifacts give the same bytes, except for the times, which stand between `<!-- times -->` comments.

Run it:  gradatim report --workspace demo
"""

from pathlib import Path

from corpus.shards import write_text
from pipelines.report import (
    funnel,
    glance,
    making,
    mixture,
    orders,
    plans,
    rephrasings,
    runs,
    scores,
    training,
)
from pipelines.report.audit_page import read_audit, write_audit
from pipelines.report.page import page
from pipelines.report.workspace import Section, Workspace

PAGE = "report.html"
KICKER = "Report of a workspace"
LEAD = (
    "From web pages to trained models: what was kept and why, how it was scored and rephrased, in which order and at "
    "which learning rate it was read, and what came of it."
)


def write_report(root: Path, *, title: str) -> Path:
    """Write `report.html` into a workspace, atomically, and return its path; rephrasings get their audit beside it.

    Raises ArtifactError when a file of a finished artifact is missing, changed or damaged.
    """
    workspace = Workspace(root)
    rephrased = workspace.get(rephrasings.NAME)
    if rephrased is not None:
        write_audit(workspace, read_audit(rephrased))
    write_text(root / PAGE, render(workspace, title))
    return root / PAGE


def render(workspace: Workspace, title: str) -> str:
    """The page as text."""
    return page(title, _sections(workspace), kicker=KICKER, lead=LEAD, footer=making.footer(workspace))


def _sections(workspace: Workspace) -> list[Section]:
    measured = orders.order_facts(workspace)
    names = orders.source_names(measured, mixture.source_numbers(workspace))
    planned = plans.plan_facts(workspace, measured)
    trained = runs.run_facts(workspace)
    return [
        glance.section(workspace, trained),
        funnel.section(workspace),
        scores.section(workspace),
        rephrasings.section(workspace),
        mixture.section(workspace),
        orders.section(measured, names),
        plans.section(planned, names),
        training.section(workspace, trained, planned),
        making.section(workspace),
    ]
