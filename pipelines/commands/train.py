"""`gradatim train`: follow one run file, in this process or in those of torchrun."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact, InputRef, describe_part, finish, is_finished, own_files, reopen
from corpus.errors import ConfigError
from corpus.events import EVENTS
from corpus.fingerprints import fingerprint
from curriculum.order import Order
from curriculum.order_shards import open_shards
from pipelines.commands.inspect import open_by_name
from pipelines.commands.order import ordered
from pipelines.commands.run import settings_lines
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.heldout_sets import heldout_sets
from pipelines.reading import TOKENIZER
from pipelines.run_file import RunFile, load_run_file
from pipelines.trained import EXPORT, RESULT, leave

if TYPE_CHECKING:
    from trainer_hooks.parallel import Spreading
    from trainer_hooks.throughput import Progress
    from trainer_hooks.trainer import RunResult


def train_command(
    file: Path,
    workspace: Path,
    overrides: tuple[str, ...] = (),
    *,
    accept_changes: bool = False,
    former_order: str | None = None,
    device: str | None = None,
    spreading: "Spreading" = "fsdp",
    sinks: Sequence[str] = (),
) -> str | None:
    """Train or go on, print where the run is and what it came to; returns why it stopped early, or None."""
    from trainer_hooks.parallel import Parallel
    from trainer_hooks.run_identity import Change
    from trainer_hooks.trainer import train

    run = load_run_file(file, overrides, workspace)
    with Parallel.join() as parallel:
        order = _order(run, workspace, parallel.world)
        made_from = _inputs(run, workspace, order)
        folder = workspace / "runs" / run.name
        mark = fingerprint({"run": run.model_dump(mode="json"), "inputs": [ref.model_dump() for ref in made_from]})
        if parallel.told(is_finished(folder, mark)):
            _say(parallel.first, f"[green]runs/{escape(run.name)} is complete[/]: nothing to do")
            return None
        change = (
            Change(Order(open_by_name(workspace, former_order)) if former_order else None) if accept_changes else None
        )
        heldout = heldout_sets(open_by_name(workspace, run.heldout).files(".npy")) if run.heldout else {}
        with _shown(run, parallel.first) as on_step:
            result = train(
                order, open_shards(order, workspace), heldout, run.model, run.plan, folder, on_step=on_step,
                device=device, spreading=spreading, events=workspace / EVENTS, sinks=sinks, change=change,
                on_begin=lambda: reopen(folder, mark),
            )  # fmt: skip
        if parallel.first and not result.stopped:
            _finish(run, workspace, folder, mark, made_from, result)
        if parallel.first:
            print_result(run, result)
        return result.stopped


def explain_run_file(file: Path, overrides: tuple[str, ...], workspace: Path) -> None:
    """Print every setting of a run file with its meaning."""
    for line in settings_lines(load_run_file(file, overrides, workspace)):
        Console().print(line, highlight=False)


def _order(run: RunFile, workspace: Path, world: int) -> Order:
    """The order that a run file names, or the one it describes, made now where it is not there."""
    if isinstance(run.order, str):
        return Order(open_by_name(workspace, run.order))
    name = f"orders/{run.name}"
    if world > 1:
        if not (workspace / name).is_dir():
            raise ConfigError(
                "several processes cannot make an order at once", expected=f"{name} in {workspace}", found="none yet",
                fix=f"make it first: gradatim order {run.order.visits} --name {run.name} --kind ..., and name it: "
                f"order: {name}",
            )  # fmt: skip
        return Order(open_by_name(workspace, name))
    with open_workshop(workspace, RuntimeOptions()) as shop:
        return Order(ordered(shop, name, open_by_name(workspace, run.order.visits), run.order.policy))


def _inputs(run: RunFile, workspace: Path, order: Order) -> list[InputRef]:
    """What a run is made from, by name and fingerprint.

    Raises ConfigError when the order's tokens were made with another tokenizer than the run's.
    """
    tokenizer = open_by_name(workspace, run.tokenizer)
    for name in dict.fromkeys(Path(shard).parent.as_posix() for shard in order.shards):
        for ref in Artifact(workspace / name).manifest.inputs:
            if Path(ref.name).name == "tokenizer" and ref.fingerprint != tokenizer.manifest.fingerprint:
                raise ConfigError(
                    f"the order reads tokens of another tokenizer: {name}",
                    expected=f"{run.tokenizer}, fingerprint {tokenizer.manifest.fingerprint}",
                    found=f"fingerprint {ref.fingerprint}",
                    where=str(workspace / name),
                    fix="name the tokenizer that the tokens were made with, or tokenize again",
                )
    held = [open_by_name(workspace, run.heldout)] if run.heldout else []
    return [artifact.ref for artifact in (order.artifact, *held, tokenizer)]


def _finish(
    run: RunFile, workspace: Path, folder: Path, mark: str, inputs: list[InputRef], result: "RunResult"
) -> None:
    totals = leave(result, run.model, workspace / run.tokenizer / TOKENIZER, folder)
    parts = [describe_part(folder, path) for path in own_files(folder)]
    finish(
        folder, kind="run", name=f"runs/{run.name}", fingerprint=mark, config=run.model_dump(mode="json"),
        inputs=inputs, parts=parts, totals=totals,
    )  # fmt: skip


@contextmanager
def _shown(run: RunFile, first: bool) -> Iterator[Any]:
    """A bar on the first rank: steps, loss, tokens a second, share of the device's peak, memory, time left."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    if not first:
        yield None
        return
    bars = Bars(
        TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"),
        console=Console(stderr=True),
    )  # fmt: skip
    with bars:
        bar = bars.add_task(f"runs/{run.name}", said="preparing", total=None)

        def on_step(progress: "Progress") -> None:
            bars.update(bar, completed=progress.step, total=progress.steps, said=said(progress))

        yield on_step


def said(progress: "Progress") -> str:
    """A run's progress in one line."""
    hours, rest = divmod(round(progress.seconds_left), 3600)
    left = f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
    parts = [
        f"{progress.step:,}/{progress.steps:,}", f"loss {progress.loss:.4f}", f"rate {progress.rate:.3g}",
        f"{progress.tokens_per_s:,.0f} tokens/s", f"{progress.memory / 1e9:.1f} GB", f"{left} left",
    ]  # fmt: skip
    if progress.mfu is not None:
        parts.insert(4, f"MFU {progress.mfu:.1%}")
    return " · ".join(parts)


def print_result(run: RunFile, result: "RunResult") -> None:
    """Print what a run came to: where it stopped, or each held-out loss by weights."""
    console = table_console()
    if result.stopped:
        console.print(
            f"runs/{escape(run.name)} stopped after step {result.step:,} of {result.steps:,} "
            f"({escape(result.stopped)}); the same command goes on from there", highlight=False,
        )  # fmt: skip
        return
    table = Table(box=None, pad_edge=False)
    for name in ("held out", "weights", "nats per token", "bits per byte"):
        table.add_column(name, justify="right" if "per" in name else "left")
    for source, losses in result.losses.items():
        for weights, loss in losses.items():
            table.add_row(escape(source), escape(weights), f"{loss.nats_per_token:.4f}", f"{loss.bits_per_byte:.4f}")
    if result.losses:
        console.print(table)
    console.print(
        f"{result.parameters:,} parameters, {result.tokens:,} tokens in {result.steps:,} steps; "
        f"{RESULT}, averages/ and {EXPORT}/ are in {result.folder}", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _say(first: bool, text: str) -> None:
    if first:
        Console().print(text, highlight=False)
