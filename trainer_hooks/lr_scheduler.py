"""A plan's learning rate as a `torch.optim.lr_scheduler`, for trainers that want one.

The rate of step i is a pure function of i and the plan's phases; the scheduler's only state is i. Its state dict holds
the phases too, and a state of other phases is refused, so an edited plan cannot bend a curve in mid-run unnoticed.

    scheduler = PlanLR(optimizer, resolve(plan))
    for batch in batches:
        loss(batch).backward()
        optimizer.step()
        scheduler.step()                                     # once an optimizer step
        optimizer.zero_grad()

A parameter group with another peak has `lr_multiplier`: `{"params": matrices, "lr_multiplier": 6.7}`.
"""

from typing import Any

import torch

from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from trainer_hooks.curves import learning_rate, step_learning_rates
from trainer_hooks.plan import ResolvedPlan


class PlanLR(torch.optim.lr_scheduler.LRScheduler):
    """Sets each group's rate to the plan's, at the midpoint of the step under way, times its `lr_multiplier`.

    After the plan's last step the end of its curve is held, with a warning when a further step is counted; a plan that
    ends at rate 0 raises ConfigError there.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, resolved: ResolvedPlan, last_epoch: int = -1) -> None:
        """Set the rate of the first step, or, with `last_epoch`, of the step after so many.

        Raises ConfigError where groups of different multipliers share one tensor as their rate.
        """
        held = [id(group["lr"]) for group in optimizer.param_groups if isinstance(group["lr"], torch.Tensor)]
        if len(set(held)) < len(held) and any("lr_multiplier" in group for group in optimizer.param_groups):
            raise ConfigError(
                "parameter groups share one tensor as their learning rate, so they cannot differ by lr_multiplier",
                fix="give each group an lr tensor of its own",
            )
        self.resolved, self.rates = resolved, step_learning_rates(resolved)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rate of every parameter group in the step under way."""
        rate = self._rate(self.last_epoch)
        return [rate * group.get("lr_multiplier", 1.0) for group in self.optimizer.param_groups]

    def _rate(self, step: int) -> float:
        if step < self.resolved.steps:
            return float(self.rates[step])
        return float(learning_rate(step * self.resolved.step_tokens, self.resolved))  # the end itself is no step

    def state_dict(self) -> dict[str, Any]:
        """The steps taken, and the curve they were taken on; plain JSON values."""
        return {"last_epoch": self.last_epoch, "step_count": self._step_count, "curve": self._curve()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the steps of a state, with the rate that belongs there.

        Raises ConfigError, naming what differs, when the state is of another curve.
        """
        saved, here = state_dict["curve"], self._curve()
        differing = [
            f"{name} was {saved.get(name)}, is now {here.get(name)}"
            for name in {**saved, **here}
            if saved.get(name) != here.get(name)
        ]
        if differing:
            raise ConfigError(
                "this scheduler's state is of a plan with another learning-rate curve",
                found="; ".join(differing),
                fix="load it into the plan it was saved with, or begin a new run for the new plan",
            )
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["step_count"]
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _curve(self) -> dict[str, Any]:
        """All that the rates depend on, flat, so that a difference has a name; a table by its fingerprint."""
        found: dict[str, Any] = {
            "step_tokens": self.resolved.step_tokens,
            "steps": self.resolved.steps,
            "lr_multiplier": [group.get("lr_multiplier", 1.0) for group in self.optimizer.param_groups],
        }
        for index, phase in enumerate(self.resolved.phases):
            for name, value in phase.model_dump(mode="json").items():
                found[f"phases.{index}.{name}"] = fingerprint(value) if name == "table" else value
        return found
