"""Data-parallel training in one process or many: ranks, sums over them, and how a model is spread (DDP, FSDP2).

Processes are those of `torchrun`, which tells each its rank. Without it there is one, and every sum is the tensor
itself. All ranks must come to the same decisions, so whatever is decided on is summed first.

    with Parallel.join() as parallel:            # under torchrun: gloo on CPUs, NCCL on GPUs
        spread = parallel.spread(model, "fsdp")  # called like the model
        total = parallel.sum(local_total)
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn

from corpus.errors import ConfigError

Spreading = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Parallel:
    """This process among those that train one model together."""

    rank: int = 0
    world: int = 1
    group: Any = None
    """A gloo group of its own for work in the background, which never meets training's messages; None for one rank."""

    @classmethod
    @contextmanager
    def join(cls) -> Iterator["Parallel"]:
        """The processes that torchrun started, joined for the length of the block, or this one alone.

        Where a process group exists already it is used and left as it is.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            yield cls()
            return
        mine = not dist.is_initialized()
        if mine:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        try:
            yield cls(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))
        finally:
            if mine:
                dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def device(self, asked: str | None) -> torch.device:
        """The device of this rank: the one asked for, else its own GPU, else the CPU."""
        if asked is None:
            asked = "cuda" if torch.cuda.is_available() else "cpu"
        if asked == "cuda" and self.world > 1:
            asked = f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}"
        device = torch.device(asked)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device

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

    def told(self, value: Any) -> Any:
        """The first rank's value, on every rank; a plain JSON value."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, here: bool) -> bool:
        """Whether something holds on at least one rank."""
        return here if self.world == 1 else bool(self.sum(torch.tensor(int(here))) > 0)

    def wait(self) -> None:
        """Return when every rank is here."""
        if self.world > 1:
            dist.barrier()

    def spread(self, model: nn.Module, kind: Spreading) -> "Spread":
        """The model over all ranks: `ddp` copies it, `fsdp` cuts every parameter (FSDP2, layer by layer).

        Under fsdp the model's own parameters become DTensors. Raises ConfigError for another kind.
        """
        if self.world == 1:
            return Spread(model, None)
        if kind == "ddp":
            # Guided layers drop a branch in mid-run; only then are parameters without a gradient looked for.
            guided = any(getattr(layer, "guided_tokens", None) for layer in model.modules())
            return Spread(nn.parallel.DistributedDataParallel(model, find_unused_parameters=guided), "ddp")
        if kind == "fsdp":
            return Spread(_fully_sharded(model), "fsdp")
        raise ConfigError(f"a model cannot be spread by {kind!r}", expected="ddp or fsdp")


@dataclass(frozen=True)
class Spread:
    """A model to be called in training, however it is spread over ranks."""

    module: nn.Module
    kind: Spreading | None

    def __call__(self, *inputs: Any) -> Any:
        """The module's forward pass."""
        return self.module(*inputs)

    def synchronising(self, last: bool) -> AbstractContextManager[Any]:
        """A context for one of several backward passes; ranks exchange gradients in the last one only."""
        if self.kind == "ddp" and not last:
            no_sync: AbstractContextManager[Any] = self.module.no_sync()  # type: ignore[operator]
            return no_sync
        if self.kind == "fsdp":
            self.module.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with all its parts: a DTensor is gathered from every rank, others are as they are."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def _fully_sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    # The root is cut again after each forward pass too: an evaluation has no backward pass that would do it, and would
    # leave whole copies of weights behind that an average has lent.
    for layer in model.model.layers:  # type: ignore[union-attr]
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return model
