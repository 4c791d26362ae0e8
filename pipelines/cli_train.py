"""`gradatim train`: what it takes, in words that teach, and nothing heavy."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.cli_options import DEFAULT, Workspace


def train(
    file: Annotated[Path, typer.Argument(help="A run file, such as [b]run.yaml[/b].", show_default=False)],
    workspace: Workspace = DEFAULT,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: [b]--set plan.peak_lr=1e-3[/b]. Repeatable.")
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Go on under an edited plan, if all up to the newest checkpoint stays as it was."
        ),
    ] = False,
    former_order: Annotated[
        str | None, typer.Option(help="With --accept-changes: the order so far, when the file names another one now.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="[b]cpu[/b] or [b]cuda[/b]. Default: a GPU if there is one.")
    ] = None,
    spreading: Annotated[
        Literal["fsdp", "ddp"], typer.Option(help="How a model lies over several processes: [b]fsdp[/b] or [b]ddp[/b].")
    ] = "fsdp",
    sink: Annotated[
        list[str] | None,
        typer.Option(help="Send metrics there too: [b]tensorboard[/b], [b]wandb[/b]. Repeatable."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every setting of the run with its meaning, and stop.")
    ] = False,
) -> None:
    """Train a run file's model on its order under its plan, or go on where it stopped; then export it.

    Stop it at any time; the same command goes on, to the same bits. On several GPUs, give the command to torchrun:
    torchrun --nproc-per-node 8 $(which gradatim) train run.yaml -w work

    Example:  gradatim train run.yaml -w work
    """
    from pipelines.commands.train import explain_run_file, train_command

    if explain:
        explain_run_file(file, tuple(overrides or ()), workspace)
        return
    stopped = train_command(
        file, workspace, tuple(overrides or ()), accept_changes=accept_changes, former_order=former_order,
        device=device, spreading=spreading, sinks=sink or [],
    )  # fmt: skip
    if stopped:
        raise typer.Exit(1)
