"""Write the report of a workspace: one HTML page that works offline and never runs a script.

Everything shown is computed from the finished artifacts; a section whose artifact is absent says so. Text from
the web is escaped by the templates, and a content policy in the page forbids scripts and network besides.
The same artifacts give the same bytes, except for the times, which stand between `<!-- times -->` comments.

Run it:  gradatim report --workspace demo
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from corpus.shards import write_text
from pipelines.report import (
    funnel,
    glance,
    making,
    mixture,
    orders,
    plans,
    quantities,
    rephrasings,
    runs,
    scores,
    training,
)
from pipelines.report.figure import colour_variable, source_variable
from pipelines.report.workspace import Section, Workspace

PAGE = "report.html"
KICKER = "Report of a workspace"
LEAD = (
    "From web pages to trained models: what was kept and why, how it was scored and rephrased, in which order and at "
    "which learning rate it was read, and what came of it."
)


def write_report(root: Path, *, title: str) -> Path:
    """Write `report.html` into a workspace, atomically, and return its path.

    Raises ArtifactError when a file of a finished artifact is missing, changed or damaged.
    """
    workspace = Workspace(root)
    page = render(workspace, title)
    write_text(root / PAGE, page)
    return root / PAGE


def render(workspace: Workspace, title: str) -> str:
    """The page as text."""
    return page(title, _sections(workspace), kicker=KICKER, lead=LEAD, footer=making.footer(workspace))


def page(title: str, sections: Sequence[Section], *, kicker: str, lead: str, footer: Mapping[str, Any]) -> str:
    """A self-contained page of sections: the one skeleton, style and content policy of every page we write.

    Args:
        title: the heading; kicker: the line above it; lead: the paragraph below it.
        sections: in reading order, each with a template of this folder.
        footer: as `making.footer` gives it.
    """
    environment = _environment()
    bodies = {
        section.key: Markup(environment.get_template(section.template).render(section.facts))
        for section in sections
        if section.facts is not None
    }
    style = Markup((Path(__file__).parent / "style.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html").render(
        title=title, kicker=kicker, lead=lead, sections=sections, bodies=bodies, style=style, footer=footer
    )


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


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"count": quantities.count, "percent": quantities.percent}
    environment.filters |= {"colour": colour_variable, "source_colour": source_variable}
    return environment
