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

from trainer_hooks.lengths import LengthValue, half_up
from trainer_hooks.loader import OrderedLoader
from trainer_hooks.model import Decoder
from trainer_hooks.parallel import Parallel
from trainer_hooks.plan import ResolvedPlan

Tensors = dict[str, torch.Tensor]


def in_steps(length: LengthValue, resolved: ResolvedPlan) -> int:
    """A length of a hook's settings in whole steps of a plan, rounded half up; may be 0."""
    return half_up(length.of(resolved.plan.tokens) / resolved.step_tokens)


@dataclass
class StepBatch:
    """This rank's part of the global batch of the step under way.

    Attributes:
        number: the global batch's number in the order (`loader.visits_of_step(number)` names its documents).
        inputs, targets: (rows, T) int64 on the run's device; a target of -100 is not predicted.
        documents: (rows, T) int64, the visit of each input token, where the plan masks documents; else None.
        losses: (rows, T) float32, nats of each target, 0 where it is not predicted; set after the forward pass.
    """

    number: int
    inputs: torch.Tensor
    targets: torch.Tensor
    documents: torch.Tensor | None = None
    losses: torch.Tensor = field(default_factory=lambda: torch.empty(0))


class TrainingRun(Protocol):
    """What a hook may use of a run; `trainer_hooks.trainer` has the real one.

    Attributes:
        resolved: the plan, in whole steps; folder: the run's folder; device: where the model lies.
        model: the decoder itself; its parameters are DTensors under FSDP2.
        optimizer, loader, parallel: the others that take part (`parallel.sum(tensor)` adds over ranks).
        step, tokens: taken so far; `after_step` counts the step, all points before it do not.
        rate: the learning rate of this step, which `before_step` and `after_backward` may set: the optimizer's
            groups take it right before they step.
        batch: the step's batch; loss: its mean nats a token over all ranks; grad_norm: before clipping.
        facts: what the step's metrics line shows; a hook adds its own keys, prefixed by its kind.
        stop: a reason to end after this step, with a checkpoint; None: go on.
    """

    resolved: ResolvedPlan
    folder: Path
    device: torch.device
    model: Decoder
    optimizer: torch.optim.Optimizer
    loader: OrderedLoader
    parallel: Parallel
    step: int
    rate: float
    batch: StepBatch
    loss: float
    grad_norm: float
    facts: dict[str, Any]
    stop: str | None

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""

    def note(self, event: str, **facts: Any) -> None:
        """Write a line to events.jsonl, on the first rank."""

    def forward_backward(self, batch: StepBatch) -> float:
        """Loss of a batch, and its gradients added to those in place; fills `batch.losses`."""

    def read_batch(self, number: int) -> StepBatch:
        """This rank's part of a global batch by its number, on the run's device; the loader does not move."""

    def clip(self) -> float:
        """Scale the gradients to the plan's largest norm; the norm they had, over all ranks."""

    def update(self) -> None:
        """Move the parameters at `rate`."""

    def heldout_loss(self) -> float | None:
        """Nats a token of the raw weights, the mean over the held-out sets; None where there is none."""

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
