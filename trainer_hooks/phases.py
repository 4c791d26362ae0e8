"""Phases of a plan: what the learning rate does on one interval of the token axis, as written and as resolved.

    phases: [{warmup: 1%}, {stable: rest}, {decay: 20%, to: 1/300, shape: 1-sqrt}]
    phases: [{warmup: 1%}, {power_law: rest, exponent: 0.51}, {decay: 10%, to: 0, shape: linear}]
    phases: [{warmup: 1%}, {stable: 44%}, {decay: 5%, to: 0.1}, {stable: 45%, jump_to: 1}, {decay: 5%, to: 0.1}]

A phase begins at the rate that the one before it reached, unless it declares a jump (`jump_to`, `from_zero`).
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from corpus.config import Config
from trainer_hooks.laws import FloorForm, PowerLaw
from trainer_hooks.lengths import Length, PhaseLength, PhaseLengthValue, Ratio
from trainer_hooks.shapes import Floats, Shape, shape_of

ShapeName = Literal[
    "linear",
    "1-sqrt",
    "cosine",
    "mirror_cosine",
    "square",
    "polynomial",
    "exponential",
    "megatron_exponential",
    "inverse_sqrt",
]
PhaseKind = Literal["warmup", "stable", "decay", "power_law", "table"]

_OWN: dict[PhaseKind, tuple[str, ...]] = {
    "warmup": ("to", "to_lr", "from_zero"),
    "stable": ("jump_to",),
    "decay": ("to", "to_lr", "half_life", "shape", "power", "alpha", "jump_to"),
    "power_law": ("exponent", "age", "knee", "floor", "floor_form", "jump_to"),
    "table": ("values", "norms"),
}
"""The settings that each kind of phase has beside its length and `reset_optimizer`."""


def _is_said(value: Any) -> bool:
    return value is not None and value is not False


class _Terse(Config):
    """A model that writes only what is said, so that settings it gains later change no saved plan."""

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if _is_said(value)}


class Phase(_Terse):
    """One interval of the plan: exactly one of `warmup`, `stable`, `decay`, `power_law` and `table`, its length."""

    warmup: PhaseLength | None = Field(None, description="rise linearly to the peak, from 0 or the rate reached so far")
    stable: PhaseLength | None = Field(None, description="hold the rate reached so far")
    decay: PhaseLength | None = Field(None, description="fall from the rate reached so far")
    power_law: PhaseLength | None = Field(None, description="fall as a power of the tokens seen, without a horizon")
    table: PhaseLength | None = Field(None, description="follow given values, as a refined schedule does")
    to: Ratio | None = Field(None, description="where a decay or warm-up ends, as a ratio of the peak, such as 1/300")
    to_lr: float | None = Field(None, ge=0, description="where a decay or warm-up ends, as a learning rate")
    half_life: Length | None = Field(None, description="tokens in which an exponential decay halves the rate, in "
                                     "place of an end")  # fmt: skip
    shape: ShapeName | None = Field(None, description="the curve of a decay; 1-sqrt where nothing is said")
    power: float | None = Field(None, gt=0, description="of the shape polynomial; 2 where nothing is said")
    alpha: float | None = Field(None, gt=0, description="of the shape inverse_sqrt; 10 where nothing is said")
    exponent: float | None = Field(None, gt=0, description="of a power law; 0.5, the inverse square root, where "
                                   "nothing is said")  # fmt: skip
    age: Length | None = Field(None, description="what a power law's clock shows where it begins; the tokens since "
                               "the last warm-up began where nothing is said")  # fmt: skip
    knee: Length | None = Field(None, description="what the clock shows where the rate begins to fall; at once where "
                                "nothing is said")  # fmt: skip
    floor: Ratio | None = Field(None, description="of a power law, as a ratio of the peak; none where nothing is said")
    floor_form: FloorForm | None = Field(None, description="max: never below the floor; added: falls towards it")
    values: tuple[Ratio, ...] | None = Field(None, min_length=2, description="of a table: ratios of the peak at equal "
                                             "distances, the first and the last at its ends")  # fmt: skip
    norms: str | None = Field(None, description="of a table: checksum of the gradient norms it was made from")
    jump_to: Ratio | None = Field(None, gt=0, description="begin at this ratio of the peak, not at the rate reached: a "
                                  "declared jump")  # fmt: skip
    from_zero: bool = Field(False, description="a warm-up in mid-run begins at 0: a declared jump")
    reset_optimizer: bool = Field(False, description="forget the optimizer's state where this phase begins")

    @model_validator(mode="after")
    def _consistent(self) -> "Phase":
        kinds = [name for name in _OWN if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"a phase has exactly one of warmup, stable, decay, power_law and table; this one has {kinds or 'none'}"
            )
        said = {name for names in _OWN.values() for name in names if _is_said(getattr(self, name))}
        for name in sorted(said - set(_OWN[self.kind])):
            owners = " and ".join(kind for kind, names in _OWN.items() if name in names)
            raise ValueError(f"a phase of kind {self.kind} has no {name}; only {owners} has it")
        if self.kind == "decay":
            self._check_decay()
        if self.to is not None and self.to_lr is not None:
            raise ValueError("a warm-up ends at most at one of to (a ratio of the peak) and to_lr (a learning rate)")
        if self.kind == "table" and not (self.values and max(self.values) > 0):
            raise ValueError("a table has values, not all of them 0")
        if self.floor_form is not None and self.floor is None:
            raise ValueError("floor_form says how a floor acts, and there is no floor")
        return self

    def _check_decay(self) -> None:
        if sum(end is not None for end in (self.to, self.to_lr, self.half_life)) != 1:
            raise ValueError(
                "a decay ends at exactly one of to (a ratio of the peak) and to_lr (a rate), or it has a half_life"
            )
        if self.half_life is not None and self.shape not in (None, "exponential"):
            raise ValueError(f"a decay with a half_life is exponential, not {self.shape}")
        for name, shape in (("power", "polynomial"), ("alpha", "inverse_sqrt")):
            if getattr(self, name) is not None and self.shape != shape:
                raise ValueError(
                    f"{name} belongs to the shape {shape}; this decay has the shape {self.shape or '1-sqrt'}"
                )

    @property
    def kind(self) -> PhaseKind:
        """Which of the five this phase is."""
        return next(name for name in _OWN if getattr(self, name) is not None)

    @property
    def length(self) -> PhaseLengthValue:
        """The phase's length, whatever its kind."""
        length: PhaseLengthValue = getattr(self, self.kind)
        return length


