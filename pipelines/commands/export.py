"""`gradatim pack` and `gradatim export`: an order as sequences, and as files that other trainers read."""

from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.errors import ConfigError
from curriculum.kinds import Policy
from curriculum.order import Order
from curriculum.order_shards import open_shards
from curriculum.packed import Pack, write_pack_files
from curriculum.packing import PackConfig, pack
from curriculum.sequence_order import arranged_sequences
from pipelines.commands.inspect import open_by_name
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.export.exporting import export
from pipelines.export.settings import ExportSettings
from pipelines.progress import Progress

READERS = {
    "megatron": "IndexedDataset({path!r})  from megatron.core.datasets.indexed_dataset",
    "datatrove": "DatatroveFolderDataset({folder!r}, {seq_len}, token_size={size})  from datatrove.utils.dataset",
    "llmc": "its train files, in llm.c or modded-nanogpt: {folder}/{stem}_*.bin",
    "nanogpt": "np.memmap({file!r}, dtype=np.uint16)",
    "mosaic": "StreamingDataset(local={folder!r}, batch_size=..., num_canonical_nodes=1)  from streaming",
}


class PackSettings(PackConfig):
    """How an order is packed, and in which order its sequences are then read."""

    arrange: Policy | None = Field(
        default=None,
        description="an order of the sequences themselves, such as {kind: sorted, by: score}: score is the "
        "token-weighted mean of the order's scores; null: as the documents come",
    )


def pack_command(
    order: str, workspace: Path, options: dict[str, Any], runtime: RuntimeOptions, *, name: str | None = None
) -> None:
    """Pack an order of the workspace, and print what that costs. `options` are those of `PackSettings`."""
    held = Order(open_by_name(workspace, order))
    settings = validated(PackSettings, _given(options), "gradatim pack")
    name = name or f"packs/{order.rpartition('/')[2]}"
    if name == held.artifact.name:
        raise ConfigError(f"the pack cannot be called {name!r}, as the order it is from", fix="--name packs/a")
    with open_workshop(workspace, runtime) as shop:

        def make(folder: Path) -> dict[str, Any]:
            sequences = None
            if settings.arrange is not None:
                whole = pack(held.table(["length"])["length"].to_numpy(), settings)
                sequences = arranged_sequences(held, whole, settings.arrange, shop.order_engine())
            return write_pack_files(folder, held, settings, sequences)

        packed = shop.build_here(name, "pack", config=settings.model_dump(), inputs=[held.artifact], make=make)
    print_pack(packed)


def export_command(
    order: str, workspace: Path, options: dict[str, Any], *, pack: str | None = None, to: Path | None = None
) -> None:
    """Write an order of the workspace for another trainer, and say how to read it there.

    `options` are those of `ExportSettings`; `pack` names a pack of the order, whose sequences are then written; the
    files go to the folder `to`, by default `exports/<order>.<format>` of the workspace.
    """
    held = Order(open_by_name(workspace, order))
    packed = Pack(open_by_name(workspace, pack)) if pack else None
    settings = validated(ExportSettings, _given(options), "gradatim export")
    name = f"exports/{order.rpartition('/')[2]}.{settings.format}"
    folder = to or workspace / name
    arrays = open_shards(held, workspace)
    with Progress().stage(name, total=None, done=0):
        made = export(held, arrays, folder, settings, name=name, pack=packed)
    print_export(made)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def print_pack(packed: Artifact) -> None:
    """Print the report of a pack from its totals."""
    totals, config, console = packed.manifest.totals, packed.manifest.config, table_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("moved by", "mean", "95 %", "most"):
        table.add_column(heading, justify="left" if heading == "moved by" else "right")
    for unit, spread in totals["displacement"].items():
        table.add_row(unit, f"{spread['mean']:,.0f}", f"{spread['p95']:,.0f}", f"{spread['max']:,}")
    lines = [
        f"{totals['sequences']:,} sequences of {config['sequence_tokens']:,} tokens, {totals['fill']:.2%} full, "
        f"{totals['padding_tokens']:,} tokens of padding",
        f"{totals['documents_cut']:,} documents are cut, {totals['cuts']:,} times; {totals['documents_longer']:,} are "
        f"longer than a sequence; {totals['cropped_tokens']:,} tokens are cropped",
    ]
    if totals["blur"] is not None:
        lines.append(
            f"{100 * totals['blur']:.1f} % of the score's variance lies inside sequences, "
            f"{100 * totals['blur_concat']:.1f} % where the stream is only cut"
        )
    if totals["spearman"] is not None and totals["spearman_concat"] is not None:
        lines.append(
            f"rank correlation of place and mean score: {totals['spearman']:.4f}, "
            f"{totals['spearman_concat']:.4f} where the stream is only cut"
        )
    for line in lines:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"The pack is in {packed.folder}", highlight=False, soft_wrap=True)


def print_export(made: Artifact) -> None:
    """Print what an export holds, and how its trainer reads it."""
    totals, config, console = made.manifest.totals, made.manifest.config, Console()
    files = [part.file for part in made.manifest.parts]
    size = sum(part.bytes for part in made.manifest.parts) / 1e6
    what = f"{totals['sequences']:,} sequences" if "sequences" in totals else f"{totals['documents']:,} documents"
    held = f"{what}, {totals['tokens']:,} tokens of {totals['dtype']}, files: {len(files)}, {size:,.1f} MB"
    console.print(f"{held}, in {made.folder}", highlight=False, soft_wrap=True)
    first = str(made.folder / files[0])
    reader = READERS[config["format"]].format(
        folder=str(made.folder), file=first, path=first.rpartition(".")[0], stem=config["stem"],
        size=2 if totals["dtype"] == "uint16" else 4,
        seq_len=totals["tokens"] // totals["sequences"] - 1 if "sequences" in totals else "seq_len",
    )  # fmt: skip
    console.print(f"read it with  {escape(reader)}", highlight=False, soft_wrap=True)
