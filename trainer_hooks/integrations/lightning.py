"""A plan in a Lightning `Trainer`: its learning rate, its averages, its order.

    resolved = resolve(plan)
    averaging = AveragingCallback(resolved, evaluate=lambda module: {"loss": heldout_loss(module)})
    trainer = Trainer(max_steps=resolved.steps, callbacks=[ScheduleCallback(resolved), averaging])
    trainer.fit(module, OrderBatches(order, open_shards(order, workspace), resolved), heldout_loader)
    averaging.write(module, Path("runs/mine/averages"))

`module.configure_optimizers` returns an optimizer and no scheduler; each step then trains at exactly the plan's rate,
which `LearningRateMonitor` shows. After each validation the averages are evaluated, by a function of yours, and logged
as `wma/loss`, which `ModelCheckpoint` can monitor. Lightning's checkpoints hold the scheduler, the averages and the
position in the order: `trainer.fit(..., ckpt_path=...)` in mid-window gives the same averages and reads on at the
next sequence; an edited plan is refused.

`trainer_hooks.examples.lightning` is a whole script.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import LRSchedulerConfig
from safetensors.torch import save_file

from corpus.errors import ConfigError
from trainer_hooks.averaging import Tensors
from trainer_hooks.datasets import Item, prefetched
from trainer_hooks.integrations.agreement import check_agreement
from trainer_hooks.integrations.plan_averages import PlanAverages, States
from trainer_hooks.loader import OrderedLoader, TokenOrder
from trainer_hooks.lr_scheduler import PlanLR
from trainer_hooks.parallel import whole
from trainer_hooks.plan import ResolvedPlan

Evaluate = Callable[[LightningModule], Mapping[str, float]]


class OrderBatches:
    """The batches of a whole plan in an order's sequence, as a dataloader whose state is one position.

    Under several processes return it from `train_dataloader()`, where `self.trainer` knows rank and world.
    """

    def __init__(
        self,
        order: TokenOrder,
        token_arrays: Any,
        resolved: ResolvedPlan,
        *,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        """Prepare to read.

        Args:
            order, token_arrays: as `OrderedLoader` takes them.
            accumulate: the trainer's `accumulate_grad_batches`; batches are that much smaller.
            rank, world: this process among those that train together.
            workers: processes that read ahead.

        Raises ConfigError when batches do not divide evenly, or the order is shorter than the plan.
        """
        plan = resolved.plan
        if plan.batch_sequences % accumulate:
            raise ConfigError(
                "a batch cannot be cut evenly into those that are accumulated",
                expected=f"batch_sequences a multiple of {accumulate}",
                found=str(plan.batch_sequences),
            )
        rows = plan.batch_sequences // accumulate
        self._loader = OrderedLoader(order, token_arrays, plan.sequence_length, rows, rank, world)
        self.accumulate, self.world, self._workers = accumulate, world, workers
        self._length = resolved.steps * accumulate
        self._loader.batch(self._length - 1)  # raises where the order is shorter than the plan

    def __len__(self) -> int:
        """Batches of the whole plan."""
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """The remaining batches: `input_ids` and `targets`, each (rows of this process, T) int64."""
        remaining = self._length - self._loader.next_sample // self._loader.batch_sequences
        for inputs, targets in prefetched(self._loader, self._workers):
            if remaining <= 0:
                return
            remaining -= 1
            yield {"input_ids": inputs, "targets": targets}

    def state_dict(self) -> dict[str, Any]:
        """The position after the last whole batch that was handed out; the same on every process."""
        state, whole_batch = dict(self._loader.state_dict()), self._loader.batch_sequences * self.accumulate
        return {**state, "next_sample": self._loader.next_sample // whole_batch * whole_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position. Raises as `OrderedLoader.load_state_dict`."""
        self._loader.load_state_dict(state)


