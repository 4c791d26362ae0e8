"""Schedule-free AdamW (arXiv 2405.15682; facebookresearch/schedule_free): averaging instead of a decay of the rate.

Three points: z moves by AdamW, x is a weighted mean of all z, and the gradient is taken between them at
y = (1 - b) z + b x. In training the parameters hold y, and only z is kept beside them, as x = y + (1 - 1/b)(z - y).
Models are evaluated and exported at x: inside `swapped`, or with the weights of `average`.

    optimizer = kinds.ScheduleFree().make(model, peak_lr=0.0025)
    ...                                                        # steps at a rate that warms up and then stays
    with optimizer.swapped(model):
        evaluate(model)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
from torch import nn

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging import reshard, unique_tensors
from trainer_hooks.optimizers.base import Group, NamedOptimizer, State, gradient, members, with_gradients
from trainer_hooks.optimizers.groups import parameter_groups
from trainer_hooks.optimizers.kinds import ScheduleFree

TRAINING, AVERAGE = "training", "average"
Tensors = list[torch.Tensor]


class ScheduleFreeAdamW(NamedOptimizer):
    """AdamW with an average of its own; parameters hold y, but x inside `swapped`."""

    SAVED = ("steps", "weight_sum", "lr_max", "mode")

    def __init__(self, model: nn.Module, settings: ScheduleFree, lr: float) -> None:
        """Optimize a model."""
        self.settings, self.model = settings, model
        fresh = {"steps": 0, "weight_sum": 0.0, "lr_max": 0.0, "mode": TRAINING}
        super().__init__(
            parameter_groups(model, settings), {"lr": lr, "betas": settings.betas, "eps": settings.eps, **fresh}
        )

    def new_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """z, which begins at the parameter, and the second moment."""
        return {
            "z": parameter.detach().clone(memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }

    def update(self, group: Group) -> None:
        """A step of z along AdamW's direction, with the decay at y, and of y with it."""
        if group["mode"] != TRAINING:
            raise ConfigError(
                "the parameters hold the average of schedule-free training, not the point of the gradient",
                expected="a step outside of swapped(model)",
                found="a step inside of it",
            )
        weight = next_weight(group, self.settings)
        parameters: Tensors = [parameter for _, parameter in with_gradients(group)]
        if not parameters:
            return
        grads = [gradient(parameter) for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        directions = adam_directions(grads, squares, group["betas"][1], group["eps"], group["steps"])
        if group["weight_decay"]:
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
        slow = [self.state[parameter]["z"] for parameter in parameters]
        move(parameters, slow, directions, group["lr"], weight, group["betas"][0])

    @property
    def ready(self) -> bool:
        """Whether there is an average yet: after the first step."""
        return any(group["steps"] for group in self.param_groups)

    @torch.no_grad()
    def average(self) -> dict[str, torch.Tensor]:
        """x by parameter name, float32, and buffers and what does not train as they are; in new tensors.

        There is none of a parameter that has left the model.
        """
        self.prepare()
        reshard(self.model)
        averages = {name: value.detach().clone() for name, value in unique_tensors(self.model).items()}
        for group in self.param_groups:
            present = [(name, parameter) for name, parameter in members(group) if name in averages]
            averages |= {name: self._average_of(group, parameter) for name, parameter in present}
        return averages

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[nn.Module]:
        """Lend x to the model this optimizes; its own weights come back bit for bit afterwards."""
        averages = self.average()
        named = [pair for group in self.param_groups for pair in members(group) if pair[0] in averages]
        kept = [parameter.detach().clone() for _, parameter in named]
        before = [group["mode"] for group in self.param_groups]
        try:
            _write([parameter for _, parameter in named], [averages[name] for name, _ in named])
            self._set_modes([AVERAGE] * len(before))
            yield model
        finally:
            reshard(model)  # what an evaluation left gathered is the average's, and would be used again
            _write([parameter for _, parameter in named], kept)
            self._set_modes(before)

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from what `extra_state` gave.

        Raises ArtifactError for a mode that is not that of training: unknown, or saved inside `swapped`.
        """
        modes = {str(values.get("mode")) for values in state.values()}
        if modes - {TRAINING}:
            raise ArtifactError(
                "this state of schedule-free training was not saved between two steps",
                expected=f"mode {TRAINING!r}: parameters hold the point of the gradient",
                found=f"mode {', '.join(sorted(modes))}",
                fix="go on from a checkpoint that was taken outside of swapped(model)",
            )
        super().load_extra_state(state)

    def _average_of(self, group: Group, parameter: nn.Parameter) -> torch.Tensor:
        own = parameter.detach().float()
        if group["mode"] == AVERAGE:
            return own.clone()
        return own.lerp(self.state[parameter]["z"].float(), 1 - 1 / group["betas"][0])

    def _set_modes(self, modes: list[str]) -> None:
        for group, mode in zip(self.param_groups, modes, strict=True):
            group["mode"] = mode


def next_weight(group: Group, settings: ScheduleFree) -> float:
    """The weight of a step's z in x: its share of all weights so far, which are k^step_power max(lr)^weight_power.

    Counts the step, from 1, and keeps the largest rate and the sum of weights in the group; 0 while all rates are 0.
    """
    group["steps"] += 1
    group["lr_max"] = max(group["lr_max"], float(group["lr"]))
    weight = float(group["steps"] ** settings.step_power * group["lr_max"] ** settings.weight_power)
    group["weight_sum"] += weight
    return float(weight / group["weight_sum"]) if group["weight_sum"] else 0.0


def adam_directions(grads: Tensors, squares: Tensors, beta2: float, eps: float, step: int) -> Tensors:
    """g / (sqrt(v / (1 - beta2^step)) + eps), in new tensors; moves the second moments v."""
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_div_(roots, sqrt(1 - beta2**step))
    torch._foreach_add_(roots, eps)
    return list(torch._foreach_div(grads, roots))


def move(y: Tensors, z: Tensors, directions: Tensors, lr: float, weight: float, beta: float) -> None:
    """z <- z - lr u, x <- (1 - c) x + c z, and y between them, all in place, where x is not kept but follows from y.

    With c the weight and b = beta, y moves to (1 - c) y + c z - lr (1 - b (1 - c)) u for the z before the step.
    """
    torch._foreach_lerp_(y, z, weight)
    torch._foreach_add_(y, directions, alpha=-lr * (1 - beta * (1 - weight)))
    torch._foreach_add_(z, directions, alpha=-lr)


@torch.no_grad()
def _write(parameters: list[nn.Parameter], values: Tensors) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
