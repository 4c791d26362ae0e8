"""A run's objects, and what can be done with them between and inside its steps; `trainer_hooks.trainer` has the loop.

A run joins the model (compiled and spread over ranks as the plan and the caller say), optimizer, loader, averages,
objective and hooks, and gives hooks what `trainer_hooks.hooks.base.TrainingRun` describes.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corpus.errors import ConfigError
from corpus.events import log_event
from trainer_hooks.averaging import Tensors
from trainer_hooks.checkpoints import Training
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.determinism import matmul_dtype
from trainer_hooks.evaluation import HeldOut, Loss, evaluate
from trainer_hooks.hooks.base import Hook, StepBatch
from trainer_hooks.linear_loss import IGNORED
from trainer_hooks.loader import OrderedLoader, TokenOrder
from trainer_hooks.model import Decoder, compile_model
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.optimizers.state import prepare_state
from trainer_hooks.parallel import Parallel, Spreading, whole
from trainer_hooks.plan import ResolvedPlan

SCHEDULE_FREE = "schedule_free"


@dataclass(frozen=True)
class Snapshot:
    """Copies of all that a step changes, in memory."""

    tensors: Tensors
    step: int
    next_sample: int
    extra: dict[str, Any]


class Run:
    """The objects of one run, and the acts of one step."""

    def __init__(
        self,
        order: TokenOrder,
        token_arrays: Any,
        heldout: Mapping[str, HeldOut],
        model_config: ModelConfig,
        resolved: ResolvedPlan,
        folder: Path,
        *,
        device: torch.device,
        parallel: Parallel,
        spreading: Spreading,
        events: Path,
    ) -> None:
        """Build everything; nothing is read or written yet. Raises ConfigError when the order is too short."""
        plan = resolved.plan
        self.resolved, self.folder, self.device, self.parallel = resolved, folder, device, parallel
        self.heldout, self._events = heldout, events
        self.dtype = matmul_dtype(plan.precision, device)
        self.rates = step_learning_rates(resolved)
        self.loader = OrderedLoader(
            order, token_arrays, plan.sequence_length, plan.batch_sequences, parallel.rank, parallel.world
        )
        check_vocabulary(order, token_arrays, model_config, self.loader)
        self.step, self.rate, self.loss, self.grad_norm = 0, 0.0, math.nan, math.nan
        self.facts: dict[str, Any] = {}
        self.stop: str | None = None
        self.skipped_in_a_row = 0
        self.model = Decoder(model_config, plan.seed).to(device)
        self.objective = plan.objective.make()
        self.objective.start(self.model, device)
        self.hooks: list[Hook] = [settings.make() for settings in plan.hooks]
        for hook in self.hooks:
            hook.start(self)
        if resolved.steps > self.loader.n_batches:  # asked after the hooks: an online mixture may read sources again
            self.loader.batch(resolved.steps - 1)  # raises, naming what the order holds
        if plan.compile:
            compile_model(self.model)
        self.spread = parallel.spread(self.model, spreading)
        self.optimizer = self._new_optimizer()
        self.averages = {name: average.averager(self.model) for name, average in resolved.averages.items()}
        self.batch = StepBatch(-1, torch.empty(0), torch.empty(0))

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.step * self.resolved.step_tokens

    @property
    def training(self) -> Training:
        """The objects whose state a checkpoint holds."""
        return Training(self.model, self.optimizer, self.averages, self.hooks)

    @property
    def groups(self) -> dict[str, dict[str, float]]:
        """The optimizer's groups of parameters: how many are in each, and how much they decay."""
        return {
            str(group.get("name", number)): {
                "parameters": sum(parameter.numel() for parameter in group["params"]),
                "weight_decay": group.get("weight_decay", 0.0),
            }
            for number, group in enumerate(self.optimizer.param_groups)
        }

    def note(self, event: str, **facts: Any) -> None:
        """Write a line to events.jsonl, on the first rank."""
        if self.parallel.first:
            log_event(self._events, run=self.folder.name, event=event, step=self.step, **facts)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        plan = self.resolved.plan
        return plan.optimizer.make(self.model, plan.peak_lr, seed=plan.seed)

    # ---- a step

    def begin_phase(self) -> None:
        """Forget the optimizer's moments where a phase of the plan that begins here says so."""
        if any(phase.reset_optimizer and phase.start == self.tokens for phase in self.resolved.phases) and self.step:
            self.optimizer = self._new_optimizer()
            self.note("optimizer reset")

    def read_batch(self, number: int) -> StepBatch:
        """This rank's part of a global batch by its number, on the run's device; the loader does not move."""
        inputs, targets = self.loader.batch(number)
        documents = None
        masked = self.resolved.plan.document_mask
        if masked or self.loader.padded:
            of_inputs, of_targets = self.loader.visit_numbers(number)
            foreign = (of_targets < 0) | (of_inputs != of_targets) if masked else of_targets < 0
            targets = targets.masked_fill(foreign, IGNORED)
            documents = of_inputs.to(self.device) if masked else None
        return StepBatch(number, inputs.to(self.device), targets.to(self.device), documents)

    def forward_backward(self, batch: StepBatch) -> float:
        """The batch's mean loss over all ranks, in nats a predicted token; gradients are added to those in place.

        The mean is over the predicted tokens of the whole global batch, so it does not depend on how the batch is
        divided. Fills `batch.losses`.
        """
        rows = len(batch.inputs)
        predicted = self._predicted(batch)
        size = self.resolved.plan.micro_sequences or rows
        head = self.objective.head
        losses, total = [], torch.zeros((), device=self.device)
        for start in range(0, rows, size):
            part = slice(start, start + size)
            documents = None if batch.documents is None else batch.documents[part]
            with self.spread.synchronising(start + size >= rows):
                with self.autocast():
                    summed, each = self.spread(
                        batch.inputs[part], batch.targets[part], documents, head(batch.inputs[part], documents)
                    )
                (summed * (self.parallel.world / predicted)).backward()  # ranks' gradients are averaged
            losses.append(each)
            total += summed.detach()
        batch.losses = torch.cat(losses).view_as(batch.targets)
        return float(self.parallel.sum(total)) / predicted

    def _predicted(self, batch: StepBatch) -> int:
        """Predicted tokens of the global batch; without masks and padding that is all of them, and nobody asks."""
        if batch.documents is None and not self.loader.padded:
            return batch.targets.numel() * self.parallel.world
        return max(1, int(self.parallel.sum((batch.targets != IGNORED).sum())))

    def clip(self) -> float:
        """Scale the gradients to the plan's largest norm, and return the norm they had, over all ranks."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.resolved.plan.grad_clip, foreach=True)
        return float(whole(norm))

    def update(self) -> None:
        """Move the parameters at the step's rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("lr_multiplier", 1.0)
        self.optimizer.step()

    def autocast(self) -> torch.autocast:
        """The context in which matrices are multiplied as the plan says."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    # ---- evaluation

    @contextmanager
    def weights(self, name: str) -> Iterator[None]:
        """The model with its own weights (`raw`) or those of an average, which leave again without a trace."""
        with ExitStack() as stack:
            if name != "raw":
                stack.enter_context(self.averaged(name).swapped(self.model))
            yield

    def averaged(self, name: str) -> Any:
        """An average of the run by its name; `schedule_free` is the optimizer's own."""
        return self.optimizer if name == SCHEDULE_FREE and name not in self.averages else self.averages[name]

    @property
    def variants(self) -> list[str]:
        """The weights that can be evaluated now: `raw`, and each average that has something in it."""
        own = [SCHEDULE_FREE] if hasattr(self.optimizer, "swapped") and self.step else []
        return ["raw", *(name for name, average in self.averages.items() if average.ready), *own]

    def evaluate(self, weights: str = "raw") -> dict[str, Loss]:
        """Held-out losses by set, of the model's own weights or an average's; training is not touched."""
        plan = self.resolved.plan
        with self.weights(weights):
            return {
                name: evaluate(
                    self.model, data, plan.sequence_length, plan.batch_sequences, self.dtype, parallel=self.parallel
                )
                for name, data in sorted(self.heldout.items())
            }

    def heldout_loss(self) -> float | None:
        """The mean of the held-out sets' losses in nats a token, of the model's own weights; None without a set."""
        losses = [loss.nats_per_token for loss in self.evaluate().values()]
        return sum(losses) / len(losses) if losses else None

    # ---- memory

    def snapshot(self) -> Snapshot:
        """Copies of parameters, buffers, optimizer state and position; for `restore`."""
        prepare_state(self.optimizer)  # state made by a trial would not be there to be put back
        extra: dict[str, Any] = deepcopy(getattr(self.optimizer, "extra_state", dict)())
        kept = {name: value.detach().clone() for name, value in Training(self.model, self.optimizer).tensors().items()}
        return Snapshot(kept, self.step, self.loader.next_sample, extra)

    def restore(self, snapshot: Snapshot) -> None:
        """Put everything back as it was, bit for bit."""
        if hasattr(self.optimizer, "load_extra_state"):
            self.optimizer.load_extra_state(deepcopy(snapshot.extra))  # first: it may decide which tensors there are
        with torch.no_grad():
            for name, value in Training(self.model, self.optimizer).tensors().items():
                value.copy_(snapshot.tensors[name])
        self.step, self.loader.next_sample = snapshot.step, snapshot.next_sample


def check_vocabulary(order: TokenOrder, token_arrays: Any, config: ModelConfig, loader: OrderedLoader) -> None:
    """Raise ConfigError when the first batch holds ids that the model does not know: another tokenizer's tokens."""
    inputs, targets = loader.batch(0)
    largest = int(max(inputs.max(), targets.max()))
    if largest >= config.vocabulary:
        raise ConfigError(
            "the order holds token ids that the model does not know",
            expected=f"ids below the model's vocabulary of {config.vocabulary:,}",
            found=f"id {largest:,} in the first batch of order {order.fingerprint}",
            fix="order tokens of the model's own tokenizer, or give the model a larger vocabulary",
        )
