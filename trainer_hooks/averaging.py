"""Average a model's weights over checkpoints: running, inside a training loop, or offline over files.

Both use the one rule A <- A + l_t (theta_t - A) in float32, so a running average and an offline merge of the
same checkpoints are equal bit for bit. The average never reaches the optimizer: `swapped` lends it to a model
for an evaluation and gives the trained weights back unchanged, also after an error.

In a training loop of your own:

    from trainer_hooks.averaging import Averager
    averager = Averager(model, coefficients("ema_debiased", 6, 0.2))
    for step, batch in enumerate(batches):
        ...                                                   # an optimizer step of yours
        if tokens_seen in resolved.marks:
            averager.update(model)
        if time_to_evaluate and averager.count:
            with averager.swapped(model):
                evaluate(model)
    save(averager.state_dict())                               # float32 tensors, a count, the coefficients
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging_rules import step_sizes

Tensors = dict[str, torch.Tensor]


class Averager:
    """A running weighted mean of a model's parameters and persistent buffers, in float32.

    Floating tensors are averaged, once per storage when weights are tied; integer buffers are copied from the
    newest model; non-persistent buffers are left alone. Under FSDP it holds and updates the local shards.
    """

    def __init__(self, model: nn.Module, coefficients: Sequence[float]) -> None:
        """Prepare to average `len(coefficients)` models, weighed in the order of the updates.

        Raises ConfigError for coefficients that do not sum to 1 or begin with 0.
        """
        self._steps = step_sizes(coefficients)
        self.coefficients = tuple(map(float, coefficients))
        self.count = 0
        self._averages: Tensors = {
            name: torch.zeros_like(value, dtype=torch.float32) if value.is_floating_point() else value.clone()
            for name, value in unique_tensors(model).items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the model's current weights as the next checkpoint. Raises ConfigError when all have been added."""
        if self.count == len(self.coefficients):
            raise ConfigError(
                "this average is complete",
                expected=f"{self.count} updates, one a coefficient",
                found="one more",
                fix="begin a new Averager for another window",
            )
        size = float(self._steps[self.count])
        for name, value in unique_tensors(model).items():
            _step(self._averages[name], value, size)
        self.count += 1

    def average(self) -> Tensors:
        """The mean of what was added so far, float32, by parameter name; the tensors are the averager's own.

        Before all checkpoints are added, their coefficients are scaled to sum to 1. Raises ConfigError when empty.
        """
        if not self.count:
            raise ConfigError("there is no average yet", expected="at least one update", found="none")
        return self._averages

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[nn.Module]:
        """Lend the average to a model, cast to its dtypes; its own weights come back bit for bit afterwards."""
        averages, own = self.average(), unique_tensors(model)
        kept = {name: value.detach().clone() for name, value in own.items()}
        try:
            _copy(averages, own)
            yield model
        finally:
            _copy(kept, own)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: the float32 means, how many were added, and the coefficients."""
        return {"averages": dict(self._averages), "count": self.count, "coefficients": list(self.coefficients)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ConfigError when its coefficients or tensors are not this averager's."""
        if tuple(state["coefficients"]) != self.coefficients:
            raise ConfigError(
                "the saved average uses other coefficients",
                expected=str(list(self.coefficients)),
                found=str(list(state["coefficients"])),
                fix="keep the averaging scheme until its window is complete",
            )
        _check_names(set(self._averages), set(state["averages"]), "the saved average")
        with torch.no_grad():
            _copy(state["averages"], self._averages)
        self.count = int(state["count"])


def unique_tensors(model: nn.Module) -> Tensors:
    """Parameters and persistent buffers by name, tied weights once, under their first name."""
    parameters: Tensors = dict(model.named_parameters())
    every_parameter = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in model.state_dict().items() if name not in every_parameter}
    return {**parameters, **buffers}


def merge(paths: Sequence[Path], coefficients: Sequence[float]) -> Tensors:
    """The weighted mean of safetensors files, oldest first, float32; equal bit for bit to a running `Averager`.

    One tensor of one file is read at a time. Integer tensors come from the newest file. Raises ConfigError when
    the numbers of files and coefficients differ, ArtifactError when names or shapes do.
    """
    if len(paths) != len(coefficients):
        raise ConfigError(
            "each checkpoint needs one coefficient", expected=f"{len(paths)} coefficients", found=str(len(coefficients))
        )
    merged: Tensors = {}
    for path, size in zip(paths, step_sizes(coefficients), strict=True):
        with safe_open(str(path), framework="pt") as file:
            names = set(file.keys())
            if merged:
                _check_names(set(merged), names, str(path))
            for name in sorted(names):
                value = file.get_tensor(name)
                if name not in merged:
                    merged[name] = torch.zeros_like(value, dtype=torch.float32 if value.is_floating_point() else None)
                if merged[name].shape != value.shape:
                    raise ArtifactError(
                        f"checkpoints disagree about the shape of {name}",
                        where=str(path),
                        expected=str(list(merged[name].shape)),
                        found=str(list(value.shape)),
                    )
                _step(merged[name], value, float(size))
    return merged


def _step(mean: torch.Tensor, value: torch.Tensor, size: float) -> None:
    if mean.is_floating_point():
        mean.add_(value.detach().to(torch.float32) - mean, alpha=size)
    else:
        mean.copy_(value)


@torch.no_grad()
def _copy(source: Tensors, target: Tensors) -> None:
    for name, value in target.items():
        value.copy_(source[name])


def _check_names(expected: set[str], found: set[str], where: str) -> None:
    if expected != found:
        raise ArtifactError(
            "the tensors are not those of the model",
            where=where,
            expected=f"also {sorted(expected - found)[:3]}" if expected - found else f"{len(expected)} tensors",
            found=f"extra {sorted(found - expected)[:3]}" if found - expected else f"{len(found)} tensors",
        )
