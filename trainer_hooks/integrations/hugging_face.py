"""A plan in a Hugging Face `Trainer`: its learning rate, its averages, its order.

    resolved = resolve(plan)
    arguments = TrainingArguments("runs/mine", **training_arguments(resolved))
    trainer = Trainer(model, arguments, eval_dataset=heldout,
                      train_dataset=OrderDataset(order, open_shards(order, workspace), plan.sequence_length))
    trainer.add_callback(ScheduleCallback(trainer, resolved))
    trainer.add_callback(AveragingCallback(trainer, resolved))
    trainer.train()                                           # or trainer.train(resume_from_checkpoint=True)

Each step trains at exactly the plan's rate, and logs it. Evaluations report every average beside the model's own
weights, `eval_loss` and `eval_wma_loss`, which may also be a `metric_for_best_model`. Averages are saved in every
checkpoint; a resume in mid-window gives the same average, an edited plan is refused. At the end each average is a
model folder, `runs/mine/averages/wma`, for `from_pretrained`.

`trainer_hooks.examples.hugging_face` is a whole script.
"""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import fingerprint
from trainer_hooks.averaging import Tensors
from trainer_hooks.datasets import OrderDataset
from trainer_hooks.integrations.agreement import check_agreement
from trainer_hooks.integrations.plan_averages import PlanAverages, States
from trainer_hooks.lr_scheduler import PlanLR
from trainer_hooks.plan import ResolvedPlan

FOLDER = "averages"
_STATE, _TENSORS = "state.json", "tensors.safetensors"


