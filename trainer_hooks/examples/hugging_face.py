"""A Hugging Face model trained by its `Trainer` under a plan: the plan's rates, order and averages.

    python -m trainer_hooks.examples.hugging_face WORKSPACE orders/climb tokens/heldout/SHARD.npy runs/mine

Started again, it goes on from its newest checkpoint. Under torchrun the processes share each batch.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from corpus.config import validated
from corpus.tokens import read_token_shard
from curriculum.order import Order
from curriculum.order_shards import open_shards
from trainer_hooks.datasets import OrderDataset
from trainer_hooks.integrations.hugging_face import AveragingCallback, ScheduleCallback, training_arguments
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve

PLAN = {
    "tokens": "4M", "sequence_length": 256, "batch_sequences": 16, "peak_lr": 0.003,
    "schedule": {"kind": "constant", "warmup": "2%"},
    "average": {"wma": {"kind": "wma", "last": 6, "window": "20%"}},
}  # fmt: skip


def new_model() -> Any:
    """A small Llama; any causal language model will do."""
    shape = LlamaConfig(
        vocab_size=4096, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=2
    )
    return LlamaForCausalLM(shape)  # type: ignore[no-untyped-call]


def rows(shard: Path, length: int) -> list[dict[str, torch.Tensor]]:
    """A token shard in whole rows, as the trainer evaluates them."""
    tokens = torch.from_numpy(read_token_shard(shard).astype("int64"))
    return [{"input_ids": row, "labels": row} for row in tokens[: len(tokens) // length * length].view(-1, length)]


def main(workspace: Path, order_name: str, heldout_shard: str, folder: Path, plan_data: dict[str, Any] = PLAN) -> None:
    """Open what the workspace holds and train on it."""
    plan = validated(Plan, plan_data, "plan")
    resolved, order = resolve(plan), Order.open(workspace / order_name)
    arguments = TrainingArguments(str(folder), report_to=[], **training_arguments(resolved))
    trainer = Trainer(
        new_model(),
        arguments,
        train_dataset=OrderDataset(order, open_shards(order, workspace), plan.sequence_length),
        eval_dataset=rows(workspace / heldout_shard, plan.sequence_length),
    )
    trainer.add_callback(ScheduleCallback(trainer, resolved))
    trainer.add_callback(AveragingCallback(trainer, resolved))
    trainer.train(resume_from_checkpoint=get_last_checkpoint(folder))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
