"""Matrices spread over ranks by FSDP2: made, multiplied and cut so that results equal those of one process.

Each function takes plain tensors too and is then the plain operation, so an optimizer is written once.
`trainer_hooks.parallel.whole` gathers; these are the ways back.
"""

import torch
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.distributed.tensor import zeros as sharded_zeros


def zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Float32 zeros on the devices of `like` and cut as it is (FSDP2 cuts the first dimension)."""
    if isinstance(like, DTensor):
        return sharded_zeros(*shape, dtype=torch.float32, device_mesh=like.device_mesh, placements=like.placements)
    return torch.zeros(shape, dtype=torch.float32, device=like.device)


def cut(full: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that every rank has whole, cut as `like` is; nothing is sent."""
    if isinstance(like, DTensor):
        return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
    return full


def everywhere(full: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that every rank has whole, in a form that can be combined with `like`."""
    if isinstance(like, DTensor):
        mesh = like.device_mesh
        return DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return full


def product(left: torch.Tensor, right: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`left @ right`, cut as `like` is; `right` is whole on every rank, partial sums are added over ranks."""
    result = left @ everywhere(right, left)
    if isinstance(result, DTensor) and isinstance(like, DTensor):
        return result.redistribute(placements=like.placements)
    return result


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that lies on this rank; writing to it writes to the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
