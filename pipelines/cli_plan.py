"""`gradatim plan`: what its subcommands take, in words that teach, and nothing heavy."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Workspace

plan = typer.Typer(
    name="plan",
    help="See what a run will do before anything is spent: learning rate, averages, mixture and quality on one axis.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Files = Annotated[
    list[Path],
    typer.Argument(help="Run files or recipes, such as [b]run.yaml[/b]; of a recipe every arm.", show_default=False),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: [b]--set plan.peak_lr=1e-3[/b]. Repeatable.")
]


@plan.command()
def show(
    files: Files,
    workspace: Workspace = DEFAULT,
    overrides: Overrides = None,
    page: Annotated[
        Path | None, typer.Option(help="Where the page goes. Default: plans/NAME.html in the workspace.")
    ] = None,
) -> None:
    """Draw learning rate, averaging weights, mixture and mean quality, here and as a page.

    Without an order in the workspace the curve and the averages are drawn alone. Several files stand side by side.

    Example:  gradatim plan show run.yaml -w work
    """
    from pipelines.commands.plan import show_command

    show_command(files, workspace, tuple(overrides or ()), page=page)


@plan.command()
def check(
    files: Files,
    workspace: Workspace = DEFAULT,
    overrides: Overrides = None,
    run: Annotated[
        str | None, typer.Option(help="A run that has begun: may it go on under this plan? Such as [b]runs/NAME[/b].")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that will train together.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """List what a plan does that may not be wanted, with numbers and what would change it. Exit 1 for an error.

    The learning rate's mass by quality decile beside the shuffled control, averaging windows, readings against caps,
    lengths against the order, model against tokenizer, memory.

    Example:  gradatim plan check run.yaml -w work
    """
    from pipelines.commands.plan import check_command

    raise typer.Exit(
        check_command(files, workspace, tuple(overrides or ()), run=run, processes=processes, as_json=as_json)
    )


@plan.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="Print this one.", show_default=False)] = None,
) -> None:
    """List the published recipes that a plan can begin with, or print one, as a plan file would hold it.

    Example:  gradatim plan presets cdma
    """
    from pipelines.commands.plan_presets import presets_command

    presets_command(name)
