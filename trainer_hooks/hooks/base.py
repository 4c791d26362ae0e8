"""The points of a training step at which a hook may act, and what it finds there.

A step goes: `before_step` (the rate may be changed), forward and backward, `after_backward` (gradients of the whole
global batch are in place, not yet clipped), clipping, `veto` (a reason not to take this step), the optimizer,
`after_update` (parameters have moved), `after_step` (the step is counted). Evaluations come after it.

Hooks act in the order of the plan. All that a hook remembers is in `state` (plain JSON values, equal on every rank)
and `tensors` (any tensors, sharded or not), so that a resumed run goes on to the same bits. What a hook adds to
`run.facts` is in that step's line of metrics.jsonl.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from trainer_hooks.loader import OrderedLoader
from trainer_hooks.parallel import Parallel
from trainer_hooks.plan import ResolvedPlan

Tensors = dict[str, torch.Tensor]


@dataclass
class StepBatch:
    """This rank's part of the global batch of the step under way.

    Attributes:
        number: the global batch's number in the order (`loader.visits_of_step(number)` names its documents).
        inputs, targets: (rows, T) int64 on the run's device; a target of -100 is not predicted.
        losses: (rows, T) float32, nats of each target, 0 where it is not predicted; set after the forward pass.
    """

    number: int
    inputs: torch.Tensor
    targets: torch.Tensor
    losses: torch.Tensor = field(default_factory=lambda: torch.empty(0))


class TrainingRun(Protocol):
    """What a hook may use of a run; `trainer_hooks.trainer` has the real one.

    Attributes:
        resolved: the plan, in whole steps; folder: the run's folder; device: where the model lies.
        model: the decoder itself; its parameters are DTensors under FSDP2.
        optimizer, loader, parallel: the others that take part (`parallel.sum(tensor)` adds over ranks).
        step, tokens: taken so far; `after_step` counts the step, all points before it do not.
        rate: the learning rate of this step; `before_step` may set it.
        batch: the step's batch; loss: its mean nats a token over all ranks; grad_norm: before clipping.
        facts: what the step's metrics line shows; a hook adds its own keys, prefixed by its kind.
    """

    resolved: ResolvedPlan
    folder: Path
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: OrderedLoader
    parallel: Parallel
    step: int
    rate: float
    batch: StepBatch
    loss: float
    grad_norm: float
    facts: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""

    def note(self, event: str, **facts: Any) -> None:
        """Write a line to events.jsonl, on the first rank."""

    def forward_backward(self, batch: StepBatch) -> float:
        """Loss of a batch, and its gradients added to those in place; fills `batch.losses`."""

    def read_batch(self, number: int) -> StepBatch:
        """This rank's part of a global batch by its number, on the run's device; the loader does not move."""

    def snapshot(self) -> Any:
        """Copies of all that a step changes: parameters, optimizer, position; for `restore`."""

    def restore(self, snapshot: Any) -> None:
        """Put everything back as it was, bit for bit."""


class Hook:
    """Does nothing; a hook overrides the points at which it acts."""

    kind: str = "hook"

    def start(self, run: TrainingRun) -> None:
        """Called once with the fresh model, before it is compiled or sharded and before a checkpoint is loaded."""

    def before_step(self, run: TrainingRun) -> None:
        """Called before a step's batch is read; may set `run.rate`."""

    def after_backward(self, run: TrainingRun) -> None:
        """Called when the global batch's gradients are in place, before they are clipped."""

    def veto(self, run: TrainingRun) -> str | None:
        """A reason not to take this step: gradients are dropped and the step is counted. None: take it."""
        return None

    def after_update(self, run: TrainingRun) -> None:
        """Called after the optimizer has moved the parameters."""

    def after_step(self, run: TrainingRun) -> None:
        """Called when the step is counted."""

    def after_evaluation(self, run: TrainingRun, losses: dict[str, dict[str, float]]) -> None:
        """Called after an evaluation; held-out set -> `raw` or an average's name -> nats a token."""

    def state(self) -> dict[str, Any]:
        """What the hook remembers, as plain JSON values, equal on every rank."""
        return {}

    def tensors(self) -> Tensors:
        """What the hook remembers, as tensors; `load` gets them back filled."""
        return {}

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Go on from what `state` and `tensors` gave. Raises ConfigError when it is another hook's."""
