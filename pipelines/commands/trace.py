"""`gradatim trace`: from a training step back to its documents."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import artifacts_in
from corpus.config import validated
from corpus.tokens import read_docs
from curriculum.order import Order
from curriculum.order_shards import open_shards
from pipelines.commands.inspect import open_by_name


def trace_command(workspace: Path, arm: str, step: int) -> None:
    """Print the document visits of one optimizer step of a run, in the order the model read them."""
    from trainer_hooks.loader import OrderedLoader
    from trainer_hooks.plan import Plan

    run = open_by_name(workspace, arm if arm.startswith("runs/") else f"runs/{arm}")
    plan = validated(Plan, run.manifest.config["plan"], f"{run.name}/manifest.json")
    order = Order.open(workspace / next(ref.name for ref in run.manifest.inputs if ref.name.startswith("orders/")))
    shards = [workspace / name for name in order.shards]
    loader = OrderedLoader(order, open_shards(order, workspace), plan.sequence_length, plan.batch_sequences)
    visits = loader.visits_of_step(step)
    urls = _urls(workspace)
    docs = {shard: read_docs(shards[shard]).column("id") for shard in set(visits.column("shard").to_pylist())}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("document", "source", "tokens", "visit", "score", "url", "reason"):
        table.add_column(heading, justify="right" if heading in ("tokens", "visit", "score") else "left")
    for row in visits.to_pylist():
        name = docs[row["shard"]][row["doc"]].as_py()
        score = "" if row["score"] is None else f"{row['score']:.3f}"
        cells = (
            name[:12],
            row["source"],
            f"{row['length']:,}",
            str(row["visit"]),
            score,
            urls.get(name, ""),
            row["rule"],
        )
        table.add_row(*(escape(cell) for cell in cells))
    size = plan.batch_sequences * plan.sequence_length
    console = Console()
    console.print(
        f"step {step} of {run.name}: tokens {step * size:,} to {(step + 1) * size:,} of {order.n_tokens:,}",
        highlight=False,
    )
    console.print(table)


def _urls(workspace: Path) -> dict[str, str]:
    """URLs by document id; a rephrasing shows its parent's."""
    from corpus.shards import read_table

    found: dict[str, str] = {}
    for artifact in artifacts_in(workspace):
        if artifact.name in ("clean", "rephrased"):
            for path in artifact.files():
                table = read_table(path, ["id", "url", "parent_id"])
                for row in table.to_pylist():
                    found[row["id"]] = row["url"] or found.get(row["parent_id"] or "", "")
    return found
