"""Make an optimizer's state before its first step, so that a checkpoint can be loaded into it in place.

torch's optimizers make state in their first step, too late for that.

    optimizer = settings.make(model, peak_lr)
    prepare_state(optimizer)                     # optimizer.state[parameter] is complete; nothing has moved
"""

import torch

from corpus.errors import ConfigError
from trainer_hooks.optimizers.base import NamedOptimizer, adamw_state


def prepare_state(optimizer: torch.optim.Optimizer) -> None:
    """Make every state tensor that is missing, as it is before a first step; parameters do not move.

    An optimizer with `load_extra_state` wants that before: FRUGAL's extra state says which matrices have moments.
    Raises ConfigError for an optimizer that is neither one of ours nor torch's fused AdamW.
    """
    if isinstance(optimizer, NamedOptimizer):
        optimizer.prepare()
        return
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or not all(
        group["fused"] and not group["amsgrad"] for group in optimizer.param_groups
    ):
        raise ConfigError(
            f"the state of {type(optimizer).__name__} cannot be made before its first step",
            expected="an optimizer of a plan, or torch.optim.AdamW(fused=True)",
            fix="make it with a settings class of trainer_hooks.optimizers.kinds",
        )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and not optimizer.state[parameter]:
                optimizer.state[parameter] = adamw_state(parameter)
