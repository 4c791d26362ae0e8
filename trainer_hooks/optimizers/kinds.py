"""The optimizers a plan can name and their settings; a module without torch.

A plan names one (`optimizer: muon`) or writes its settings (`optimizer: {kind: muon, lr_ratio: 5}`). Each settings
class makes its optimizer (`make`), importing what it needs there, so that plans are read at once.
"""

from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from corpus.config import Config, Share

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]
Shape = tuple[int, ...]


class OptimizerSettings(Config):
    """What every optimizer has."""

    averages_itself: ClassVar[bool] = False
    """Whether its evaluation weights are an average of its own, so that no other averaging or decay goes on top."""

    weight_decay: float = Field(0.1, ge=0, description="decoupled decay of the matrices; norm scales and biases do not "
                                "decay")  # fmt: skip
    decay_embeddings: bool = Field(False, description="whether embeddings decay too; a tied head is an embedding")
    decay_head: bool = Field(True, description="whether an output matrix of its own decays")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """The optimizer for a model's parameters; `seed` is of what it draws.

        Before each step the learning rate of every group is to be set to the rate times the group's `lr_multiplier`
        (1 where it has none). Give the model itself, not a wrapper around it: parameters are known by their names.
        """
        raise TypeError(f"{type(self).__name__} does not define make")

    def state_elements(self, shape: Shape, hidden: bool = True) -> int:
        """Numbers kept for a parameter of this shape, besides step counters; `hidden`: a hidden matrix.

        Embeddings, the head and vectors have the two moments of AdamW whatever the optimizer.
        """
        return self._matrix_elements(shape) if hidden and len(shape) == 2 else 2 * prod(shape)

    def _matrix_elements(self, shape: Shape) -> int:
        return 2 * prod(shape)