class ResolvedPhase(_Terse):
    """A phase in whole tokens, half open: [start, end). Its rate and the rate's integral are functions of tokens."""

    kind: PhaseKind
    start: int
    end: int
    lr_start: float
    lr_end: float = Field(description="the rate the phase tends to at its end")
    shape: ShapeName = "linear"
    power: float | None = None
    alpha: float | None = None
    law: PowerLaw | None = None
    table: tuple[float, ...] | None = Field(None, description="learning rates at equal distances, linear between")
    norms: str | None = Field(None, description="checksum of the gradient norms that the table was made from")
    jump: bool = Field(False, description="it does not begin at the rate where the phase before it ended")
    reset_optimizer: bool = Field(False, description="the optimizer's state is forgotten before its first step")

    def rate(self, tokens: Floats) -> Floats:
        """The learning rate at points in [start, end], same shape; at `end`, the value the phase tends to."""
        if self.law is not None:
            return self.law.rate(tokens - self.start, self.lr_start)
        r = (tokens - self.start) / (self.end - self.start)
        if self.table is not None:
            return np.interp(r, np.linspace(0, 1, len(self.table)), self.table)
        if self.kind == "decay":
            return self.lr_start * self._shape.value(r, self.lr_end / self.lr_start)
        return np.asarray(self.lr_start + (self.lr_end - self.lr_start) * r)

    def integral(self, tokens: Floats) -> Floats:
        """The integral of the rate from `start` to points in [start, end], same shape: exact, no sum over steps."""
        if self.law is not None:
            return self.law.integral(tokens - self.start, self.lr_start)
        length = self.end - self.start
        r = (tokens - self.start) / length
        if self.table is not None:
            return length * _interpolated_integral(r, np.asarray(self.table))
        if self.kind == "decay":
            return length * self.lr_start * self._shape.integral(r, self.lr_end / self.lr_start)
        return np.asarray(length * (self.lr_start * r + (self.lr_end - self.lr_start) * r**2 / 2))

    @property
    def _shape(self) -> Shape:
        return shape_of(self.shape, power=self.power, alpha=self.alpha)


def _interpolated_integral(r: Floats, values: Floats) -> Floats:
    """The integral from 0 to r of the straight lines through values at equal distances over [0, 1]."""
    n = len(values) - 1
    cumulative = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2 / n)])
    index = np.minimum((r * n).astype(np.int64), n - 1)
    t = r * n - index
    inside = (values[index] * t + (values[index + 1] - values[index]) * t**2 / 2) / n
    return np.asarray(cumulative[index] + inside)
