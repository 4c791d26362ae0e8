"""Other places a run's metrics can go as they are written: TensorBoard files, Weights & Biases.

They are copies for looking at: metrics.jsonl stays the record. A sink whose package is missing says what to install
before the run begins.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from corpus.errors import ConfigError, EnvironmentProblem

SINKS = ("tensorboard", "wandb")


class Sink(Protocol):
    """Where lines of metrics go."""

    def write(self, line: dict[str, Any]) -> None:
        """Take a line of metrics.jsonl."""

    def close(self) -> None:
        """Flush and end."""


def open_sinks(names: Sequence[str], folder: Path, after_step: int, config: dict[str, Any]) -> list[Sink]:
    """Open sinks by name for a run that goes on after a step.

    Raises ConfigError for an unknown name, EnvironmentProblem for a package that is missing.
    """
    unknown = [name for name in names if name not in SINKS]
    if unknown:
        raise ConfigError(f"metrics cannot be sent to {unknown[0]!r}", expected=", ".join(SINKS))
    made = {"tensorboard": _tensorboard, "wandb": _wandb}
    return [made[name](folder, after_step, config) for name in names]


class _TensorBoard:
    def __init__(self, folder: Path, after_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        # What an interrupted run wrote beyond its checkpoint is hidden by the later run's purge.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=after_step + 1 if after_step else None)

    def write(self, line: dict[str, Any]) -> None:
        for name, value in scalars(line).items():
            self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, wandb: Any, folder: Path, config: dict[str, Any]) -> None:
        self._run = wandb.init(
            project="gradatim", name=folder.name, id=folder.name.replace("/", "-"), dir=str(folder), resume="allow",
            config=config,
        )  # fmt: skip

    def write(self, line: dict[str, Any]) -> None:
        self._run.log(scalars(line), step=line["step"])

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
