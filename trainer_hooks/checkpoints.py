"""Checkpoints: all that is needed to continue exactly, as safetensors and one JSON, whole or not there.

A checkpoint is a folder `step-00000120` with the model's and the optimizer's tensors, the average under way,
and `state.json`: the step, the loader's position, and a checksum of each file. It is written under a
temporary name, flushed, and renamed. Nothing is pickled, which is why torch.distributed.checkpoint is not
used here: its own metadata file is a pickle.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import nn

from corpus.errors import ArtifactError
from corpus.fingerprints import file_checksum
from corpus.shards import atomic_path, write_text
from trainer_hooks.averaging import Averager, unique_tensors

STATE = "state.json"
UNFINISHED = ".unfinished"
MODEL, OPTIMIZER, AVERAGE = "model.safetensors", "optimizer.safetensors", "average.safetensors"


@dataclass
class Training:
    """The objects whose state is a training run's state; `averager` is None when nothing is averaged."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averager: Averager | None


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return folder / f"step-{step:08d}"


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """The finished checkpoints of a folder, by step, in rising order."""
    found = {int(path.parent.name.removeprefix("step-")): path.parent for path in folder.glob(f"step-*/{STATE}")}
    return dict(sorted(found.items()))


def save(folder: Path, step: int, training: Training, state: dict[str, Any]) -> Path:
    """Write the checkpoint after `step` steps; `state` is plain JSON data. Returns its folder."""
    path = checkpoint_path(folder, step)
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_tensors(temporary / MODEL, unique_tensors(training.model))
    write_tensors(temporary / OPTIMIZER, _optimizer_tensors(training))
    if training.averager is not None:
        average = training.averager.state_dict()
        write_tensors(temporary / AVERAGE, average["averages"])
        state = {**state, "average": {"count": average["count"], "coefficients": average["coefficients"]}}
    sums = {file.name: file_checksum(file) for file in sorted(temporary.iterdir())}
    text = json.dumps({**state, "step": step, "checksums": sums}, indent=1, sort_keys=True)
    write_text(temporary / STATE, text + "\n")
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)
    _flush_folder(folder)
    return path


def load(path: Path, training: Training) -> dict[str, Any]:
    """Restore a checkpoint into existing objects; returns its state.

    Raises ArtifactError when a file is missing or damaged, ConfigError when the average's scheme differs.
    """
    state: dict[str, Any] = json.loads((path / STATE).read_text())
    for name, checksum in state["checksums"].items():
        if not (path / name).exists() or file_checksum(path / name) != checksum:
            raise ArtifactError(
                f"the checkpoint {path.name} is damaged",
                expected=f"{name} with checksum {checksum}",
                found="other content" if (path / name).exists() else "no such file",
                where=str(path),
                fix=f"remove {path}: the run goes on from the one before it, or from the start",
            )
    with torch.no_grad():
        saved = load_file(path / MODEL)
        for name, tensor in unique_tensors(training.model).items():
            tensor.copy_(saved[name])
    _load_optimizer(training, load_file(path / OPTIMIZER))
    if training.averager is not None:
        training.averager.load_state_dict({"averages": load_file(path / AVERAGE), **state["average"]})
    return state


def weights_checksum(path: Path) -> str:
    """xxh3-64 of a checkpoint's model weights, from its state."""
    return str(json.loads((path / STATE).read_text())["checksums"][MODEL])


def prune(folder: Path, keep: Iterable[int]) -> None:
    """Remove leftovers of interrupted writes and every checkpoint but those of the given steps."""
    kept = set(keep)
    for leftover in folder.glob(f".step-*{UNFINISHED}"):
        shutil.rmtree(leftover)
    for step, path in checkpoints_in(folder).items():
        if step not in kept:
            (path / STATE).unlink()  # without its state a half-removed checkpoint is not one
            shutil.rmtree(path)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors as one safetensors file, atomically, in name order.

    Raises EnvironmentProblem when the disk is full. The serialised bytes are in memory once, beside the tensors.
    """
    data = serialise({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _optimizer_tensors(training: Training) -> dict[str, torch.Tensor]:
    states = training.optimizer.state
    return {
        f"{name}|{key}": torch.as_tensor(value)
        for name, parameter in training.model.named_parameters()
        for key, value in states.get(parameter, {}).items()
    }


def _load_optimizer(training: Training, saved: dict[str, torch.Tensor]) -> None:
    parameters = dict(training.model.named_parameters())
    for key, value in saved.items():
        name, _, field = key.rpartition("|")
        parameter = parameters[name]
        device = "cpu" if field == "step" and not _fused(training.optimizer) else parameter.device
        training.optimizer.state[parameter][field] = value.to(device)


def _fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.param_groups[0].get("fused"))


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
