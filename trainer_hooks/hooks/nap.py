"""NaP: keep hidden matrices at the norms they had at the start, so that the learning rate means the same all along.

After an update each hidden matrix becomes W <- |W(0)| W / |W| (Frobenius norms; arXiv 2407.01800). In a normalised
network the scale of such a matrix does not change what it computes, but divides its effective learning rate; growing
norms are then a hidden decay, which with NaP the plan's curve has to make. Embeddings and the output matrix are left
alone. Norm scales are too, or are projected together.
"""

from typing import Any

import torch

from corpus.errors import ConfigError
from trainer_hooks.hooks.base import Hook, Tensors, TrainingRun
from trainer_hooks.hooks.kinds import Nap
from trainer_hooks.hooks.shards import summed
from trainer_hooks.optimizers.shards import local

SCALES = "norm scales"


class NapHook(Hook):
    """Projects after every n-th update; it remembers the initial norms."""

    kind = "nap"

    def __init__(self, settings: Nap) -> None:
        self.settings = settings
        self.norms: dict[str, float] = {}

    def start(self, run: TrainingRun) -> None:
        """Take the initial norms. Raises ConfigError where a matrix begins at 0 and could never leave it."""
        self.norms = self._norms_now(run)
        zero = [name for name, norm in self.norms.items() if not norm > 0]
        if zero:
            raise ConfigError(
                f"{zero[0]} begins with norm {self.norms[zero[0]]:g}, and NaP would hold it there",
                expected="matrices that do not begin at 0",
                where="plan.hooks, nap",
                fix="draw it at random, or leave the hook out",
            )

    @torch.no_grad()
    def after_update(self, run: TrainingRun) -> None:
        """Scale each hidden matrix to its initial norm."""
        if (run.step + 1) % self.settings.every:
            return
        now = self._norms_now(run)
        for name, parameters in self._groups(run).items():
            if now[name] > 0:
                for parameter in parameters:
                    local(parameter).mul_(self.norms[name] / now[name])

    def state(self) -> dict[str, Any]:
        """The initial norms by parameter name."""
        return {"norms": self.norms}

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Take the norms of a checkpoint. Raises ConfigError when they are of other matrices."""
        if set(state["norms"]) != set(self.norms):
            raise ConfigError(
                "the saved norms are not those of this model and hook",
                expected=f"{len(self.norms)} norms",
                found=f"{len(state['norms'])}, {sorted(set(state['norms']) ^ set(self.norms))[:2]} in one only",
                where="plan.hooks, nap",
                fix="keep the model, and scales as they were",
            )
        self.norms = dict(state["norms"])

    def _groups(self, run: TrainingRun) -> dict[str, list[torch.Tensor]]:
        """Parameters that are projected by one factor, under the name of their norm."""
        named = [(name, p) for name, p in run.model.named_parameters() if not is_embedding(name)]
        groups: dict[str, list[torch.Tensor]] = {name: [p] for name, p in named if p.ndim >= 2}
        if self.settings.scales == "joint":
            groups[SCALES] = [p for name, p in named if p.ndim < 2 and not name.endswith("bias")]
        return groups

    @torch.no_grad()
    def _norms_now(self, run: TrainingRun) -> dict[str, float]:
        groups = self._groups(run)
        tensors = [parameter for parameters in groups.values() for parameter in parameters]
        squares = torch.stack(torch._foreach_norm([local(tensor) for tensor in tensors])).double().square()
        parts = iter(summed(squares, tensors, run.parallel).tolist())
        return {name: sum(next(parts) for _ in parameters) ** 0.5 for name, parameters in groups.items()}


def is_embedding(name: str) -> bool:
    """Whether a parameter is the embedding or the output matrix."""
    return "embed" in name or name.startswith("lm_head")