def training_arguments(resolved: ResolvedPlan, *, evaluates: bool = True, world: int | None = None) -> dict[str, Any]:
    """What a plan says about steps, batches, order, clipping, evaluations and checkpoints, as `TrainingArguments`.

    Args:
        evaluates: false for a trainer without an `eval_dataset`.
        world: processes that train together; None takes `WORLD_SIZE`, which torchrun sets.

    Raises ConfigError when batches do not divide evenly over the processes.
    """
    plan, world = resolved.plan, int(os.environ.get("WORLD_SIZE", 1)) if world is None else world
    rows = plan.micro_sequences or max(1, plan.batch_sequences // world)
    if plan.batch_sequences % (rows * world):
        raise ConfigError(
            "a batch cannot be cut evenly into what one process reads at once",
            expected=f"batch_sequences a multiple of {rows * world}: {rows} sequences on each of {world} processes",
            found=f"batch_sequences {plan.batch_sequences}",
            fix="change batch_sequences or micro_sequences",
        )
    arguments: dict[str, Any] = {
        "max_steps": resolved.steps,
        "per_device_train_batch_size": rows,
        "per_device_eval_batch_size": rows,
        "gradient_accumulation_steps": plan.batch_sequences // (rows * world),
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "learning_rate": plan.peak_lr,
        "max_grad_norm": plan.grad_clip,
        "save_strategy": "steps",
        "save_steps": resolved.checkpoint_every_steps,
        "seed": plan.seed,
    }
    return arguments | ({"eval_strategy": "steps", "eval_steps": resolved.eval_every_steps} if evaluates else {})


class ScheduleCallback(TrainerCallback):
    """Trains at the plan's learning rates, whatever `lr_scheduler_type` says.

    The rate of a step depends on its number alone; the trainer logs it, and saves the scheduler with its checkpoints.
    """

    def __init__(self, trainer: Trainer, resolved: ResolvedPlan) -> None:
        """Prepare a trainer. Raises ConfigError when it was given a scheduler of its own."""
        if trainer.lr_scheduler is not None:
            raise ConfigError(
                "this trainer has a learning-rate scheduler of its own",
                fix="pass optimizers=(optimizer, None), or leave out this callback and pass PlanLR as the scheduler",
            )
        self._trainer: Any = trainer
        self._resolved = resolved
        # The trainer asks for a scheduler once it has spread model and optimizer, before it loads a checkpoint.
        trainer.create_scheduler = self._create_scheduler  # type: ignore[method-assign]

    def _create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> PlanLR:
        scheduler = self._trainer.lr_scheduler = PlanLR(optimizer or self._trainer.optimizer, self._resolved)
        return scheduler

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raise ConfigError when the trainer's steps, batches or order are not the plan's."""
        check_trainer(self._trainer, self._resolved)


class AveragingCallback(TrainerCallback):
    """Follows every average of the plan: updates, evaluates, saves, restores and writes them.

    The model may be alone, under DDP, or under FSDP2.
    """

    def __init__(self, trainer: Trainer, resolved: ResolvedPlan, resume_from: str | Path | None = None) -> None:
        """Prepare for a trainer.

        Args:
            resume_from: the checkpoint folder, where training is resumed from one outside of `output_dir`.
        """
        self._trainer: Any = trainer
        self._resolved = resolved
        self._resume_from = None if resume_from is None else Path(resume_from)
        self._evaluating = False
        self.averages: PlanAverages | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin empty, or where the checkpoint is that the trainer goes on from.

        Raises ConfigError as `ScheduleCallback` and for an average that has changed, ArtifactError when the
        checkpoint has no averages, or those of another run.
        """
        check_trainer(self._trainer, self._resolved)
        saved, tokens = None, state.global_step * self._resolved.step_tokens
        if any(average.first <= tokens for average in self._resolved.averages.values()):
            saved = _read(self._resume_from or _checkpoint(args, state), state)
        self.averages = PlanAverages(self._resolved, self._trainer.model, state.global_step, saved)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the new weights enter."""
        assert self.averages is not None
        self.averages.after_step(self._trainer.model, state.global_step)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        metrics: dict[str, float] | None = None,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Evaluate each average on the set that the model's own weights were just evaluated on."""
        if self.averages is None or self._evaluating:
            return
        assert metrics is not None
        prefix = next(name for name in metrics if name.endswith("_runtime")).removesuffix("_runtime")
        self._evaluating = True
        try:
            for name, average in self.averages.ready.items():
                with average.swapped(self._trainer.model):
                    metrics |= self._trainer.evaluate(eval_dataloader.dataset, metric_key_prefix=f"{prefix}_{name}")
        finally:
            self._evaluating = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the averages to the checkpoint that was just written."""
        assert self.averages is not None
        states, tensors = self.averages.saved()
        if args.should_save:
            _write(_checkpoint(args, state), {"averages": states, "history": _history(state)}, tensors)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write each average as a model of its own, in the model's dtype."""
        assert self.averages is not None
        for name, average in self.averages.ready.items():
            with average.swapped(self._trainer.model):
                self._trainer.save_model(str(Path(str(args.output_dir)) / FOLDER / name))


def check_trainer(trainer: Trainer, resolved: ResolvedPlan) -> None:
    """Raise ConfigError when a trainer's steps, batches or order are not the plan's; warn when it stops early."""
    args, plan, data = trainer.args, resolved.plan, trainer.train_dataset
    found: dict[str, Any] = {
        "sequences of a step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "steps": trainer.state.max_steps,
    }
    wanted: dict[str, Any] = {
        "sequences of a step": plan.batch_sequences,
        "steps": min(resolved.steps, trainer.state.max_steps),
    }
    if isinstance(data, OrderDataset):
        found |= {"sampling": args.train_sampling_strategy, "tokens of a sequence": len(data[0]["input_ids"])}
        wanted |= {"sampling": "sequential", "tokens of a sequence": plan.sequence_length}
        found["steps that the order has"] = len(data) // plan.batch_sequences
        wanted["steps that the order has"] = max(found["steps that the order has"], trainer.state.max_steps)
    check_agreement(
        found, wanted, "TrainingArguments(output_dir, **training_arguments(resolved)), and an order as long as the plan"
    )
    if trainer.state.max_steps < resolved.steps:
        warnings.warn(f"the trainer ends after {trainer.state.max_steps} of the plan's {resolved.steps} steps",
                      stacklevel=2)  # fmt: skip


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _history(state: TrainerState) -> str:
    """What tells runs apart: all they have logged."""
    return fingerprint(json.dumps(state.log_history, sort_keys=True))


def _write(checkpoint: Path, states: States, tensors: Tensors) -> None:
    """Write averages into a checkpoint; the state comes last, so that what a kill left is not taken for whole."""
    folder = checkpoint / FOLDER
    folder.mkdir(exist_ok=True)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / _TENSORS)
    (folder / _STATE).write_text(json.dumps(states, indent=1) + "\n", encoding="utf-8")


def _read(checkpoint: Path, state: TrainerState) -> tuple[States, Tensors]:
    folder = checkpoint / FOLDER
    if not (folder / _STATE).exists():
        raise ArtifactError(
            f"there are no averages in {checkpoint.name}",
            where=str(folder),
            found="nothing; a run that was killed while it saved, or had no AveragingCallback, leaves that",
            fix="resume from the checkpoint before it, or say where the checkpoint is: "
            "AveragingCallback(trainer, resolved, resume_from=...)",
        )
    saved = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    if saved["history"] != _history(state):
        raise ArtifactError(
            f"the averages in {checkpoint.name} belong to another run than the one that is resumed",
            where=str(folder),
            fix="say where the checkpoint is: AveragingCallback(trainer, resolved, resume_from=...)",
        )
    return saved["averages"], load_file(folder / _TENSORS)