class AdamW(OptimizerSettings):
    """AdamW, torch's fused implementation (arXiv 1711.05101)."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="decays of the two moments")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """torch.optim.AdamW over the named groups of `groups.parameter_groups`."""
        import torch

        from trainer_hooks.optimizers.groups import parameter_groups

        groups = parameter_groups(model, self)
        return torch.optim.AdamW(groups, lr=peak_lr, betas=self.betas, eps=self.eps, fused=True)


class Muon(OptimizerSettings):
    """Muon for hidden matrices, AdamW for embeddings, head and vectors (torch.optim.Muon; KellerJordan/Muon)."""

    kind: Literal["muon"] = "muon"
    lr_ratio: float = Field(1.0, gt=0, description="peak rate of the hidden matrices over the plan's peak_lr; 1 suits "
                            "match_rms_adamw, original wants about 0.02 over AdamW's peak")  # fmt: skip
    adjust: Literal["match_rms_adamw", "original"] = Field(
        "match_rms_adamw",
        description="factor of a matrix's update: 0.2 sqrt(max(rows, columns)), or sqrt(max(1, rows / columns))",
    )
    momentum: Beta = Field(0.95, description="decay of the momentum")
    nesterov: bool = Field(True, description="look ahead along the momentum")
    ns_steps: int = Field(5, ge=1, lt=100, description="rounds of the Newton-Schulz iteration")
    ns_precision: Literal["bf16", "fp32"] = Field(
        "bf16",
        description="number type of that iteration; bf16 is torch's, and rounds so coarsely that runs over other "
        "numbers of ranks drift apart, where with fp32 they stay together",
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="decays of AdamW's moments")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """One optimizer; its group of matrices has an `lr_multiplier`: two peaks on one curve."""
        from trainer_hooks.optimizers.muon import MuonAdamW

        return MuonAdamW(model, self, peak_lr)

    def _matrix_elements(self, shape: Shape) -> int:
        return prod(shape)


class _LowRank(OptimizerSettings):
    """What APOLLO and APOLLO-Mini share (arXiv 2412.05270)."""

    every: int = Field(200, ge=1, description="steps between new random projections")
    growth: float = Field(1.01, ge=1, description="most that an update's norm may grow in one step, as a factor")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decays of the moments, AdamW's among them")

    def rank_of(self, shape: Shape) -> int:
        """Rows of the projection of a matrix of this shape."""
        raise TypeError(f"{type(self).__name__} does not define rank_of")

    def _matrix_elements(self, shape: Shape) -> int:
        return 2 * max(shape) * self.rank_of(shape) + 2


class Apollo(_LowRank):
    """APOLLO: hidden matrices follow their gradient, each channel scaled by what AdamW does in a low rank."""

    kind: Literal["apollo"] = "apollo"
    rank: int | None = Field(None, ge=1, description="rows of the projection; null: a quarter of the shorter side")
    scale: float = Field(1.0, gt=0, description="its root multiplies the update")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """APOLLO for hidden matrices, AdamW for the rest; the projections are drawn from the seed."""
        from trainer_hooks.optimizers.apollo import ApolloAdamW

        return ApolloAdamW(model, self, peak_lr, seed, per_channel=True)

    def rank_of(self, shape: Shape) -> int:
        """The rank asked for, at most the shorter side; without one a quarter of that side, at least 1."""
        return max(1, min(shape) // 4) if self.rank is None else min(self.rank, *shape)


class ApolloMini(_LowRank):
    """APOLLO-Mini: rank 1, and one factor for a whole matrix."""

    kind: Literal["apollo_mini"] = "apollo_mini"
    scale: float = Field(128.0, gt=0, description="its root multiplies the update")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """APOLLO-Mini for hidden matrices, AdamW for the rest; the projections are drawn from the seed."""
        from trainer_hooks.optimizers.apollo import ApolloAdamW

        return ApolloAdamW(model, self, peak_lr, seed, per_channel=False)

    def rank_of(self, shape: Shape) -> int:
        """1, for every shape."""
        return 1


class Frugal(OptimizerSettings):
    """FRUGAL: AdamW on a changing part of the hidden matrices, the sign of the gradient on the rest (2411.07837)."""

    kind: Literal["frugal"] = "frugal"
    density: Share = Field(0.25, description="share of the hidden matrices, or of each one's columns, that AdamW has; "
                           "rounded, at least one; 0: the sign everywhere")  # fmt: skip
    unit: Literal["tensors", "columns"] = Field("tensors", description="what is selected: whole matrices, or columns "
                                                "of every matrix")  # fmt: skip
    order: Literal["random", "ascending", "descending", "mirror"] = Field(
        "random", description="who is next: drawn from the seed, first to last, last to first, or there and back"
    )
    every: int = Field(200, ge=1, description="steps between selections; each one begins with fresh moments")
    free_scale: float = Field(1.0, ge=0, description="factor of the sign's rate: 1 for pre-training, 0.1 fine-tuning")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decays of AdamW's moments")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """FRUGAL for hidden matrices, AdamW for the rest; random selections are drawn from the seed."""
        from trainer_hooks.optimizers.frugal import FrugalAdamW

        return FrugalAdamW(model, self, peak_lr, seed)

    def count(self, among: int) -> int:
        """How many of `among` matrices or columns AdamW has at a time."""
        return max(1, int(self.density * among + 0.5)) if self.density and among else 0

    def _matrix_elements(self, shape: Shape) -> int:
        """With unit tensors this is the mean over matrices: one has all or nothing."""
        if self.unit == "columns":
            return 2 * shape[0] * self.count(shape[1])
        return round(2 * self.density * prod(shape))


class ScheduleFree(OptimizerSettings):
    """Schedule-free AdamW (arXiv 2405.15682): a running average in place of a decay of the rate."""

    averages_itself: ClassVar[bool] = True

    kind: Literal["schedule_free"] = "schedule_free"
    betas: tuple[Annotated[float, Field(gt=0, lt=1)], Beta] = Field(
        (0.9, 0.999), description="share of the average in the point of the gradient, .95 to .98 for long runs; decay "
        "of the second moment"
    )  # fmt: skip
    weight_power: float = Field(2.0, ge=0, description="a step's weight is the largest rate so far to this power")
    step_power: float = Field(0.0, ge=0, description="and the number of the step to this one")

    def make(self, model: "torch.nn.Module", peak_lr: float, seed: int = 0) -> "torch.optim.Optimizer":
        """Schedule-free AdamW over the named groups."""
        from trainer_hooks.optimizers.schedule_free import ScheduleFreeAdamW

        return ScheduleFreeAdamW(model, self, peak_lr)


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyOptimizer = Annotated[
    Annotated[AdamW | Muon | Apollo | ApolloMini | Frugal | ScheduleFree, Field(discriminator="kind")],
    BeforeValidator(_by_name),
]
