"""Phases of a plan: what the learning rate does on one interval of the token axis, as written and as resolved."""

from typing import Literal

from pydantic import Field, model_validator

from corpus.config import Config
from trainer_hooks.lengths import Length, LengthValue, Ratio

ShapeName = Literal["linear", "1-sqrt", "cosine", "square", "exponential"]


class Phase(Config):
    """One interval of the plan: exactly one of `warmup`, `stable` and `decay`, which is its length."""

    warmup: Length | None = Field(None, description="rise linearly from 0 to the peak; the first phase only")
    stable: Length | None = Field(None, description="hold the rate reached so far")
    decay: Length | None = Field(None, description="fall from the rate reached so far")
    to: Ratio | None = Field(None, description="where a decay ends, as a ratio of the peak, such as 1/300")
    to_lr: float | None = Field(None, ge=0, description="where a decay ends, as a learning rate")
    shape: ShapeName | None = Field(None, description="the curve of a decay; 1-sqrt where nothing is said")

    @model_validator(mode="after")
    def _consistent(self) -> "Phase":
        kinds = [name for name in ("warmup", "stable", "decay") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"a phase has exactly one of warmup, stable and decay; this one has {kinds or 'none'}")
        ends = [name for name in ("to", "to_lr") if getattr(self, name) is not None]
        if self.decay is None and (ends or self.shape):
            raise ValueError(f"only a decay has {' and '.join(ends + ['shape'] * bool(self.shape))}")
        if self.decay is not None and len(ends) != 1:
            raise ValueError("a decay ends at exactly one of to (a ratio of the peak) and to_lr (a learning rate)")
        return self

    @property
    def kind(self) -> Literal["warmup", "stable", "decay"]:
        """Which of the three this phase is."""
        return "warmup" if self.warmup is not None else "stable" if self.stable is not None else "decay"

    @property
    def length(self) -> LengthValue:
        """The phase's length, whatever its kind."""
        length = self.warmup or self.stable or self.decay
        assert length is not None
        return length


class ResolvedPhase(Config):
    """A phase in whole tokens: half open, [start, end)."""

    kind: Literal["warmup", "stable", "decay"]
    start: int
    end: int
    lr_start: float
    lr_end: float
    shape: ShapeName = "linear"
