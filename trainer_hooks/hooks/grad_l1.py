"""Log the L1 norm of the whole gradient of each step, before clipping, as `grad_l1`.

A schedule refined from a run's gradient norms uses the L1 norm for Adam and the L2 norm, which every run logs, for SGD
(arXiv 2310.07831).
"""

import torch

from trainer_hooks.hooks.base import Hook, TrainingRun
from trainer_hooks.hooks.shards import gradients, summed
from trainer_hooks.optimizers.shards import local


class GradL1Hook(Hook):
    """Adds `grad_l1` to the facts of each step."""

    kind = "grad_l1"

    def after_backward(self, run: TrainingRun) -> None:
        """Sum the absolute values of all gradients, over all ranks where they are sharded."""
        grads = list(gradients(run.model).values())
        norms = torch.stack(torch._foreach_norm([local(grad) for grad in grads], 1))
        run.facts["grad_l1"] = float(summed(norms, grads, run.parallel).sum(dtype=torch.float64))
