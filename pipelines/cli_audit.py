"""`gradatim audit`: what it takes, in words that teach, and nothing heavy."""

from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Workspace


def audit(
    workspace: Workspace = DEFAULT,
    artifact: Annotated[
        str, typer.Option("--artifact", "-a", help="Which rephrasings: the name of their artifact.")
    ] = "rephrased",
    price: Annotated[
        float | None,
        typer.Option(min=0, help="What an hour of the engines costs, for the price of a million kept tokens."),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="Show passages; without them the page may go further.")
    ] = True,
) -> None:
    """Show what the model did to the text: a page to read and a data card, both beside the rephrasings.

    The page has sources and outputs side by side with their differences marked, what each gate stopped, template
    collapse beside real text, new facts, and cost. The card says what the set is made of, under which licence, and
    what is missing.

    Example:  gradatim audit -w work --price 2.50
    """
    from pipelines.commands.audit import audit_command

    audit_command(workspace, artifact, price, texts=texts)
