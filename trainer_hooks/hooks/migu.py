"""MIGU: in continual training, update only the rows of linear layers whose outputs are largest (arXiv 2406.17245).

For each linear layer S is the sum over the tokens of a step of |output|, a number for each output. Rows of the weight's
gradient are multiplied by 1[S >= quantile(S, q)] before clipping. It needs no data of earlier stages. Biases, norms,
embeddings and the output matrix are not masked; query, key and value are layers of their own.

`faithful` is what was published: momentum and decay still move masked rows. `freeze_masked` puts masked rows back after
the update. `random` masks as many rows by lot: the control.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from trainer_hooks.hooks.base import Hook, TrainingRun, in_steps
from trainer_hooks.hooks.kinds import Migu
from trainer_hooks.optimizers.shards import cut, local

HEAD = "lm_head"


class MiguHook(Hook):
    """Masks gradient rows; it remembers nothing from one step to the next."""

    kind = "migu"

    def __init__(self, settings: Migu) -> None:
        self.settings = settings
        self._layers: dict[str, nn.Linear] = {}
        self._magnitudes: dict[str, torch.Tensor] = {}
        self._resting: dict[str, torch.Tensor] = {}  # local rows that do not move in this step
        self._before: dict[str, torch.Tensor] = {}

    def start(self, run: TrainingRun) -> None:
        """Listen to the outputs of every linear layer. Raises ConfigError for a model without any."""
        for name, module in run.model.named_modules():
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] != HEAD:
                self._layers[name] = module
                self._magnitudes[name] = torch.zeros(module.out_features, device=run.device)
                module.register_forward_hook(_adding_to(self._magnitudes[name]))
        if not self._layers:
            raise ConfigError("this model has no linear layers to mask", where="plan.hooks, migu")

    def before_step(self, run: TrainingRun) -> None:
        """Forget what was seen since the last step."""
        for magnitude in self._magnitudes.values():
            magnitude.zero_()

    @torch.no_grad()
    def after_backward(self, run: TrainingRun) -> None:
        """Multiply gradient rows by the step's masks."""
        self._resting, self._before = {}, {}
        if run.step < in_steps(self.settings.after, run.resolved):
            return
        masks = self._masks(run)
        for name, keep in masks.items():
            weight = self._layers[name].weight
            if weight.grad is None:
                continue
            kept = local(cut(keep, weight.grad))
            local(weight.grad).mul_(kept[:, None])
            if self.settings.mode == "freeze_masked":
                self._resting[name], self._before[name] = ~kept, local(weight).clone()
        run.facts["migu/kept"] = float(torch.cat(list(masks.values())).mean(dtype=torch.float32))

    @torch.no_grad()
    def after_update(self, run: TrainingRun) -> None:
        """In the mode `freeze_masked`, put masked rows back."""
        for name, resting in self._resting.items():
            weight = local(self._layers[name].weight)
            weight.copy_(torch.where(resting[:, None], self._before[name], weight))
        self._resting, self._before = {}, {}

    def _masks(self, run: TrainingRun) -> dict[str, torch.Tensor]:
        """Which rows of each layer move, bool (outputs,), equal on every rank."""
        sizes = [len(magnitude) for magnitude in self._magnitudes.values()]
        total = torch.split(run.parallel.sum(torch.cat(list(self._magnitudes.values()))), sizes)
        masks = {}
        for name, magnitude in zip(self._magnitudes, total, strict=True):
            if self.settings.mask == "random":
                magnitude = _lots(self.settings.seed, run.step, name, magnitude)
            masks[name] = kept_rows(magnitude, self.settings.quantile)
        return masks


def kept_rows(magnitude: torch.Tensor, quantile: float) -> torch.Tensor:
    """The rows that move: bool (n,), those of magnitude (n,) not below its quantile (linear between values)."""
    return magnitude >= torch.quantile(magnitude, quantile)


def _lots(seed: int, step: int, name: str, like: torch.Tensor) -> torch.Tensor:
    key = int(keyed_hashes(seed, [f"{step} {name}"])[0] >> 1)
    return torch.rand(len(like), generator=torch.Generator().manual_seed(key)).to(like.device)


def _adding_to(magnitude: torch.Tensor) -> Callable[[nn.Module, Any, torch.Tensor], None]:
    def add(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if torch.is_grad_enabled():  # evaluations do not count
            with torch.no_grad():
                magnitude.add_(output.detach().abs().flatten(0, -2).sum(0, dtype=torch.float32))

    return add
