"""Which parameters decay: matrices do; norm scales, biases and embeddings (also tied ones) do not."""

from typing import Any

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups of a model, `weight_decay` apart: matrices, and all others with none."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim >= 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim < 2 or "embed" in name]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
