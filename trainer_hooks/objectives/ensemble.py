"""Several models as one: the normalised mean of their log-probabilities, p ~ exp(mean of log p_i).

That is the softmax of their mean logits, because logits and log-probabilities of a model differ by one number a
position. Its loss is the mean of the members' losses plus log Z, and log Z is never above 0: an ensemble is never worse
than its mean member. (The mean of probabilities is another rule.) Members may differ in shape, not in vocabulary.

    ensemble = Ensemble([load_model(path).model for path in paths])
    evaluate(ensemble, heldout, sequence_length=256, batch_sequences=16)           # as any model is evaluated
    evaluate_ensemble(ensemble, heldout, 256, 16).log_z                            # and beside its members

Source: arXiv 2509.14786, ensembles of models trained with other seeds or orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from corpus.errors import ConfigError
from trainer_hooks.evaluation import HeldOut, Loss, evaluate
from trainer_hooks.linear_loss import chunked_loss, cross_entropy
from trainer_hooks.model import Decoder

State = tuple[torch.Tensor, torch.Tensor]
"""Last hidden states (N, C) and the output matrix (V, C), in the type of matrix products."""


class Ensemble(nn.Module):
    """Decoders read as one; it has no gradients of its own."""

    def __init__(self, members: Sequence[Decoder]) -> None:
        """Put members together. Raises ConfigError for none, or for members of several vocabularies."""
        super().__init__()
        sizes = {member.config.vocabulary for member in members}
        if len(sizes) != 1:
            raise ConfigError(
                "models can be put together only over one vocabulary",
                expected="one or more models of one vocabulary",
                found=", ".join(f"{size:,} ids" for size in sorted(sizes)) or "no models",
            )
        self.members = nn.ModuleList(members)

    @torch.no_grad()
    def forward(
        self,
        ids_BT: torch.Tensor,
        targets_BT: torch.Tensor | None = None,
        documents_BT: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Mean logits (B, T, V) or, with targets, the sum of losses and each target's loss (B T,), as a decoder has."""
        states = [last_states(member, ids_BT, documents_BT) for member in self.members]
        if targets_BT is None:
            return mean_logits(states, slice(None)).view(*ids_BT.shape, -1)
        return ensemble_loss(states, targets_BT.flatten())


def last_states(model: nn.Module, ids_BT: torch.Tensor, documents_BT: torch.Tensor | None) -> State:
    """What a decoder predicts from, without the logits, which a whole batch has no room for."""
    found: list[State] = []

    def keep(
        hidden_NC: torch.Tensor, weight_VC: torch.Tensor, targets_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device = hidden_NC.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NC.dtype
        found.append((hidden_NC.to(dtype), weight_VC.detach().to(dtype)))
        return hidden_NC.new_zeros(()), hidden_NC.new_zeros(len(targets_N))

    model(ids_BT, ids_BT, documents_BT, keep)
    return found[0]


def mean_logits(states: Sequence[State], rows: slice) -> torch.Tensor:
    """The mean over models of the logits at some positions, (n, V) float32."""
    hidden, weight = states[0]
    total = (hidden[rows] @ weight.t()).float()
    for hidden, weight in states[1:]:
        total += (hidden[rows] @ weight.t()).float()
    return total.div_(len(states))


def ensemble_loss(states: Sequence[State], targets_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of an ensemble's losses and each target's (N,), 0 where the target is -100."""

    def chunk(
        logits: torch.Tensor, targets: torch.Tensor, rows: slice, learns: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if len(states) > 1:
            logits += mean_logits(states[1:], rows).mul_(len(states) - 1)
        return cross_entropy(logits.div_(len(states)), targets, rows, learns)

    with torch.no_grad():
        return chunked_loss(*states[0], targets_N, chunk)


@dataclass(frozen=True)
class EnsembleLoss:
    """The loss of an ensemble beside those of its members.

    Args:
        log_z: mean nats a token by which it is below the mean of its members, 0 or less.
    """

    loss: Loss
    members: tuple[Loss, ...]
    log_z: float


def evaluate_ensemble(
    ensemble: Ensemble,
    heldout: HeldOut,
    sequence_length: int,
    batch_sequences: int,
    dtype: torch.dtype = torch.float32,
) -> EnsembleLoss:
    """Held-out losses of an ensemble and of each member; arguments as of `trainer_hooks.evaluation.evaluate`."""
    of = [evaluate(model, heldout, sequence_length, batch_sequences, dtype) for model in (ensemble, *ensemble.members)]
    loss, members = of[0], tuple(of[1:])
    mean = sum(member.nats_per_token for member in members) / len(members)
    return EnsembleLoss(loss, members, loss.nats_per_token - mean)
