"""`gradatim order`, `pack`, `export` and `reorder`: from visits to what a trainer reads. Nothing heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Explain, Master, Runtime, Workers, Workspace

Ordered = Annotated[str, typer.Argument(help="An order of the workspace, such as [b]orders/mix[/b].")]


def order(
    given: Annotated[
        str,
        typer.Argument(
            metavar="TOKENS_OR_MIXTURE",
            help="An artifact: of tokens ([b]tokens[/b]: each document once), or a mixture ([b]mixture/mix[/b]).",
        ),
    ],
    kind: Annotated[
        str, typer.Option("--kind", "-k", help="The policy: [b]sorted[/b], [b]folding[/b], [b]interleaved[/b], ...")
    ] = "sorted",
    by: Annotated[str | None, typer.Option(help="The score, or several with commas; [b]-edu[/b] reverses one.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the policy: [b]--set folds=3[/b]. Repeatable.")
    ] = None,
    phase: Annotated[
        list[str] | None, typer.Option(help="Only this phase of a mixture; others stay as mixed. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The order is orders/NAME. Default: its kind.")] = None,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
    explain: Explain = False,
) -> None:
    """Put documents, or the visits of a mixture, in order, as one artifact that any trainer can follow.

    Example:  gradatim order tokens --kind folding --by edu --set folds=3 -w work
    """
    from pipelines.commands.order import order_command
    from pipelines.commands.workshop import RuntimeOptions

    order_command(
        given, workspace, {"kind": kind, "by": by}, overrides or [], RuntimeOptions(runtime, workers, master),
        phases=phase or [], name=name, explain=explain,
    )  # fmt: skip


def pack(
    order: Ordered,
    tokens: Annotated[str, typer.Option("--tokens", "-t", help="Tokens of a sequence: [b]2048[/b], [b]8K[/b].")],
    packer: Annotated[
        str,
        typer.Option(
            help="[b]windowed[/b]: best fit within a window, moving no visit out; [b]concat[/b]: cut the stream."
        ),
    ] = "windowed",
    window: Annotated[str | None, typer.Option(help="Visits of a window. Default: 1000.")] = None,
    arrange: Annotated[
        str | None,
        typer.Option(
            help="Put the sequences themselves in order, by the mean of the order's scores: "
            "[b]'{kind: sorted, by: score}'[/b]."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name of the artifact. Default: packs/ and the order's.")] = None,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Pack an order into sequences, and print what that costs: fill, cuts, how far visits move, how the order blurs.

    Example:  gradatim pack orders/mix --tokens 2048 --window 500 -w work
    """
    from corpus.config import parsed
    from pipelines.commands.export import pack_command
    from pipelines.commands.workshop import RuntimeOptions

    settings = parsed(arrange, "--arrange") if arrange else None
    options = {"packer": packer, "sequence_tokens": tokens, "window": window, "arrange": settings}
    pack_command(order, workspace, options, RuntimeOptions(runtime, workers, master), name=name)


def export(
    order: Ordered,
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="[b]megatron[/b], [b]datatrove[/b], [b]llmc[/b], [b]nanogpt[/b] or [b]mosaic[/b]."
        ),
    ],
    to: Annotated[Path | None, typer.Option(help="A folder. Default: exports/ORDER.FORMAT of the workspace.")] = None,
    pack: Annotated[str | None, typer.Option(help="A pack of the order, whose sequences are written instead.")] = None,
    max_tokens_per_file: Annotated[str | None, typer.Option(help="Start a new file before one holds more.")] = None,
    stem: Annotated[str | None, typer.Option(help="What file names begin with.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="The tokenizer's name, for datatrove's metadata.")] = None,
    padding_id: Annotated[int | None, typer.Option(help="The token that fills packed sequences.")] = None,
    workspace: Workspace = DEFAULT,
) -> None:
    """Write an order as files that another trainer reads, in order, and say how it reads them.

    Example:  gradatim export orders/mix --format megatron -w work
    """
    from pipelines.commands.export import export_command

    options = {
        "format": format, "max_tokens_per_file": max_tokens_per_file, "stem": stem, "tokenizer": tokenizer,
        "padding_id": padding_id,
    }  # fmt: skip
    export_command(order, workspace, options, pack=pack, to=to)


def reorder(
    order: Ordered,
    tokens_per_shard: Annotated[str | None, typer.Option(help="Tokens of a shard: [b]100M[/b].")] = None,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Copy an order's tokens into shards that lie in reading order, for storage where random reads are slow.

    Example:  gradatim reorder orders/mix -w work
    """
    from corpus.config import parse_count
    from corpus.errors import ConfigError
    from pipelines.commands.reorder import reorder_command
    from pipelines.commands.workshop import RuntimeOptions

    try:
        size = {} if tokens_per_shard is None else {"tokens_per_shard": parse_count(tokens_per_shard)}
    except ValueError as error:
        raise ConfigError(str(error), where="--tokens-per-shard") from None
    reorder_command(order, workspace, RuntimeOptions(runtime, workers, master), **size)
