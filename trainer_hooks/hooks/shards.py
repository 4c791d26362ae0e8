"""Sums over whole parameters and gradients, whether they are sharded over ranks or not.

Under FSDP2 they are DTensors that hold some rows on each rank; in one process, and under DDP, they are whole. Hooks
compute on the local part (`trainer_hooks.optimizers.shards.local`) and add up with `summed`, so they are written once.
"""

from collections.abc import Sequence

import torch
from torch.distributed.tensor import DTensor

from trainer_hooks.parallel import Parallel


def summed(values: torch.Tensor, tensors: Sequence[torch.Tensor], parallel: Parallel) -> torch.Tensor:
    """Sums over whole tensors from sums over local parts, (n,) for n tensors: those of sharded ones are added up."""
    sharded = [isinstance(tensor, DTensor) for tensor in tensors]
    if not any(sharded):
        return values
    return torch.where(torch.tensor(sharded, device=values.device), parallel.sum(values), values)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradients in place, by parameter name."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
