"""A module trained by Lightning under a plan: the plan's rates, order and averages.

    python -m trainer_hooks.examples.lightning WORKSPACE orders/climb tokens/heldout/SHARD.npy runs/mine

Started again, it goes on from its newest checkpoint.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from corpus.config import validated
from corpus.tokens import read_token_shard
from curriculum.order import Order
from curriculum.order_shards import open_shards
from trainer_hooks.integrations.lightning import AveragingCallback, OrderBatches, ScheduleCallback
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve

VOCABULARY = 4096
PLAN = {
    "tokens": "4M", "sequence_length": 256, "batch_sequences": 16, "peak_lr": 0.003,
    "schedule": {"kind": "constant", "warmup": "2%"},
    "average": {"wma": {"kind": "wma", "last": 6, "window": "20%"}},
}  # fmt: skip


class LanguageModel(LightningModule):
    """A small decoder; any module will do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.decoder = Decoder(ModelConfig(vocabulary=VOCABULARY), seed)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean next-token loss in nats."""
        return cross_entropy(self.decoder(batch["input_ids"]).flatten(0, 1), batch["targets"].flatten())

    def training_step(self, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
        """The loss to go down by."""
        return self.loss(batch)

    def validation_step(self, batch: dict[str, torch.Tensor], number: int) -> None:
        """Log the loss of the model's own weights."""
        self.log("raw/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer alone: its rate comes from the plan."""
        return torch.optim.AdamW(self.parameters())


def rows(shard: Path, length: int) -> list[dict[str, torch.Tensor]]:
    """A token shard in whole rows of inputs and targets."""
    tokens = torch.from_numpy(read_token_shard(shard).astype("int64"))
    starts = range(0, len(tokens) - length, length)
    return [{"input_ids": tokens[a : a + length], "targets": tokens[a + 1 : a + length + 1]} for a in starts]


def main(workspace: Path, order_name: str, heldout_shard: str, folder: Path, plan_data: dict[str, Any] = PLAN) -> None:
    """Open what the workspace holds and train on it."""
    plan = validated(Plan, plan_data, "plan")
    resolved, order = resolve(plan), Order.open(workspace / order_name)
    heldout = DataLoader(rows(workspace / heldout_shard, plan.sequence_length), plan.batch_sequences)  # type: ignore[arg-type, var-annotated]

    def loss(module: Any) -> dict[str, float]:
        each = [(module.loss(module.transfer_batch_to_device(b, module.device, 0)), len(b["targets"])) for b in heldout]
        return {"loss": sum(float(value) * n for value, n in each) / sum(n for _, n in each)}

    saving = ModelCheckpoint(folder, save_last=True, save_top_k=0, every_n_train_steps=resolved.checkpoint_every_steps)
    averaging = AveragingCallback(resolved, evaluate=loss)
    trainer = Trainer(
        max_steps=resolved.steps, val_check_interval=resolved.eval_every_steps, gradient_clip_val=plan.grad_clip,
        callbacks=[ScheduleCallback(resolved), averaging, saving], default_root_dir=folder, logger=False,
    )  # fmt: skip
    module, last = LanguageModel(plan.seed), folder / "last.ckpt"
    batches = OrderBatches(order, open_shards(order, workspace), resolved)
    trainer.fit(module, batches, heldout, ckpt_path=last if last.exists() else None)
    averaging.write(module, folder / "averages")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
