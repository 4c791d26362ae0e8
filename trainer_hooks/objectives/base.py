"""What a run minimises, as a head: a function from the last hidden states to a loss.

The model applies the head inside its own forward pass, so that an objective works under any way of spreading the
model. `next_token` is the head of plain training.
"""

from typing import Any

import torch
from torch import nn

from trainer_hooks.linear_loss import Head, linear_cross_entropy

__all__ = ["Head", "Objective"]


class Objective:
    """Next-token prediction; others override `head`."""

    def start(self, model: nn.Module, device: torch.device) -> None:
        """Called once before training; loads what the objective needs beside the model."""

    def identity(self) -> dict[str, Any]:
        """What the objective depends on beyond its settings, as plain JSON values; a resumed run must find it again."""
        return {}

    def head(self, inputs_BT: torch.Tensor, documents_BT: torch.Tensor | None) -> Head:
        """The head for a batch; `documents` numbers the document of each token, where documents are masked."""
        return linear_cross_entropy
