"""`gradatim merge`: the weighted mean of checkpoints, after training. Nothing heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CHECKPOINTS...",
            help="What to merge, oldest first: checkpoint folders of a run, export folders, safetensors files. "
            "Or use --run.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path, typer.Option(help="The safetensors file to write; what it is made of lies beside it as JSON.")
    ] = Path("merged.safetensors"),
    run: Annotated[Path | None, typer.Option(help="A run's folder: take the average's checkpoints from there.")] = None,
    average: Annotated[
        str,
        typer.Option(
            "--average",
            "-a",
            help="As in a plan: [b]sma[/b], [b]'{kind: wma, last: 6}'[/b], [b]'{kind: curve, to: 1/3}'[/b], "
            "[b]'{kind: weights, weights: [0.2, 0.3, 0.5]}'[/b].",
        ),
    ] = "sma",
    tokens: Annotated[
        str | None, typer.Option(help="Tokens seen at each checkpoint, for a curve: [b]10B,12B,14B[/b].")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the result: [b]float32[/b], [b]float64[/b], [b]bfloat16[/b], [b]float16[/b].")
    ] = "float32",
    accumulate: Annotated[
        str,
        typer.Option(help="Type of the sums. [b]float32[/b]: as during training, bit for bit; or [b]float64[/b]."),
    ] = "float32",
    prefix: Annotated[
        str | None, typer.Option(help="Merge only tensors whose name begins so, and drop that from their names.")
    ] = None,
    trust_dcp: Annotated[
        bool,
        typer.Option(
            "--trust-dcp",
            help="Read folders of torch.distributed.checkpoint. Their metadata is a pickle, which runs any code its "
            "writer put in it: only for checkpoints whose writer you trust.",
        ),
    ] = False,
) -> None:
    """Average the weights of checkpoints, one tensor of one checkpoint in memory at a time.

    Refused where it would average across an optimizer that starts anew or a rate that jumps, by the run's plan.

    Example:  gradatim merge --run demo/runs/ascending --average '{kind: wma, last: 6}' --to wma.safetensors
    """
    from pipelines.commands.merge import merge_command

    merge_command(
        checkpoints or [], to, run, average, tokens,
        {"dtype": dtype, "accumulate": accumulate, "prefix": prefix, "trust_dcp": trust_dcp},
    )  # fmt: skip
