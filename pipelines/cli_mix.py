"""`gradatim mix`: what its subcommands take, in words that teach, and nothing heavy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli_options import DEFAULT, Explain, Master, Runtime, Workers, Workspace

if TYPE_CHECKING:
    from pipelines.commands.mix import MixOptions

mix = typer.Typer(
    name="mix",
    help="Decide the diet: which sources, in which shares, how often, in which phases; checked before any training.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[Path | None, typer.Argument(help="A file of settings, such as [b]mix.yaml[/b].", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: [b]--set sources.web.share=50%[/b]. Repeatable.")
]
Preset = Annotated[
    str | None,
    typer.Option(help="A published shape of a run, such as [b]smollm3[/b]; `gradatim mix presets` lists them."),
]
Role = Annotated[
    list[str] | None, typer.Option(help="The source that plays a role of the preset: [b]web=crawl/*[/b]. Repeatable.")
]
Share = Annotated[
    list[str] | None,
    typer.Option(help="A role's share in a phase, where the preset has none: [b]decay.quality=30%[/b]. Repeatable."),
]
Score = Annotated[str | None, typer.Option(help="The score, where the preset keeps the best part of a source.")]
Name = Annotated[str | None, typer.Option(help="The name of the mixture. Default: that of its file.")]


def _options(
    file: Path | None,
    workspace: Path,
    overrides: list[str] | None,
    preset: tuple[str | None, list[str] | None, list[str] | None, str | None],
    engine: tuple[str, int | None, str | None],
) -> "MixOptions":
    from pipelines.commands.mix import MixOptions
    from pipelines.commands.workshop import RuntimeOptions

    name, roles, shares, score = preset
    return MixOptions(
        file,
        workspace,
        tuple(overrides or ()),
        name,
        tuple(roles or ()),
        tuple(shares or ()),
        score,
        RuntimeOptions(*engine),
    )


@mix.command()
def plan(
    file: File = None,
    workspace: Workspace = DEFAULT,
    preset: Preset = None,
    role: Role = None,
    share: Share = None,
    score: Score = None,
    overrides: Overrides = None,
    name: Name = None,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
    explain: Explain = False,
) -> None:
    """Count what there is, and show what each source gets, how often it is read, and what bound it.

    Texts are tokenised first, once. With [b]declare: {web: 3T}[/b] in the file nothing is counted: no data is needed.

    Example:  gradatim mix plan mix.yaml -w work
    """
    from pipelines.commands.mix import explain_command, plan_command

    options = _options(file, workspace, overrides, (preset, role, share, score), (runtime, workers, master))
    if explain:
        explain_command(options)
    else:
        plan_command(options, name=name)


@mix.command()
def check(
    file: File = None,
    workspace: Workspace = DEFAULT,
    preset: Preset = None,
    role: Role = None,
    share: Share = None,
    score: Score = None,
    overrides: Overrides = None,
    name: Name = None,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Plan, and list everything that stands in the way at once. Exit 1 if something does.

    Example:  gradatim mix check mix.yaml -w work
    """
    from pipelines.commands.mix import check_command

    options = _options(file, workspace, overrides, (preset, role, share, score), (runtime, workers, master))
    raise typer.Exit(check_command(options, name=name))


@mix.command()
def build(
    file: File = None,
    workspace: Workspace = DEFAULT,
    preset: Preset = None,
    role: Role = None,
    share: Share = None,
    score: Score = None,
    overrides: Overrides = None,
    name: Name = None,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Write the mixture and its order, which any trainer can follow, and what they really give.

    Example:  gradatim mix build mix.yaml -w work
    """
    from pipelines.commands.mix import build_command

    options = _options(file, workspace, overrides, (preset, role, share, score), (runtime, workers, master))
    build_command(options, name=name)


@mix.command()
def show(
    name: Annotated[str, typer.Argument(help="A built mixture, such as [b]mix[/b].")], workspace: Workspace = DEFAULT
) -> None:
    """Show a built mixture again: its table, its phases, and what its order gives."""
    from pipelines.commands.mix import show_command

    show_command(workspace, name)


@mix.command()
def diff(
    first: Annotated[str, typer.Argument(help="A built mixture, or a file.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Compare two mixtures: shares, tokens, visits, phases, settings; and from which token on their orders differ.

    Example:  gradatim mix diff first second -w work
    """
    from pipelines.commands.mix_diff import diff_command
    from pipelines.commands.workshop import RuntimeOptions

    diff_command(first, second, workspace, RuntimeOptions(runtime, workers, master))


@mix.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="One of them.", show_default=False)] = None,
) -> None:
    """List published shapes of runs, or show one: its phases, roles, shares, and where the figures come from."""
    from pipelines.commands.mix import presets_command

    presets_command(name)


@mix.command()
def learn(
    tokens: Annotated[str, typer.Argument(help="An artifact of tokens with several sources, such as [b]tokens[/b].")],
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="A YAML file of settings; without it, the defaults.")
    ] = None,
    heldout: Annotated[
        str | None, typer.Option(help="An artifact of held-out tokens. Default: some documents are held out.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: [b]--set design.runs=64[/b]. Repeatable.")
    ] = None,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
    explain: Explain = False,
) -> None:
    """Learn the shares of sources from small proxies, and write them with their evidence, ready for a mixture.

    Interrupt it at any time; the same command goes on where it stopped.

    Example:  gradatim mix learn tokens -w work --set design.runs=64
    """
    from pipelines.commands.mix_learn import learn_command
    from pipelines.commands.workshop import RuntimeOptions

    learn_command(
        tokens, workspace, settings, tuple(overrides or ()), RuntimeOptions(runtime, workers, master), heldout=heldout,
        explain=explain,
    )  # fmt: skip
