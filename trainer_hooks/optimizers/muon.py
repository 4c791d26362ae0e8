"""Muon: momentum made orthogonal, for hidden matrices, with AdamW for everything else in the same optimizer.

The same bits as torch.optim.Muon in one process; it exists beside it because a matrix that FSDP2 spreads over ranks
has to be gathered first: orthogonality is a property of the whole. Every rank then works out every matrix.
Momentum stays sharded.

    optimizer = kinds.Muon(adjust="original", lr_ratio=10).make(model, peak_lr=0.002)      # matrices peak at 0.02
"""

from math import sqrt

import torch
from torch import nn

from trainer_hooks.optimizers.base import Group, HiddenMatrixOptimizer, State, gradient, with_gradients
from trainer_hooks.optimizers.groups import MATRICES, parameter_groups
from trainer_hooks.optimizers.kinds import Muon
from trainer_hooks.optimizers.shards import cut
from trainer_hooks.parallel import whole

A, B, C = 3.4445, -4.7750, 2.0315
_EPS = 1e-7


class MuonAdamW(HiddenMatrixOptimizer):
    """Muon for the group of matrices, AdamW for the other groups."""

    def __init__(self, model: nn.Module, settings: Muon, lr: float) -> None:
        """Optimize a model; `lr` is the peak of what AdamW has."""
        self.settings = settings
        groups = parameter_groups(model, settings)
        for group in groups:
            ratio = settings.lr_ratio if group["name"] == MATRICES else 1.0
            group |= {"lr": lr * ratio, "lr_multiplier": ratio}
        super().__init__(groups, {"lr": lr, "betas": settings.betas, "eps": settings.eps})

    def new_matrix_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """A momentum of zeros."""
        return {"momentum_buffer": torch.zeros_like(parameter, memory_format=torch.preserve_format)}

    def update_matrices(self, group: Group) -> None:
        """m <- b m + (1 - b) g; W <- W (1 - lr decay) - lr factor NS(m, or with Nesterov (1 - b) g + b m)."""
        settings, lr = self.settings, group["lr"]
        dtype = torch.bfloat16 if settings.ns_precision == "bf16" else torch.float32
        for _, parameter in with_gradients(group):
            grad, momentum = gradient(parameter), self.state[parameter]["momentum_buffer"]
            momentum.lerp_(grad, 1 - settings.momentum)
            ahead = grad.lerp(momentum, settings.momentum) if settings.nesterov else momentum
            update = newton_schulz(whole(ahead), settings.ns_steps, dtype)
            parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(cut(update, parameter), alpha=-lr * rate_factor(tuple(parameter.shape), settings.adjust))


def newton_schulz(matrix: torch.Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A matrix of about the same singular vectors, with singular values near 1 (in about 0.68 to 1.14 after 5 steps).

    X / max(||X||, 1e-7), then in each step X <- a X + (b S + c S S) X with S = X X^T, on the shorter side; in `dtype`.
    The polynomial is that of KellerJordan/Muon and torch.optim.Muon.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(dtype, copy=True)
    x = x.T if tall else x
    x.div_(x.norm().clamp(min=_EPS))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if tall else x


def rate_factor(shape: tuple[int, ...], adjust: str) -> float:
    """The factor of a (rows, columns) matrix's rate: `original`, or `match_rms_adamw` (arXiv 2502.16982)."""
    rows, columns = shape
    return sqrt(max(1.0, rows / columns)) if adjust == "original" else 0.2 * sqrt(max(rows, columns))
