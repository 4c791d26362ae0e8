"""Feed-forward matrices as products of two factors, and the dense matrix that can guide their first training.

Fewer parameters and multiplications than a dense matrix of the same shape (arXiv 2406.16450, section 2). Guided, a
layer gives share x (W x) + (1 - share) x factors(x), where W starts as the product of the factors and the share falls
from 1 to 0 along a half cosine over `guided_tokens`. Then W is gone: from the layer, from the model's parameters and
from what is saved. All of this follows from the tokens seen, which `set_progress` is told.

    layer = LowRankLinear(1024, 4096, rank=256, guided_tokens=500_000_000)
    layer.set_progress(tokens)
"""

from math import cos, pi

import torch
import torch.nn.functional as F
from torch import nn


class FactoredLinear(nn.Module):
    """Two factors, the first applied first, with a guiding matrix or without; a subclass says how they apply."""

    dense: nn.Parameter | None
    guidance: torch.Tensor

    def __init__(
        self, inputs: int, first: tuple[int, ...], second: tuple[int, ...], outputs: int, guided_tokens: int | None
    ) -> None:
        super().__init__()
        self.inputs, self.guided_tokens = inputs, guided_tokens
        self.first = nn.Parameter(torch.empty(first))
        self.second = nn.Parameter(torch.empty(second))
        self.register_parameter("dense", nn.Parameter(torch.empty(outputs, inputs)) if guided_tokens else None)
        self.register_buffer("guidance", torch.ones(()), persistent=False)  # a tensor, so that nothing is recompiled

    def factors(self, x: torch.Tensor) -> torch.Tensor:
        """The product of the factors applied to (..., inputs), giving (..., outputs)."""
        raise TypeError(f"{type(self).__name__} does not define factors")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        structured = self.factors(x)
        if self.dense is None:
            return structured
        return self.guidance * F.linear(x, self.dense) + (1 - self.guidance) * structured

    def set_progress(self, tokens: int) -> None:
        """Set the guidance of the step that begins after `tokens` tokens; the matrix goes at `guided_tokens`."""
        if self.dense is None or self.guided_tokens is None:
            return
        if tokens >= self.guided_tokens:
            self.register_parameter("dense", None)
        else:
            self.guidance.fill_(guidance(tokens, self.guided_tokens))

    @torch.no_grad()
    def initialise(self, std: float, generator: torch.Generator) -> None:
        """Draw the factors so that entries of their product have a standard deviation of `std`, and copy that product.

        The first factor keeps the size of its input's features; the second makes up for the sums over what lies
        between an input and an output.
        """
        fan_in = self.first.shape[-1]
        paths = self.second.shape[-1] * self.first.shape[-2] / self.between
        for factor, size in ((self.first, fan_in**-0.5), (self.second, std * (fan_in / paths) ** 0.5)):
            factor.copy_(torch.empty(factor.shape).normal_(0.0, size, generator=generator))
        if self.dense is not None:
            self.dense.copy_(self.product())

    @property
    def between(self) -> int:
        """Features between the factors."""
        return self.first.shape[:-1].numel()

    @torch.no_grad()
    def product(self) -> torch.Tensor:
        """The factors as one dense matrix, (outputs, inputs), in their type; shuffles and all."""
        device, dtype = self.first.device, self.first.dtype
        with torch.autocast(device.type, enabled=False):
            return self.factors(torch.eye(self.inputs, device=device, dtype=dtype)).t().contiguous()


class LowRankLinear(FactoredLinear):
    """second (outputs, rank) @ first (rank, inputs)."""

    def __init__(self, inputs: int, outputs: int, rank: int, guided_tokens: int | None = None) -> None:
        super().__init__(inputs, (rank, inputs), (outputs, rank), outputs, guided_tokens)

    def factors(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.first), self.second)


class BlockDenseLinear(FactoredLinear):
    """A first factor of blocks on the diagonal (blocks, rank / blocks, inputs / blocks), a dense second one."""

    def __init__(self, inputs: int, outputs: int, rank: int, blocks: int, guided_tokens: int | None = None) -> None:
        first = (blocks, rank // blocks, inputs // blocks)
        super().__init__(inputs, first, (outputs, rank), outputs, guided_tokens)

    def factors(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(block_diagonal(x, self.first).flatten(-2), self.second)


class BlockShuffleLinear(FactoredLinear):
    """Two factors of blocks on the diagonal; between them each block hands a part of its features to every block.

    q = min(inputs, outputs) / blocks features lie between the factors in each block.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, guided_tokens: int | None = None) -> None:
        q = min(inputs, outputs) // blocks
        first, second = (blocks, q, inputs // blocks), (blocks, outputs // blocks, q)
        super().__init__(inputs, first, second, outputs, guided_tokens)

    def factors(self, x: torch.Tensor) -> torch.Tensor:
        shuffled = block_diagonal(x, self.first).transpose(-1, -2).flatten(-2)
        return block_diagonal(shuffled, self.second).flatten(-2)


def block_diagonal(x: torch.Tensor, blocks_boi: torch.Tensor) -> torch.Tensor:
    """Each block (o, i) applied to its own i of the features (..., b i): (..., b, o)."""
    b, o, i = blocks_boi.shape
    parts_bni = x.reshape(-1, b, i).transpose(0, 1)
    out_bno = torch.bmm(parts_bni, blocks_boi.transpose(1, 2))
    return out_bno.transpose(0, 1).reshape(*x.shape[:-1], b, o)


def guidance(tokens: int, guided_tokens: int) -> float:
    """The guiding matrix's share after `tokens` of `guided_tokens`: 1, .8536, .5, .1464, 0 at the quarters."""
    return 0.5 * (1 + cos(pi * min(tokens, guided_tokens) / guided_tokens))


def set_progress(model: nn.Module, tokens: int) -> None:
    """Tell every layer of a model how many tokens the step that begins now has behind it."""
    layers = [module for module in model.modules() if isinstance(module, FactoredLinear) and module.dense is not None]
    for layer in layers:
        layer.set_progress(tokens)
    dropped = {layer for layer in layers if layer.dense is None}
    if dropped:
        for module in model.modules():
            _forget(module, dropped)


def _forget(module: nn.Module, dropped: set[FactoredLinear]) -> None:
    """Take what was dropped out of the parameters that FSDP2 gathers for a module, or it would bring them back."""
    state = getattr(module, "_get_fsdp_state", None)
    for group in state()._fsdp_param_groups if state else ():
        group.fsdp_params = [
            one
            for one in group.fsdp_params
            if one._module_info.module not in dropped or one._module_info.param_name != "dense"
        ]
