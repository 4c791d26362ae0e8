"""Adapt the learning rate by whether new gradients agree with the direction of the last update.

A factor on the plan's curve grows while the gradient g_t points along the last direction u_{t-1}, and falls when it
points back: eta_t = eta_{t-1} (1 + beta cos(g_t, u_{t-1})), one inner product over all parameters and all ranks, held
within bounds. The additive form eta_t = eta_{t-1} + beta <g_t, u_{t-1}> is the published one (Baydin et al.,
hypergradient descent); it depends on the gradient's scale. The factor is found after the backward pass and counts for
the same step.
"""

import math
from typing import Any

import torch

from corpus.errors import ConfigError
from trainer_hooks.hooks.base import Hook, Tensors, TrainingRun
from trainer_hooks.hooks.kinds import Hypergradient
from trainer_hooks.hooks.shards import gradients, summed
from trainer_hooks.optimizers.shards import local


class HypergradientHook(Hook):
    """Multiplies the rate; it remembers its factor and, for the direction `gradient`, the last gradient."""

    kind = "hypergradient"

    def __init__(self, settings: Hypergradient) -> None:
        self.settings = settings
        self.factor = 1.0
        self._last: Tensors = {}
        self._run: TrainingRun | None = None

    def start(self, run: TrainingRun) -> None:
        """Keep the run, whose parameters give the last gradient its shape."""
        self._run = run

    @torch.no_grad()
    def after_backward(self, run: TrainingRun) -> None:
        """Move the factor and multiply the step's rate by it."""
        product, cosine = self._agreement(run)
        change = self._change(product, cosine, run.resolved.plan.peak_lr)
        if math.isfinite(change):
            self.factor = min(max(self.factor + change, self.settings.low), self.settings.high)
        run.rate *= self.factor
        run.facts["hypergradient/factor"] = self.factor
        run.facts["hypergradient/cosine"] = cosine if math.isfinite(cosine) else None

    @torch.no_grad()
    def after_update(self, run: TrainingRun) -> None:
        """Keep the gradient of the update as its direction."""
        if self.settings.direction == "gradient":
            last = self.tensors()
            for name, grad in gradients(run.model).items():
                local(last[name]).copy_(local(grad))

    def state(self) -> dict[str, Any]:
        """The factor."""
        return {"factor": self.factor}

    def tensors(self) -> Tensors:
        """The last gradient by parameter name, where it is the direction; zeros before the first update."""
        if self.settings.direction == "gradient" and not self._last:
            assert self._run is not None
            self._last = {name: torch.zeros_like(p.detach()) for name, p in self._run.model.named_parameters()}
        return self._last

    @torch.no_grad()
    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Go on with the factor and direction of a checkpoint."""
        self.factor = float(state["factor"])
        for name, value in self.tensors().items():
            local(value).copy_(local(tensors[name]))

    def _change(self, product: float, cosine: float, peak: float) -> float:
        """What is added to the factor; it is 0 before the first update."""
        if self.settings.form == "relative":
            return self.factor * self.settings.beta * cosine
        return self.settings.beta * product / peak

    def _agreement(self, run: TrainingRun) -> tuple[float, float]:
        """<g, u> and cos(g, u) of the new gradient and the last direction; both 0 where there is none."""
        directions, tensors, sums = self._directions(run), [], []
        for name, grad in gradients(run.model).items():
            if name in directions:
                g, u = local(grad).float().ravel(), directions[name].ravel()
                tensors.append(grad)
                sums.append(torch.stack([g.dot(u), g.dot(g), u.dot(u)]))
        if not sums:
            return 0.0, 0.0
        columns = torch.stack(sums).double().T
        product, gg, uu = (float(summed(column, tensors, run.parallel).sum()) for column in columns)
        length = math.sqrt(gg) * math.sqrt(uu)
        return product, product / length if length else 0.0

    def _directions(self, run: TrainingRun) -> Tensors:
        """Local parts of the last update's direction, float32: the moments in place are still those of that step."""
        if self.settings.direction == "gradient":
            return {name: local(value).float() for name, value in self.tensors().items()}
        groups = {p: group for group in run.optimizer.param_groups for p in group["params"]}
        found = {}
        for name, parameter in run.model.named_parameters():
            state = run.optimizer.state.get(parameter)
            if state and not {"exp_avg", "exp_avg_sq", "step"} <= set(state):
                raise ConfigError(
                    f"{type(run.optimizer).__name__} keeps no Adam moments for {name}",
                    where="plan.hooks, hypergradient.direction",
                    fix="write direction: gradient",
                )
            if state:
                found[name] = adam_direction(state, groups[parameter]["betas"], groups[parameter]["eps"])
        return found


def adam_direction(state: dict[str, Any], betas: tuple[float, float], eps: float) -> torch.Tensor:
    """The local part of m / (sqrt(v) + eps), float32, with the bias corrections of the step that made the moments.

    Before the first step it is 0. The number of steps is not read back from a device.
    """
    step = torch.as_tensor(state["step"], dtype=torch.float64)
    first, second = (torch.clamp(1 - beta**step, min=1e-30).float() for beta in betas)
    root = (local(state["exp_avg_sq"]).float() / second).sqrt_().add_(eps)
    return local(state["exp_avg"]).float() / first / root
