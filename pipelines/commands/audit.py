"""`gradatim audit`: the audit page and the data card of a set of rephrasings."""

from pathlib import Path

from rich.markup import escape

from pipelines.commands.inspect import open_by_name
from pipelines.commands.workshop import table_console
from pipelines.report.audit_page import read_audit, write_audit
from pipelines.report.workspace import Workspace

_COLOURS = {"stop": "bold red", "note": "yellow", "fine": "green", "few": "dim"}


def audit_command(workspace: Path, name: str, price: float | None, *, texts: bool) -> None:
    """Write both files and say what was found. Raises ArtifactError as `open_by_name` and `read_audit`."""
    audit = read_audit(open_by_name(workspace, name))
    page, card = write_audit(Workspace(workspace), audit, price=price, texts=texts)
    console = table_console()
    console.print(escape(audit.finding), highlight=False, soft_wrap=True)
    for item in audit.measured:
        said = "too few outputs to say whether they resemble each other" if item.level == "few" else item.level
        opening = item.measured.measures[0]
        share = f"; {opening.value:.1%} of them open with “{escape(opening.example)}”" if opening.value else ""
        console.print(
            f"  {escape(item.style)}: [{_COLOURS[item.level]}]{said}[/]{share}", highlight=False, soft_wrap=True
        )
    console.print(f"Open {page}", highlight=False, soft_wrap=True)
    console.print(f"The data card is {card}", highlight=False, soft_wrap=True)
