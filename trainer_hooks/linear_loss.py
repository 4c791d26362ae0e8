"""Output matrix and cross-entropy as one function that never holds the logits of a whole batch.

The logits of 4,096 tokens and a vocabulary of 8,192 are 128 MB, written and read several times by the usual
forward and backward. Here chunks of tokens go through once: logits, log-sum-exp, loss, and at once the
gradients of both inputs, which backward only scales. It needs no compiler and is the same mathematics:
logits and sums in float32, the two products in the autocast type.

    total, losses = linear_cross_entropy(hidden_NC, weight_VC, targets_N)
"""

from collections.abc import Callable
from typing import Any

import torch

Head = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(hidden (N, C), output matrix (V, C), targets (N,)) -> (sum of losses, with its graph; each loss (N,), without)."""

CHUNK_TOKENS = 512
IGNORED = -100
"""The target of a position that is not predicted, as torch's cross_entropy has it."""


def linear_cross_entropy(
    hidden_NC: torch.Tensor, weight_VC: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of softmax(hidden weight^T) against targets, in nats, float32.

    Args:
        hidden_NC: (N, C) floating; weight_VC: (V, C) floating; targets_N: (N,) int64 in [0, V), or -100 where
            nothing is predicted.

    Returns the sum over predicted targets, a scalar with its graph, and each target's loss (N,), detached, 0 where
    nothing is predicted.
    """
    device = hidden_NC.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NC.dtype
    learns = torch.is_grad_enabled() and (hidden_NC.requires_grad or weight_VC.requires_grad)
    result: tuple[torch.Tensor, torch.Tensor] = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_NC, weight_VC, targets_N, dtype, learns
    )
    return result


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NC: torch.Tensor,
        weight_VC: torch.Tensor,
        targets_N: torch.Tensor,
        dtype: torch.dtype,
        learns: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight = weight_VC.detach().to(dtype)
        losses = torch.empty(targets_N.shape, dtype=torch.float32, device=hidden_NC.device)
        grad_hidden = torch.empty_like(hidden_NC) if learns else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if learns else None
        with torch.autocast(hidden_NC.device.type, enabled=False):
            for start in range(0, len(targets_N), CHUNK_TOKENS):
                rows = slice(start, start + CHUNK_TOKENS)
                hidden = hidden_NC[rows].detach().to(dtype)
                losses[rows], errors = _chunk(hidden, weight, targets_N[rows], learns)
                if grad_hidden is not None and grad_weight is not None:
                    grad_hidden[rows] = errors @ weight
                    if dtype == torch.float32:
                        grad_weight.addmm_(errors.t(), hidden)
                    else:
                        grad_weight += errors.t() @ hidden
        if grad_hidden is not None and grad_weight is not None:
            ctx.save_for_backward(grad_hidden, grad_weight.to(weight_VC.dtype))
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None, None


def _chunk(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, learns: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (n,) and, when `learns`, the gradient of their sum by the logits (n, V), in the type of `hidden`."""
    logits = (hidden @ weight.t()).float()
    predicted, ids = (targets != IGNORED)[:, None], targets.clamp(min=0)[:, None]
    right = logits.gather(1, ids)
    top = logits.amax(1, keepdim=True)
    exponents = logits.sub_(top).exp_()
    sums = exponents.sum(1, keepdim=True)
    losses = (sums.log() + top - right).where(predicted, 0.0)[:, 0]
    if not learns:
        return losses, logits
    share = predicted.float()
    errors = exponents.mul_(share / sums).scatter_add_(1, ids, -share)
    return losses, errors.to(hidden.dtype)
