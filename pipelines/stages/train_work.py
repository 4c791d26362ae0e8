"""The work of a training task: one arm of an experiment, from an order to an exported model.

It runs in a process of its own, resumes at its last checkpoint, and leaves a run folder whose every file is
listed in the manifest. Losses are measured on each source's held-out documents apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.artifacts import Artifact, own_files
from corpus.errors import TaskError
from corpus.events import EVENTS
from curriculum.order import Order
from curriculum.order_shards import open_shards
from pipelines.heldout_sets import heldout_sets
from pipelines.reading import TOKENIZER
from pipelines.tally import Tally
from pipelines.tasks import note_progress
from pipelines.trained import leave
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan

if TYPE_CHECKING:
    from trainer_hooks.throughput import Progress


@dataclass(frozen=True)
class TrainWork:
    """Train on one order under one plan. Artifacts are named relative to the workspace `root`."""

    root: Path
    order: str
    heldout: str
    tokenizer: str
    plan: Plan
    model: ModelConfig

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Train or continue in `folder`, export the model that the plan ends with, and name every file."""
        from trainer_hooks.trainer import train

        order = Order.open(self.root / self.order)
        arrays = open_shards(order, self.root)
        heldout = heldout_sets(Artifact(self.root / self.heldout).files(".npy"))

        def on_step(progress: "Progress") -> None:
            note_progress(folder, progress.step, progress.steps)

        result = train(
            order, arrays, heldout, self.model, self.plan, folder, on_step=on_step, events=self.root / EVENTS
        )
        if result.stopped:
            raise TaskError(
                f"train: stopped after step {result.step:,} of {result.steps:,}",
                found=result.stopped,
                where=str(folder),
                fix="run the same command again: it goes on at the checkpoint",
            )
        totals = leave(result, self.model, self.root / self.tokenizer / TOKENIZER, folder)
        tally.totals.update(totals)
        return list(own_files(folder))
