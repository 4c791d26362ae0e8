"""FRUGAL (arXiv 2411.07837): AdamW for a part of the hidden matrices that changes, the gradient's sign for the rest.

Only the part under AdamW has moments, so its share (`density`) is the memory. Every `every` steps another part is
selected and begins with fresh moments. The part is whole matrices, or columns of every matrix. Embeddings, head and
vectors have AdamW throughout.

Selections depend on the seed and on how many there were. The matrices now under AdamW are saved by name, since which
of them have moments is part of what a checkpoint holds: load the extra state first, then the tensors.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from corpus.keyed_random import keyed_hashes
from trainer_hooks.optimizers.base import (
    Group,
    HiddenMatrixOptimizer,
    State,
    adamw_state,
    gradient,
    members,
    with_gradients,
)
from trainer_hooks.optimizers.groups import MATRICES, parameter_groups
from trainer_hooks.optimizers.kinds import Frugal
from trainer_hooks.optimizers.shards import local, zeros


class FrugalAdamW(HiddenMatrixOptimizer):
    """FRUGAL for the group of matrices, AdamW for the other groups."""

    SAVED = ("seed", "steps", "active")

    def __init__(self, model: nn.Module, settings: Frugal, lr: float, seed: int) -> None:
        """Optimize a model; random selections are drawn from `seed`."""
        self.settings = settings
        defaults = {"lr": lr, "betas": settings.betas, "eps": settings.eps, "seed": seed, "steps": 0, "active": None}
        super().__init__(parameter_groups(model, settings), defaults)

    def prepare(self) -> None:
        """Make the state of every parameter that has none, selecting matrices when none are yet."""
        for group in self.param_groups:
            if group["name"] == MATRICES and group["active"] is None:
                self._select(group, [name for name, _ in members(group)])
        super().prepare()

    def step(self, closure: Any = None) -> float | None:  # type: ignore[override]
        """One step; every so many, another part of the matrices comes under AdamW before it."""
        for group in self.param_groups:
            if group["name"] == MATRICES and group["steps"] % self.settings.every == 0:
                self._select(group, [name for name, _ in with_gradients(group)])
        loss = super().step(closure)
        for group in self.param_groups:
            group["steps"] += 1
        return loss

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with the saved selection: its matrices have moments, to be loaded next, and no others have."""
        super().load_extra_state(state)
        for group in self.param_groups:
            for name, parameter in members(group):
                if group["name"] == MATRICES and self.settings.unit == "tensors" and name not in group["active"]:
                    self.state[parameter] = {}
        self.prepare()

    def new_matrix_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """AdamW's moments: of a selected matrix, or of as many columns as are selected."""
        if self.settings.unit == "tensors":
            return adamw_state(parameter) if name in group["active"] else {}
        shape = parameter.shape[0], self.settings.count(parameter.shape[1])
        return {"step": torch.zeros(()), "exp_avg": zeros(shape, parameter), "exp_avg_sq": zeros(shape, parameter)}

    def update_matrices(self, group: Group) -> None:
        """W <- W (1 - lr decay) - lr (AdamW's direction where selected, free_scale sign(G) elsewhere)."""
        if self.settings.unit == "columns":
            for name, parameter in with_gradients(group):
                self._update_columns(group, name, parameter)
            return
        moving = with_gradients(group)
        self.adamw(group, [parameter for name, parameter in moving if name in group["active"]])
        for name, parameter in moving:
            if name not in group["active"]:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(gradient(parameter).sign(), alpha=-group["lr"] * self.settings.free_scale)

    def _update_columns(self, group: Group, name: str, parameter: nn.Parameter) -> None:
        """All of it acts on single entries, so each rank does its own rows."""
        lr, (beta1, beta2), state = group["lr"], group["betas"], self.state[parameter]
        weights, grad = local(parameter), local(gradient(parameter)).float()
        moment, square = local(state["exp_avg"]), local(state["exp_avg_sq"])
        state["step"] += 1
        step = int(state["step"])
        picked = torch.tensor(self._positions(group, name, parameter.shape[1]), dtype=torch.int64, device=grad.device)
        selected = grad[:, picked]
        moment.lerp_(selected, 1 - beta1)
        square.mul_(beta2).addcmul_(selected, selected, value=1 - beta2)
        update = grad.sign().mul_(self.settings.free_scale)
        update[:, picked] = moment / (1 - beta1**step) / (square / (1 - beta2**step)).sqrt().add_(group["eps"])
        weights.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr)

    def _select(self, group: Group, training: list[str]) -> None:
        """Choose the next matrices among those that train, and forget all moments of the group."""
        chosen = [training[i] for i in self._positions(group, "", len(training))]
        group["active"] = chosen if self.settings.unit == "tensors" else []
        for _, parameter in members(group):
            self.state[parameter] = {}

    def _positions(self, group: Group, name: str, among: int) -> list[int]:
        """The selection of the interval under way."""
        number = group["steps"] // self.settings.every
        return selection(self.settings, among, number, int(keyed_hashes(group["seed"], [f"{name} {number}"])[0]))


def selection(settings: Frugal, among: int, number: int, key: int) -> list[int]:
    """Which of `among` things come under AdamW in the selection with this number, rising.

    All selections are of one size, k. In order they are windows of k: 0 to k - 1, k to 2k - 1, and so on, the last one
    moved back to end at the end; `mirror` goes through them and back, without the ends twice. `key` is for `random`.
    """
    size = settings.count(among)
    if settings.order == "random":
        return sorted(np.random.default_rng(key).permutation(among)[:size].tolist())
    windows = -(-among // size) if size else 1
    at = number % windows
    if settings.order == "descending":
        at = windows - 1 - at
    if settings.order == "mirror" and windows > 1:
        turn = number % (2 * windows - 2)
        at = min(turn, 2 * windows - 2 - turn)
    start = min(at * size, among - size)
    return list(range(start, start + size))
