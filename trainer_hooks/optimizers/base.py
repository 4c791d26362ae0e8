"""What the project's own optimizers share: named groups, state made before the first step, plain values to save.

A subclass says what state a parameter has (`new_state`) and how a group moves (`update`). All that belongs to a
parameter is tensors in `state[parameter]`; what belongs to a group is plain values under the keys in `SAVED`, which
are in torch's `state_dict` as part of the group, and in `extra_state` for checkpoints of named tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim.adamw import adamw

from corpus.errors import ArtifactError
from trainer_hooks.optimizers.groups import MATRICES

Group = dict[str, Any]
State = dict[str, torch.Tensor]


class NamedOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer whose parameters have names and whose state exists before the first step."""

    SAVED: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def new_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """The state of a parameter before its first step; empty when it has none."""

    @abstractmethod
    def update(self, group: Group) -> None:
        """Move those parameters of a group that have gradients."""

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the state of every parameter that has none."""
        for group in self.param_groups:
            for name, parameter in members(group):
                if not self.state[parameter]:
                    self.state[parameter] = self.new_state(group, name, parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the gradients in place; returns what the closure does, when there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.prepare()
        for group in self.param_groups:
            self.update(group)
        return loss

    def extra_state(self) -> dict[str, Any]:
        """What is to be saved besides the tensors of `state`, as JSON values: by group, then by key."""
        return {group["name"]: {key: group[key] for key in self.SAVED} for group in self.param_groups if self.SAVED}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from what `extra_state` gave; before tensors are loaded, as it may decide which there are.

        Raises ArtifactError when the groups are not the optimizer's.
        """
        own = [group["name"] for group in self.param_groups if self.SAVED]
        if set(own) != set(state):
            raise ArtifactError(
                f"the saved state is not that of {type(self).__name__}'s groups",
                expected=", ".join(own) or "none",
                found=", ".join(state) or "none",
                fix="use the model and the optimizer the run began with",
            )
        for group in self.param_groups:
            group.update({key: state[group["name"]][key] for key in self.SAVED})


class HiddenMatrixOptimizer(NamedOptimizer):
    """An optimizer with a rule of its own for hidden matrices, and AdamW for embeddings, head and vectors."""

    @abstractmethod
    def new_matrix_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """The state of a hidden matrix before its first step."""

    @abstractmethod
    def update_matrices(self, group: Group) -> None:
        """Move the hidden matrices that have gradients."""

    def new_state(self, group: Group, name: str, parameter: nn.Parameter) -> State:
        """The state of a parameter before its first step, by the rule of its group."""
        return self.new_matrix_state(group, name, parameter) if group["name"] == MATRICES else adamw_state(parameter)

    def update(self, group: Group) -> None:
        """Move a group by its rule."""
        if group["name"] == MATRICES:
            self.update_matrices(group)
        else:
            self.adamw(group, [parameter for _, parameter in with_gradients(group)])

    def adamw(self, group: Group, parameters: list[nn.Parameter]) -> None:
        """A step of torch's fused AdamW for some parameters of a group."""
        if not parameters:
            return
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list(parameters),
            [gradient(parameter) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def members(group: Group) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of a group."""
    return zip(group["param_names"], group["params"], strict=True)


def with_gradients(group: Group) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters of a group that have gradients."""
    return [(name, parameter) for name, parameter in members(group) if parameter.grad is not None]


def gradient(parameter: torch.Tensor) -> torch.Tensor:
    """The gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def adamw_state(parameter: torch.Tensor) -> State:
    """The state of torch's fused AdamW before its first step."""
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
    }
