"""Output matrix and cross-entropy as one function that never holds the logits of a whole batch.

The logits of 4,096 tokens and a vocabulary of 8,192 are 128 MB, written and read several times by the usual
forward and backward. Here chunks of tokens go through once: logits, log-sum-exp, loss, and at once the
gradients of both inputs, which backward only scales. It needs no compiler and is the same mathematics:
logits and sums in float32, the two products in the autocast type.

    loss = linear_cross_entropy(hidden_NC, weight_VC, targets_N)
"""

from typing import Any

import torch

CHUNK_TOKENS = 512


def linear_cross_entropy(hidden_NC: torch.Tensor, weight_VC: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of softmax(hidden weight^T) against targets, in nats, a float32 scalar.

    Args:
        hidden_NC: (N, C) floating; weight_VC: (V, C) floating; targets_N: (N,) int64 in [0, V).
    """
    device = hidden_NC.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NC.dtype
    loss: torch.Tensor = _LinearCrossEntropy.apply(hidden_NC, weight_VC, targets_N, dtype)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NC: torch.Tensor, weight_VC: torch.Tensor, targets_N: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        n = hidden_NC.shape[0]
        backward = any(ctx.needs_input_grad[:2])
        weight = weight_VC.detach().to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden_NC.device)
        grad_hidden = torch.empty_like(hidden_NC) if backward else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if backward else None
        with torch.autocast(hidden_NC.device.type, enabled=False):
            for start in range(0, n, CHUNK_TOKENS):
                rows = slice(start, start + CHUNK_TOKENS)
                hidden, targets = hidden_NC[rows].detach().to(dtype), targets_N[rows, None]
                logits = (hidden @ weight.t()).float()
                right = logits.gather(1, targets)
                top = logits.amax(1, keepdim=True)
                exponents = logits.sub_(top).exp_()
                sums = exponents.sum(1, keepdim=True)
                total += (sums.log() + top - right).sum()
                if grad_hidden is not None and grad_weight is not None:
                    errors = exponents.mul_(1 / (sums * n)).scatter_add_(1, targets, torch.full_like(sums, -1 / n))
                    errors = errors.to(dtype)
                    grad_hidden[rows] = errors @ weight
                    if dtype == torch.float32:
                        grad_weight.addmm_(errors.t(), hidden)
                    else:
                        grad_weight += errors.t() @ hidden
        if grad_hidden is not None and grad_weight is not None:
            ctx.save_for_backward(grad_hidden, grad_weight.to(weight_VC.dtype))
        return total / n

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None
