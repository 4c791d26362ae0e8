"""The optimizers a plan can name and their settings; a module without torch.

Each settings class makes its optimizer (`make`), importing what it needs there, so that plans are read at once.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from corpus.config import Config

if TYPE_CHECKING:
    import torch


class OptimizerSettings(Config):
    """What every optimizer has."""

    weight_decay: float = Field(0.1, ge=0, description="decoupled decay of the matrices; norm scales, biases and "
                                "embeddings do not decay")  # fmt: skip

    def make(self, model: "torch.nn.Module", peak_lr: float) -> "torch.optim.Optimizer":
        """The optimizer for a model's parameters; the learning rate of every group is set before each step."""
        raise TypeError(f"{type(self).__name__} does not define make")


class AdamW(OptimizerSettings):
    """AdamW, torch's fused implementation (arXiv 1711.05101)."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = Field((0.9, 0.95), description="decays of the two moments")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment")

    @model_validator(mode="after")
    def _betas_in_range(self) -> "AdamW":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must each be in [0, 1), found {list(self.betas)}")
        return self

    def make(self, model: "torch.nn.Module", peak_lr: float) -> "torch.optim.Optimizer":
        """AdamW with two groups of parameters: those that decay, and those that do not."""
        import torch

        from trainer_hooks.optimizers.groups import decay_groups

        groups = decay_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=peak_lr, betas=self.betas, eps=self.eps, fused=True)


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyOptimizer = Annotated[AdamW, BeforeValidator(_by_name)]
