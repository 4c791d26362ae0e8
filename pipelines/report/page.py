"""The skeleton of every page we write: one self-contained HTML file that works offline and never runs a script."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report import quantities
from pipelines.report.figure import colour_variable, source_variable
from pipelines.report.workspace import Section


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
