"""All averages of a plan beside a model that another trainer trains; what the callbacks of this package share.

averages = PlanAverages(resolved, model)                  # in a resumed run also: step, and what was saved there
averages.after_step(model, step)                          # after each optimizer step; counts from 1
for name, average in averages.ready.items():
    with average.swapped(model): ...
states, tensors = averages.saved()
"""

from typing import Any

import torch
from torch import nn

from corpus.errors import ArtifactError
from trainer_hooks.averaging import RunningAverage, Tensors
from trainer_hooks.parallel import whole
from trainer_hooks.plan import ResolvedPlan

States = dict[str, Any]


class PlanAverages:
    """The running averages of a plan, by name."""

    def __init__(
        self, resolved: ResolvedPlan, model: nn.Module, step: int = 0, saved: tuple[States, Tensors] | None = None
    ) -> None:
        """Make them empty, or go on after `step` steps from what `saved` returned there.

        Raises ArtifactError when an average that had begun by then was not saved, ConfigError when it was another.
        """
        self._step_tokens = resolved.step_tokens
        self.running: dict[str, RunningAverage] = {
            name: average.averager(model) for name, average in resolved.averages.items()
        }
        states, tensors = saved or ({}, {})
        for name, running in self.running.items():
            if running.resolved.first <= step * self._step_tokens:
                if name not in states:
                    raise _not_saved(name, running, step * self._step_tokens)
                own = running.tensors()
                found = {key.partition("|")[2]: value for key, value in tensors.items() if key.startswith(f"{name}|")}
                running.load(states[name], {key: _placed(value, own.get(key)) for key, value in found.items()})

    @property
    def ready(self) -> dict[str, RunningAverage]:
        """The averages that have something in them."""
        return {name: running for name, running in self.running.items() if running.ready}

    def after_step(self, model: nn.Module, step: int) -> None:
        """Let the weights after so many optimizer steps enter the averages that take them."""
        tokens = step * self._step_tokens
        for running in self.running.values():
            if running.resolved.takes(tokens):
                running.update(model, tokens)

    def saved(self) -> tuple[States, Tensors]:
        """The state of each average by name, as JSON, and its tensors as `average|key`, whole on every rank."""
        states = {name: running.state() for name, running in self.running.items()}
        tensors = {
            f"{name}|{key}": whole(value)
            for name, running in self.running.items()
            for key, value in running.tensors().items()
        }
        return states, tensors


def _placed(value: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
    """A whole tensor, cut over ranks as the one it is to be copied into."""
    mesh = getattr(own, "device_mesh", None)
    if mesh is None or own is None:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(own.device), mesh, own.placements)  # type: ignore[attr-defined]


def _not_saved(name: str, running: RunningAverage, tokens: int) -> ArtifactError:
    return ArtifactError(
        f"this checkpoint does not hold average {name!r}, which had begun before it",
        expected=f"a state with the weights from {running.resolved.first:,} tokens on",
        found=f"a checkpoint after {tokens:,} tokens without one",
        fix="resume from a checkpoint that was saved with this average in the plan, or let it begin later",
    )