class ScheduleCallback(Callback):
    """Trains at the plan's learning rates; one optimizer, automatic optimization."""

    def __init__(self, resolved: ResolvedPlan) -> None:
        self._resolved = resolved

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the trainer the plan's scheduler, before a checkpoint's state is loaded into it.

        Raises ConfigError when the module has a scheduler of its own, several optimizers, or steps them itself.
        """
        if trainer.lr_scheduler_configs or len(trainer.optimizers) != 1 or not pl_module.automatic_optimization:
            raise ConfigError(
                "the plan cannot set this module's learning rate",
                expected="one optimizer, no scheduler, automatic optimization",
                found=f"{len(trainer.optimizers)} optimizers, {len(trainer.lr_scheduler_configs)} schedulers, "
                f"{'automatic' if pl_module.automatic_optimization else 'manual'} optimization",
                fix="return the optimizer alone from configure_optimizers; in manual optimization use PlanLR",
            )
        scheduler = PlanLR(trainer.optimizers[0], self._resolved)
        trainer.lr_scheduler_configs.append(LRSchedulerConfig(scheduler, name="plan", interval="step"))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ConfigError when the trainer's steps or batches are not the plan's."""
        check_trainer(trainer, self._resolved)
        _begin_the_batch_again(trainer)


class AveragingCallback(Callback):
    """Follows every average of the plan: updates, evaluates, saves, restores and writes them."""

    def __init__(self, resolved: ResolvedPlan, evaluate: Evaluate | None = None) -> None:
        """Prepare for a trainer.

        Args:
            evaluate: called after each validation with the module, in evaluation mode and without gradients, once an
                average, whose weights it then has; what it returns is logged as `AVERAGE/NAME`, meant over processes.
        """
        self._resolved, self._evaluate = resolved, evaluate
        self._restored: tuple[States, Tensors] | None = None
        self._step = 0
        self.averages: PlanAverages | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin empty, or where the checkpoint is that the trainer goes on from.

        Raises ConfigError as `ScheduleCallback` and for an average that has changed, ArtifactError when the
        checkpoint does not hold it.
        """
        check_trainer(trainer, self._resolved)
        self.averages = PlanAverages(self._resolved, pl_module, trainer.global_step, self._restored)
        self._step, self._restored = trainer.global_step, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Let the new weights enter, once an optimizer step."""
        assert self.averages is not None
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self.averages.after_step(pl_module, self._step)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate each average and log what comes out."""
        if self._evaluate is None or self.averages is None or trainer.sanity_checking:
            return
        for name, average in self.averages.ready.items():
            with average.swapped(pl_module):
                found = dict(self._evaluate(pl_module))
            pl_module.log_dict({f"{name}/{key}": value for key, value in found.items()}, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the averages."""
        if self.averages is None:
            return {}
        states, tensors = self.averages.saved()
        return {"averages": states, "tensors": tensors}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's averages until the model is there."""
        self._restored = (state_dict["averages"], state_dict["tensors"]) if state_dict else None

    def write(self, module: LightningModule, folder: Path) -> dict[str, Path]:
        """Write each average as a safetensors file, float32, with the module's tensor names; on the first process.

        Every process makes the call. Returns the files by name.
        """
        assert self.averages is not None, "there are averages once the trainer has begun"
        written = {}
        for name, average in self.averages.ready.items():
            tensors = {key: whole(value).cpu().contiguous() for key, value in average.average().items()}
            written[name] = folder / f"{name}.safetensors"
            if module.global_rank == 0:
                folder.mkdir(parents=True, exist_ok=True)
                save_file(tensors, written[name])
        return written


def _begin_the_batch_again(trainer: Trainer) -> None:
    """Go back to the border of a step, where a checkpoint was taken between the parts of an accumulated batch.

    Its gradients are not in the checkpoint, and Lightning would go on with the rest of the parts alone.
    """
    if isinstance(trainer.train_dataloader, OrderBatches):
        progress = trainer.fit_loop.epoch_loop.batch_progress
        parts = progress.current.ready % trainer.accumulate_grad_batches
        for counts in (progress.total, progress.current):
            for name in ("ready", "started", "processed", "completed"):
                setattr(counts, name, getattr(counts, name) - parts)


def check_trainer(trainer: Trainer, resolved: ResolvedPlan) -> None:
    """Raise ConfigError when a trainer's steps or batches are not the plan's."""
    found, wanted = {"max_steps": trainer.max_steps}, {"max_steps": resolved.steps}
    data = trainer.train_dataloader
    if isinstance(data, OrderBatches):
        found |= {"accumulate_grad_batches": trainer.accumulate_grad_batches, "processes": trainer.world_size}
        wanted |= {"accumulate_grad_batches": data.accumulate, "processes": data.world}
    check_agreement(
        found, wanted, "Trainer(max_steps=resolved.steps), and OrderBatches with its accumulate, rank and world"
    )
