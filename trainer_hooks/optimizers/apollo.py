"""APOLLO and APOLLO-Mini (arXiv 2412.05270): the gradient itself, scaled by what AdamW would do in a low rank.

A hidden matrix's gradient is projected on a few random directions of its shorter side; AdamW's moments are kept of
that projection alone, and tell how much larger or smaller its step is than the gradient, for each channel of the
longer side (APOLLO) or for the whole matrix (Mini). Embeddings, head and vectors have AdamW.

Projections are never kept: each step draws them from the run's seed, the parameter's name and how often they have
been redrawn. So the state is the moments, a step counter and a norm, and a resumed run has the same projections.

Shapes: n is a matrix's longer side, m its shorter one (of a square one: rows are n), r the rank.
"""

from math import sqrt

import torch
from torch import nn
from torch.linalg import vector_norm

from corpus.keyed_random import keyed_hashes
from trainer_hooks.optimizers.base import Group, HiddenMatrixOptimizer, State, gradient, with_gradients
from trainer_hooks.optimizers.groups import parameter_groups
from trainer_hooks.optimizers.kinds import Apollo, ApolloMini
from trainer_hooks.optimizers.shards import everywhere, product, zeros
from trainer_hooks.parallel import whole

_EPS = 1e-8


class ApolloAdamW(HiddenMatrixOptimizer):
    """APOLLO for the group of matrices, AdamW for the other groups."""

    SAVED = ("seed",)

    def __init__(
        self, model: nn.Module, settings: Apollo | ApolloMini, lr: float, seed: int, *, per_channel: bool
    ) -> None:
        """Optimize a model; projections are drawn from `seed`, with a factor for each channel or for a matrix."""
        self.settings, self.per_channel = settings, per_channel
        defaults = {"lr": lr, "betas": settings.betas, "eps": settings.eps, "seed": seed}
        super().__init__(parameter_groups(model, settings), defaults)

    def new_matrix_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """Moments (n, r) of the projected gradient, steps taken, and the norm of the last update."""
        shape = max(parameter.shape), self.settings.rank_of(tuple(parameter.shape))
        return {
            "step": torch.zeros(()),
            "exp_avg": zeros(shape, parameter),
            "exp_avg_sq": zeros(shape, parameter),
            "update_norm": torch.zeros((), device=parameter.device),
        }

    def update_matrices(self, group: Group) -> None:
        """W <- (W - lr sqrt(scale) u) (1 - lr decay) with u the scaled gradient, its norm's growth limited."""
        lr, (beta1, beta2) = group["lr"], group["betas"]
        for name, parameter in with_gradients(group):
            state = self.state[parameter]
            state["step"] += 1
            step = int(state["step"])
            update = self._scaled_gradient(group, name, parameter, state, step)
            norm = whole(vector_norm(update))
            factor = growth_limit(norm, state["update_norm"], self.settings.growth)
            state["update_norm"].copy_(norm * factor)
            correction = sqrt(1 - beta2**step) / (1 - beta1**step)
            update.mul_(everywhere(factor, update))
            parameter.add_(update, alpha=-lr * sqrt(self.settings.scale) * correction)
            parameter.mul_(1 - lr * group["weight_decay"])

    def _scaled_gradient(
        self, group: Group, name: str, parameter: nn.Parameter, state: State, step: int
    ) -> torch.Tensor:
        grad = gradient(parameter).float()
        wide = grad.shape[0] < grad.shape[1]
        tall_nm = grad.T if wide else grad
        redraws = (step - 1) // self.settings.every
        rank = state["exp_avg"].shape[1]
        directions_mr = projection(group["seed"], name, redraws, tall_nm.shape[1], rank, parameter.device)
        projected_nr = product(tall_nm, directions_mr, parameter)
        adapted_nr = adapted(projected_nr, state, group["betas"], group["eps"])
        scales = ratio(adapted_nr, projected_nr, self.per_channel)
        scaled_nm = tall_nm * everywhere(scales, tall_nm)
        return scaled_nm.T if wide else scaled_nm


def projection(seed: int, name: str, redraws: int, m: int, r: int, device: torch.device) -> torch.Tensor:
    """Random directions, (m, r) float32 with entries N(0, 1/r), the same for the same arguments on a kind of device."""
    key = int(keyed_hashes(seed, [f"{name} {redraws}"])[0]) >> 1
    generator = torch.Generator(device).manual_seed(key)
    return torch.randn(m, r, generator=generator, device=device).mul_(r**-0.5)


def adapted(projected: torch.Tensor, state: State, betas: tuple[float, float], eps: float) -> torch.Tensor:
    """AdamW's direction M / (sqrt(V) + eps) for a projected gradient, uncorrected for bias; moves the moments."""
    moment = state["exp_avg"].lerp_(projected, 1 - betas[0])
    square = state["exp_avg_sq"].mul_(betas[1]).addcmul_(projected, projected, value=1 - betas[1])
    return moment / square.sqrt().add_(eps)


def ratio(adapted: torch.Tensor, projected: torch.Tensor, per_channel: bool) -> torch.Tensor:
    """How much longer AdamW's direction is than the gradient: (n, 1) by channel, or one number; whole on all ranks."""
    if per_channel:
        channels = vector_norm(adapted, dim=1, keepdim=True) / (vector_norm(projected, dim=1, keepdim=True) + _EPS)
        return whole(channels)
    return whole(vector_norm(adapted)) / (whole(vector_norm(projected)) + _EPS)


def growth_limit(norm: torch.Tensor, previous: torch.Tensor, growth: float) -> torch.Tensor:
    """The factor, at most 1, that brings a norm to no more than growth x previous; 1 where there is no previous."""
    factor = (growth * previous / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
    return torch.where(previous > 0, factor, torch.ones_like(factor))
