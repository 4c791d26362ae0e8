"""`gradatim reorder`: token shards that lie in reading order, for storage where random reads are slow."""

from pathlib import Path

from rich.markup import escape

from curriculum.order import Order
from pipelines.commands.inspect import open_by_name
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.reordering import TOKENS_PER_SHARD, in_turn, reorder


def reorder_command(
    order: str, workspace: Path, runtime: RuntimeOptions, *, tokens_per_shard: int = TOKENS_PER_SHARD
) -> None:
    """Copy the tokens of an order of the workspace into shards that hold them as they are read, and say where they are.

    Raises: ArtifactError for an order or tokens that are missing or changed; ConfigError for shards of no tokens.
    """
    held = Order(open_by_name(workspace, order))
    with open_workshop(workspace, runtime) as shop:
        tokens = reorder(shop, held, tokens_per_shard=tokens_per_shard)
        made = in_turn(shop, held, tokens)
    totals, shards = made.manifest.totals, len(tokens.files(".npy"))
    table_console().print(
        escape(
            f"{tokens.name}: {totals['visits']:,} visits, {totals['tokens']:,} tokens in {shards:,} shards, as {order} "
            f"reads them; {made.name} reads them from front to back"
        )
    )
