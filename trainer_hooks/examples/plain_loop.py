"""A loop of your own under a plan: fifteen lines that train, average, evaluate, save, and can be killed at any time.

    python -m trainer_hooks.examples.plain_loop WORKSPACE orders/climb tokens/heldout/SHARD.npy runs/mine

The model may be any torch module that turns token ids into logits. Started again, it goes on from its checkpoint to
the same weights.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from corpus.config import validated
from corpus.shards import atomic_path
from curriculum.order import Order
from curriculum.order_shards import open_shards
from trainer_hooks.averaging import RunningAverage
from trainer_hooks.evaluation import HeldOut, evaluate
from trainer_hooks.loader import OrderedLoader
from trainer_hooks.lr_scheduler import PlanLR
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


def train(model: nn.Module, loader: OrderedLoader, plan: Plan, heldout: HeldOut, folder: Path) -> None:
    """Train the model, or go on where a checkpoint is."""
    resolved, checkpoint = resolve(plan), folder / "checkpoint.pt"
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = PlanLR(optimizer, resolved)
    averages = {name: average.averager(model) for name, average in resolved.averages.items()}
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    if checkpoint.exists():
        load(checkpoint, parts, averages)

    for step in range(scheduler.last_epoch + 1, resolved.steps + 1):
        inputs, targets = loader.next_batch()
        cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), plan.grad_clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        for average in averages.values():
            if average.resolved.takes(step * resolved.step_tokens):
                average.update(model, step * resolved.step_tokens)
        if resolved.evaluates(step):
            report(step, model, averages, heldout, plan)
        if step % resolved.checkpoint_every_steps == 0 or step == resolved.steps:
            save(checkpoint, parts, averages)


def report(step: int, model: nn.Module, averages: dict[str, RunningAverage], heldout: HeldOut, plan: Plan) -> None:
    """Print the held-out loss of the model's own weights and of each average that has begun."""
    losses = {"raw": evaluate(model, heldout, plan.sequence_length, plan.batch_sequences)}
    for name, average in averages.items():
        if average.ready:
            with average.swapped(model):
                losses[name] = evaluate(model, heldout, plan.sequence_length, plan.batch_sequences)
    print(step, *(f"{name} {loss.nats_per_token:.6f}" for name, loss in losses.items()), flush=True)


def save(checkpoint: Path, parts: dict[str, Any], averages: dict[str, RunningAverage]) -> None:
    """Write everything that a step changes, whole or not at all."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state["averages"] = {name: (average.state(), average.tensors()) for name, average in averages.items()}
    with atomic_path(checkpoint) as temporary:
        torch.save(state, temporary)


def load(checkpoint: Path, parts: dict[str, Any], averages: dict[str, RunningAverage]) -> None:
    """Put everything back."""
    state = torch.load(checkpoint, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    for name, average in averages.items():
        average.load(*state["averages"][name])


def main(workspace: Path, order_name: str, heldout_shard: str, folder: Path, plan_data: dict[str, Any] = PLAN) -> None:
    """Open what the workspace holds and train on it."""
    plan = validated(Plan, plan_data, "plan")
    order = Order.open(workspace / order_name)
    loader = OrderedLoader(order, open_shards(order, workspace), plan.sequence_length, plan.batch_sequences)
    heldout = HeldOut.from_shards([workspace / heldout_shard])
    folder.mkdir(parents=True, exist_ok=True)
    train(Decoder(ModelConfig(vocabulary=VOCABULARY), plan.seed), loader, plan, heldout, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
