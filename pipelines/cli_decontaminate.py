"""`gradatim decontaminate`: evaluation items out of a corpus. Nothing heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Master, Runtime, Workers, Workspace


def decontaminate(
    documents: Annotated[
        str, typer.Argument(help="Documents of the workspace, such as [b]clean[/b] or [b]rephrased[/b].")
    ],
    items: Annotated[
        list[Path], typer.Option("--items", help="A file of evaluation items, JSONL, also .gz. Repeatable.")
    ],
    workspace: Workspace = DEFAULT,
    policy: Annotated[
        str, typer.Option(help="[b]report[/b], [b]drop_documents[/b], or [b]drop_source[/b].")
    ] = "drop_documents",
    n: Annotated[int, typer.Option("-n", min=1, help="Tokens of a run that counts as shared.")] = 8,
    threshold: Annotated[float, typer.Option(help="An item is hit when more of its tokens than this are found.")] = 0.5,
    scope: Annotated[str, typer.Option(help="[b]prompt[/b], [b]all[/b], or [b]per_field[/b].")] = "per_field",
    shortest: Annotated[
        int, typer.Option(min=1, help="Questions below n tokens are looked for whole from this length on.")
    ] = 4,
    name: Annotated[
        str | None, typer.Option(help="What the kept documents are called. Default: DOCUMENTS.decontaminated.")
    ] = None,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Search documents for evaluation items; print each source's share of them, and write the documents that stay.

    An item is hit when one document covers more than half of its tokens by runs of 8 that both share.

    Example:  gradatim decontaminate rephrased --items arc_easy.jsonl --items mmlu.jsonl.gz -w demo
    """
    from pipelines.commands.decontaminate import decontaminate_command
    from pipelines.commands.workshop import RuntimeOptions

    options = {"items": items, "policy": policy, "n": n, "threshold": threshold, "scope": scope, "shortest": shortest}
    decontaminate_command(documents, workspace, options, RuntimeOptions(runtime, workers, master), name=name)
