"""Output matrix and cross-entropy as one function that never holds the logits of a whole batch.

The logits of 4,096 tokens and a vocabulary of 8,192 are 128 MB, written and read several times by the usual
forward and backward. Here chunks of tokens go through once: logits, log-sum-exp, loss, and at once the
gradients of both inputs, which backward only scales. It needs no compiler and is the same mathematics:
logits and sums in float32, the two products in the autocast type.

    total, losses = linear_cross_entropy(hidden_NC, weight_VC, targets_N)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch

Head = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(hidden (N, C), output matrix (V, C), targets (N,)) -> (sum of losses, with its graph; each loss (N,), without)."""

Chunk = Callable[[torch.Tensor, torch.Tensor, slice, bool], tuple[torch.Tensor, torch.Tensor]]
"""(logits (n, V) float32, free to be overwritten, targets (n,), which rows these are, whether gradients are wanted) ->
(losses (n,), the gradient of their sum by the logits (n, V); anything where none are wanted)."""

_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)
CHUNK_TOKENS = 512
IGNORED = -100
"""The target of a position that is not predicted, as torch's cross_entropy has it."""


@contextmanager
def compiled_chunks(on: bool) -> Iterator[None]:
    """Whether the chunks of plain cross-entropy are compiled inside the block, where gradients are wanted."""
    token = _COMPILED.set(on)
    try:
        yield
    finally:
        _COMPILED.reset(token)


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
    return chunked_loss(hidden_NC, weight_VC, targets_N, cross_entropy)


def chunked_loss(
    hidden_NC: torch.Tensor, weight_VC: torch.Tensor, targets_N: torch.Tensor, chunk: Chunk
) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss of the logits hidden weight^T, given by `chunk`, which sees `CHUNK_TOKENS` rows of them at a time.

    Arguments and result as of `linear_cross_entropy`.
    """
    device = hidden_NC.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NC.dtype
    learns = torch.is_grad_enabled() and (hidden_NC.requires_grad or weight_VC.requires_grad)
    result: tuple[torch.Tensor, torch.Tensor] = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        hidden_NC, weight_VC, targets_N, dtype, learns, chunk
    )
    return result


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NC: torch.Tensor,
        weight_VC: torch.Tensor,
        targets_N: torch.Tensor,
        dtype: torch.dtype,
        learns: bool,
        chunk: Chunk,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight = weight_VC.detach().to(dtype)
        losses = torch.empty(targets_N.shape, dtype=torch.float32, device=hidden_NC.device)
        grad_hidden = torch.empty_like(hidden_NC) if learns else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if learns else None
        evaluated = _compiled_plain if _COMPILED.get() and learns and chunk is cross_entropy else _evaluated
        with torch.autocast(hidden_NC.device.type, enabled=False):
            for start in range(0, len(targets_N), CHUNK_TOKENS):
                rows = slice(start, start + CHUNK_TOKENS)
                hidden = hidden_NC[rows].detach().to(dtype)
                losses[rows], errors = evaluated(hidden @ weight.t(), targets_N[rows], rows, learns, chunk)
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
        return grad_hidden * grads[0], grad_weight * grads[0], None, None, None, None


def _evaluated(
    logits: torch.Tensor, targets: torch.Tensor, rows: slice, learns: bool, chunk: Chunk
) -> tuple[torch.Tensor, torch.Tensor]:
    """A chunk of logits in the matmul type; the gradient is in that type too."""
    losses, errors = chunk(logits.float(), targets, rows, learns)
    return losses, errors.to(logits.dtype) if learns else errors


def _compiled_plain(
    logits: torch.Tensor, targets: torch.Tensor, rows: slice, learns: bool, chunk: Chunk
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of plain cross-entropy, compiled; which rows these are plays no part in it, nor in its compilation."""
    result: tuple[torch.Tensor, torch.Tensor] = _compile()(logits, targets, slice(None), True, cross_entropy)
    return result


@cache
def _compile() -> Any:
    return torch.compile(_evaluated, dynamic=False)


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, rows: slice, learns: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The chunk of plain cross-entropy; it writes over the logits."""
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
    return losses, errors
