"""`gradatim rephrase`: documents to rephrasings of them, in any styles. Nothing heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Master, Runtime, Workers, Workspace


def rephrase(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOCUMENTS...",
            help="An artifact of the workspace, such as [b]clean[/b], or files: "
            "[b]pages.jsonl.gz[/b], [b]web=crawl/*.warc.gz[/b].",
        ),
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option(help="A bundled style ([b]easy[/b]), or the path of a style file ([b]my.md[/b]). Repeatable."),
    ] = None,
    route: Annotated[
        str | None,
        typer.Option(
            help="[b]all[/b]: every style for every document; [b]quality[/b]: by a score; [b]random[/b]: its control. "
            "Or settings: [b]'{kind: quality, per_document: 2}'[/b]."
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="The score that routes documents; with [b]--pick best[/b], that ranks them.")
    ] = None,
    pick: Annotated[
        str | None, typer.Option(help="Where the budget does not reach all: [b]random[/b], or the [b]best[/b] first.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", "-b", help="Generated tokens ([b]2M[/b]), or [b]'{requests: 10K, gpu_hours: 8}'[/b]."),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator", "-g", help="[b]'{kind: server, urls: [...], model: NAME}'[/b]; default: vLLM here."
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="A YAML file with the settings of a recipe's `rephrase`.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: [b]--set batch_size=512[/b]. Repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it will take, by style, and generate nothing.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Make the first outputs now to measure tokens per second.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Generated tokens per second and GPU, if you know them.")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="What a GPU-hour costs, for the estimate.")] = None,
    list_styles: Annotated[bool, typer.Option("--styles", help="List the bundled styles, and stop.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print every setting with its meaning, and stop.")] = False,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at malformed inputs, and where the first outputs are alarming.")
    ] = False,
) -> None:
    """Rephrase documents with a language model, through a cache that never pays twice and gates that keep bad text out.

    Writes `rephrased`: documents by style, every attempt with its gates' values, and one outcome a document. Interrupt
    it at any time; the same command goes on where it stopped.

    Example:  gradatim rephrase clean --style easy --style qa --budget 2M --dry-run -w work
    """
    from pipelines.commands.rephrase import Wanted, explain_settings, print_styles, rephrase_command
    from pipelines.commands.workshop import RuntimeOptions

    if list_styles:
        print_styles()
    elif explain:
        explain_settings()
    else:
        options = {
            "styles": style or None, "route": route, "by": by, "pick": pick, "budget": budget, "generator": generator,
            "rate": rate, "measure": measure or None,
        }  # fmt: skip
        wanted = Wanted(settings, options, tuple(overrides or ()), dry_run, price)
        rephrase_command(given or [], workspace, wanted, RuntimeOptions(runtime, workers, master, strict))
