"""Other places a run's metrics can go as they are written: TensorBoard files, Weights & Biases.

They are copies for looking at: metrics.jsonl stays the record. A sink whose package is missing says what to install
before the run begins.

    train(..., sinks=("tensorboard",))                        # then: tensorboard --logdir runs/mine/tensorboard

Lines of a step are shown as `train/loss`, those of a held-out evaluation as `heldout/web/raw/nats_per_token`. A run
that goes on from a checkpoint goes on in the same curves. TensorBoard then hides what an interrupted run had written
beyond the checkpoint. W&B cannot: it keeps those values and leaves out the same steps when they come again.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from corpus.config import nearest
from corpus.errors import ConfigError, EnvironmentProblem
from corpus.whole_files import write_text

SINKS = ("tensorboard", "wandb")
WANDB_ID = "wandb-id.txt"


class Sink(Protocol):
    """Where lines of metrics go."""

    def write(self, line: dict[str, Any]) -> None:
        """Take a line of metrics.jsonl."""

    def flush(self) -> None:
        """Keep what was taken, whatever happens to this process; called before a checkpoint is made."""

    def close(self) -> None:
        """Flush and end."""


def open_sinks(names: Sequence[str], folder: Path, after_step: int, config: dict[str, Any]) -> list[Sink]:
    """Open sinks by name for a run that goes on after a step; `config` is plain JSON, shown beside the run.

    Raises ConfigError for an unknown name, EnvironmentProblem for a package that is missing.
    """
    unknown = [name for name in names if name not in SINKS]
    if unknown:
        raise ConfigError(
            f"metrics cannot be sent to {unknown[0]!r}{nearest(unknown[0], SINKS)}", expected=", ".join(SINKS)
        )
    made = {"tensorboard": _tensorboard, "wandb": _wandb}
    return [made[name](folder, after_step, config) for name in dict.fromkeys(names)]


class _TensorBoard:
    def __init__(self, folder: Path, after_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        # Readers drop what an earlier file holds from this step on; also before the first checkpoint, after step 0.
        _wait_for_a_later_name(folder / "tensorboard")
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=after_step + 1)

    def write(self, line: dict[str, Any]) -> None:
        for name, value in scalars(line).items():
            self._writer.add_scalar(name, value, line["step"])

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, wandb: Any, folder: Path, config: dict[str, Any]) -> None:
        known = folder / WANDB_ID
        self._run = wandb.init(
            project="gradatim", name=folder.name, dir=str(folder), config=config, resume="allow",
            id=known.read_text(encoding="utf-8").strip() if known.exists() else None,
        )  # fmt: skip
        write_text(known, f"{self._run.id}\n")

    def write(self, line: dict[str, Any]) -> None:
        self._run.log(scalars(line), step=line["step"])

    def flush(self) -> None:
        """A process of its own has the lines already."""

    def close(self) -> None:
        self._run.finish()


def scalars(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a metrics line by name; those of an evaluation carry the held-out set and the weights."""
    numbers = {
        name: float(value)
        for name, value in line.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("step", "tokens")
    }
    if "heldout" not in line:
        return {f"train/{name}": value for name, value in numbers.items()}
    return {f"heldout/{line['heldout']}/{line['weights']}/{name}": value for name, value in numbers.items()}


def _tensorboard(folder: Path, after_step: int, config: dict[str, Any]) -> Sink:
    try:
        return _TensorBoard(folder, after_step)
    except ImportError as error:
        raise _missing("tensorboard") from error


def _wait_for_a_later_name(folder: Path) -> None:
    """Return when a new file of events will be read after those there are: names begin with the second of the clock."""
    for path in folder.glob("events.out.tfevents.*"):
        second = path.name.split(".")[3]
        while second.isdigit() and 0 <= int(second) + 1 - time.time() <= 1:
            time.sleep(0.05)


def _wandb(folder: Path, after_step: int, config: dict[str, Any]) -> Sink:
    try:
        import wandb
    except ImportError as error:
        raise _missing("wandb") from error
    return _Wandb(wandb, folder, config)


def _missing(package: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"metrics cannot be sent to {package}: the package is not installed", fix=f"pip install {package}"
    )
