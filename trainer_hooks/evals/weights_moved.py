"""How far weights moved between two checkpoints: share unchanged, size of the change, and its effective rank.

Part of what looks like sparse updates is rounding: the same training shows none of it in float32. So the stored type
is part of the answer, and only numbers of one type compare. One tensor of each side is in memory at a time.

    for row in weights_moved(before, after, tolerance=1e-5):
        print(row.name, row.unchanged, row.relative_norm, row.effective_rank)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean

import torch

from corpus.errors import ArtifactError, ConfigError

RANK_LIMIT = 4096
"""The effective rank needs singular values; matrices whose shorter side is longer than this go without."""


@dataclass(frozen=True)
class Moved:
    """The change of one tensor, or of several together.

    Args:
        parameters: how many; unchanged: how many of them differ by at most the tolerance.
        norm, base_norm: Frobenius norms of the change and of the old values.
        effective_rank: exp of the entropy of the change's normalised singular values, from 1 to the shorter side;
            None for what is no matrix, did not move, or is too large, and for several tensors.
        rank_share: the effective rank over the shorter side; of several tensors, the mean over their matrices.
        dtype: in which the values are stored, on both sides.
    """

    name: str
    parameters: int
    unchanged: int
    norm: float
    base_norm: float
    effective_rank: float | None
    rank_share: float | None
    dtype: str

    @property
    def sparsity(self) -> float:
        """The share of parameters that did not move."""
        return self.unchanged / self.parameters

    @property
    def relative_norm(self) -> float:
        """|change| / |old|; infinite where all old values are 0 and some moved."""
        return self.norm / self.base_norm if self.base_norm else (float("inf") if self.norm else 0.0)


def weights_moved(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], tolerance: float = 0.0
) -> Iterator[Moved]:
    """The change of each floating tensor, in name order.

    Args:
        old, new: tensors by name; a mapping that reads on access keeps one of each in memory.
        tolerance: the largest change that counts as none, at least 0; 0 is equality as stored.

    Raises ArtifactError where names, shapes or stored types differ, ConfigError for a negative tolerance.
    """
    if tolerance < 0:
        raise ConfigError("a tolerance is at least 0", found=str(tolerance))
    if set(old) != set(new):
        raise ArtifactError(
            "these are the weights of different models", found=f"only in one: {sorted(set(old) ^ set(new))[:3]}"
        )
    for name in sorted(old):
        before, after = old[name], new[name]
        if before.shape != after.shape or before.dtype != after.dtype:
            raise ArtifactError(
                f"{name} is stored differently",
                expected=f"{list(before.shape)} {before.dtype}",
                found=f"{list(after.shape)} {after.dtype}",
                fix="compare weights of one model and one type",
            )
        if before.is_floating_point():
            yield _moved(name, before, after, tolerance)


def together(name: str, parts: Sequence[Moved]) -> Moved:
    """Several tensors as one, such as those of a layer."""
    if len(parts) == 1:
        return replace(parts[0], name=name)
    ranks = [one.rank_share for one in parts if one.rank_share is not None]
    return Moved(
        name=name,
        parameters=sum(one.parameters for one in parts),
        unchanged=sum(one.unchanged for one in parts),
        norm=sqrt(sum(one.norm**2 for one in parts)),
        base_norm=sqrt(sum(one.base_norm**2 for one in parts)),
        effective_rank=None,
        rank_share=fmean(ranks) if ranks else None,
        dtype=", ".join(sorted({one.dtype for one in parts})),
    )


def by_layer(parts: Sequence[Moved]) -> list[Moved]:
    """One row a layer (`model.layers.3`), and one for each tensor outside the layers, in the model's order."""
    groups: dict[str, list[Moved]] = {}
    for one in parts:
        pieces = one.name.split(".")
        inside = pieces[:2] == ["model", "layers"] and len(pieces) > 3
        groups.setdefault(".".join(pieces[:3]) if inside else one.name, []).append(one)

    def position(name: str) -> tuple[int, int]:
        last = name.split(".")[-1]
        return (1, int(last)) if last.isdigit() else (0 if "embed" in name else 2, 0)

    return [together(name, groups[name]) for name in sorted(groups, key=position)]


def effective_rank(matrix: torch.Tensor) -> float | None:
    """exp of the entropy of normalised singular values (Roy and Vetterli, 2007), from 1 to the shorter side.

    None for a matrix of zeros.
    """
    values = torch.linalg.svdvals(matrix.double())
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) and bool(values.any()) else None


def _moved(name: str, before: torch.Tensor, after: torch.Tensor, tolerance: float) -> Moved:
    change = after.double() - before.double()
    matrix = change.ndim == 2 and min(change.shape) <= RANK_LIMIT
    rank = effective_rank(change) if matrix else None
    return Moved(
        name=name,
        parameters=change.numel(),
        unchanged=int((change.abs() <= tolerance).sum()),
        norm=float(torch.linalg.vector_norm(change)),
        base_norm=float(torch.linalg.vector_norm(before.double())),
        effective_rank=rank,
        rank_share=rank / min(change.shape) if rank else None,
        dtype=str(before.dtype).removeprefix("torch."),
    )
