"""Learn from the next token and from teachers: (1 - w) cross-entropy + w T^2 KL(teachers || student), per token.

Several teachers are read as one, by the normalised mean of their log-probabilities (`objectives.ensemble`). Both
sides of the divergence are softened by the temperature T, and T^2 keeps its gradient in the measure of the other's.
Teachers read the batch in the same pass and their logits come chunk by chunk, so those of a whole batch are never held;
each rank has all of every teacher.

    plan: {objective: {kind: distill, teachers: [runs/a, {path: runs/b, weights: ema}], weight: 0.5}}

Source: arXiv 1503.02531 for the loss. arXiv 2509.14786 brings ensembles into one model through text sampled from them;
here the student reads their probabilities on the run's own text, so the gains reported there are no evidence for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import xxhash
from torch import nn

from corpus.errors import ConfigError
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.linear_loss import IGNORED, Head, chunked_loss, cross_entropy
from trainer_hooks.loading import load_model
from trainer_hooks.model import Decoder
from trainer_hooks.objectives.base import Objective
from trainer_hooks.objectives.ensemble import State, last_states, mean_logits
from trainer_hooks.objectives.kinds import Distill


class DistillObjective(Objective):
    """Next-token prediction mixed with the predictions of teachers, whose weights do not move."""

    def __init__(self, settings: Distill) -> None:
        """Load the teachers. Raises ArtifactError and ConfigError as `trainer_hooks.loading.load_model`."""
        self.settings = settings
        self._teachers = [load_model(Path(teacher.path), teacher.weights).model for teacher in settings.teachers]
        for teacher in self._teachers:
            teacher.requires_grad_(False)

    def start(self, model: nn.Module, device: torch.device) -> None:
        """Move the teachers to the student's device. Raises ConfigError for one of another vocabulary."""
        assert isinstance(model, Decoder)
        for settings, teacher in zip(self.settings.teachers, self._teachers, strict=True):
            if teacher.config.vocabulary != model.config.vocabulary:
                raise ConfigError(
                    "this teacher does not predict the student's tokens",
                    expected=f"a vocabulary of {model.config.vocabulary:,} ids",
                    found=f"{teacher.config.vocabulary:,}",
                    where=f"plan.objective.teachers: {settings.path}",
                    fix="take a teacher trained with the same tokenizer and vocabulary",
                )
            teacher.to(device)

    def identity(self) -> dict[str, Any]:
        """A hash of each teacher's weights, which a resumed run must find again."""
        return {"teachers": [_weights_hash(teacher) for teacher in self._teachers]}

    def head(self, inputs_BT: torch.Tensor, documents_BT: torch.Tensor | None) -> Head:
        """The mixed loss for a batch; the teachers read it when the head is called."""
        settings = self.settings

        def mixed(
            hidden_NC: torch.Tensor, weight_VC: torch.Tensor, targets_N: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                states = [last_states(teacher, inputs_BT, documents_BT) for teacher in self._teachers]
            return distillation_loss(hidden_NC, weight_VC, targets_N, states, settings.weight, settings.temperature)

        return mixed


def distillation_loss(
    hidden_NC: torch.Tensor,
    weight_VC: torch.Tensor,
    targets_N: torch.Tensor,
    teachers: Sequence[State],
    weight: float,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(1 - w) cross-entropy + w T^2 KL(teachers || student) at temperature T, in nats.

    Args:
        hidden_NC, weight_VC, targets_N: as of `trainer_hooks.linear_loss.linear_cross_entropy`.
        teachers: the states of each at the same N positions.
        weight: w in [0, 1]; temperature: T above 0.

    Returns the sum over predicted targets with its graph, and each one's loss (N,), detached.
    """

    def chunk(
        logits: torch.Tensor, targets: torch.Tensor, rows: slice, learns: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        taught = F.log_softmax(mean_logits(teachers, rows).div_(temperature), 1)
        own = F.log_softmax(logits / temperature, 1)
        expected = taught.exp()
        divergence = (expected * taught.sub_(own)).sum(1).where(targets != IGNORED, 0.0)
        losses, errors = cross_entropy(logits, targets, rows, learns)
        losses = (1 - weight) * losses + weight * temperature**2 * divergence
        if learns:
            pull = own.exp_().sub_(expected).mul_((targets != IGNORED)[:, None])
            errors = errors.mul_(1 - weight).add_(pull, alpha=weight * temperature)
        return losses, errors

    return chunked_loss(hidden_NC, weight_VC, targets_N, chunk)


def _weights_hash(model: nn.Module) -> str:
    """xxh3-64 of all weights by name, 16 hex digits; the same from a checkpoint and from an export in float32."""
    digest = xxhash.xxh3_64()
    for name, tensor in sorted(unique_tensors(model).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
