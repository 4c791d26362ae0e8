"""`gradatim cache`: what its subcommands take, in words that teach, and nothing heavy."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT

cache = typer.Typer(
    name="cache",
    help="Look into stored answers of models, and merge their files.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[
    Path,
    typer.Option("--workspace", "-w", help="A workspace, or any folder with stored answers below.", show_default=True),
]


@cache.command("ls")
def list_stores(folder: Folder = DEFAULT) -> None:
    """List the stores: whose answers they hold, how many, in how many files, and how much of them is damaged or double.

    Example:  gradatim cache ls -w demo
    """
    from pipelines.commands.cache import list_command

    list_command(folder)


@cache.command()
def compact(folder: Folder = DEFAULT) -> None:
    """Merge the files of each store into few large ones. Runs may go on meanwhile, and a kill loses nothing.

    Example:  gradatim cache compact -w demo
    """
    from pipelines.commands.cache import compact_command

    compact_command(folder)


@cache.command()
def show(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY...", help="Keys of 32 hex digits; none: the latest records of each store."),
    ] = None,
    folder: Folder = DEFAULT,
    rows: Annotated[int, typer.Option(min=1, help="Records to print of each store, without a key.")] = 3,
) -> None:
    """Print stored records, every field of them.

    Example:  gradatim cache show -w demo --rows 1
    """
    from pipelines.commands.cache import show_command

    show_command(folder, keys or [], rows)
