"""`gradatim experiment`: what its subcommands take, in words that teach, and nothing heavy."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Workers, Workspace

experiment = typer.Typer(
    name="experiment",
    help="Studies of data order, mixture and learning rate on small models, with controls, seeds and spreads.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A bundled study ([b]cma[/b]), or a YAML file.")]
Size = Annotated[str, typer.Option(help="How much is trained: [b]minutes[/b], [b]hour[/b] or [b]gpu[/b].")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change the study: [b]--set sizes.hour.seeds=5[/b]. Repeatable.")
]
Documents = Annotated[
    list[str] | None,
    typer.Option("--documents", "-d", help="An artifact of documents to draw from. Repeatable; default: documents."),
]
Score = Annotated[
    str | None, typer.Option(help="The score that says which documents are good; short for --column score=NAME.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="Another score that the study reads: [b]learned=weights:weigh/weights[/b]."),
]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", help="What sources are for: [b]old=enwiki,books_en[/b]. Repeatable."),
]
Items = Annotated[
    list[Path] | None,
    typer.Option("--items", help="Questions, JSONL, to score the trained models on. Repeatable."),
]


@experiment.command("ls")
def list_studies() -> None:
    """List the bundled studies: what each asks, and how many arms it has.

    Example:  gradatim experiment ls
    """
    from pipelines.commands.experiment import list_command

    list_command()


@experiment.command()
def show(
    study: StudyName,
    size: Size = "hour",
    overrides: Overrides = None,
    workspace: Workspace = DEFAULT,
) -> None:
    """Print a study: its question, arms, controls and cost; and what it came to, where it has been run here.

    Example:  gradatim experiment show cma --size hour
    """
    from pipelines.commands.experiment import show_command

    show_command(study, size, tuple(overrides or ()), workspace)


@experiment.command()
def run(
    study: StudyName,
    size: Size = "hour",
    documents: Documents = None,
    score: Score = None,
    column: Columns = None,
    role: Roles = None,
    items: Items = None,
    overrides: Overrides = None,
    workspace: Workspace = DEFAULT,
    workers: Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print arms, runs, tokens and the time they will take, and stop.")
    ] = False,
) -> None:
    """Train every arm of a study on your documents, and say what the differences are worth.

    Arms are compared seed by seed with their controls, which cannot be left out. Interrupt it at any time; the same
    command goes on where it stopped, to the same numbers.

    Example:  gradatim experiment run cma --size minutes --score edu -w work
    """
    from pipelines.commands.experiment import Asked, run_command

    asked = Asked.of(study, size, documents, score, column, role, items, overrides)
    run_command(asked, workspace, workers, dry_run=dry_run)


@experiment.command()
def pack(
    study: StudyName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; it must not exist.")],
    size: Size = "gpu",
    documents: Documents = None,
    score: Score = None,
    column: Columns = None,
    role: Roles = None,
    overrides: Overrides = None,
    workspace: Workspace = DEFAULT,
    workers: Workers = None,
) -> None:
    """Write a study as one folder that trains on a machine with only Python, torch and numpy, and no network.

    Example:  gradatim experiment pack cma --size gpu --score edu -w work -o cma_bundle
    """
    from pipelines.commands.experiment import Asked, pack_command

    pack_command(Asked.of(study, size, documents, score, column, role, None, overrides), workspace, output, workers)


@experiment.command()
def collect(
    bundle: Annotated[Path, typer.Argument(help="The folder that was packed, with the results in it.")],
    workspace: Workspace = DEFAULT,
) -> None:
    """Bring the results of a bundle back, check them against its fingerprint, and write the page.

    Example:  gradatim experiment collect cma_bundle -w work
    """
    from pipelines.commands.experiment import collect_command

    collect_command(bundle, workspace)
