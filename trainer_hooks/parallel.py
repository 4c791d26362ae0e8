"""Data-parallel training in one process or many: ranks, sums over them, and how a model is spread (DDP, FSDP2).

Processes are those of `torchrun`, which tells each its rank. Without it there is one, and every sum is the tensor
itself.

    parallel = Parallel.from_environment()       # under torchrun: joins the group (gloo on CPUs, NCCL on GPUs)
    total = parallel.sum(local_total)
"""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Parallel:
    """This process among those that train one model together."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> "Parallel":
        """The process that torchrun started, or the only one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks of a tensor that every rank has, in a new tensor (with one rank: the tensor itself)."""
        if self.world == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean over ranks."""
        return self.sum(tensor) / self.world
