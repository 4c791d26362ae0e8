"""Averages a plan can ask for, as written and as resolved; a module without torch.

A run follows any number of averages at once, each under a name. What is common to all of them: a resolved average
knows the optimizer steps after which it takes the model's weights in (`takes`), and the running object it makes
(`averager`) keeps float32 tensors that are saved with every checkpoint.

Three families: a window of checkpoints with fixed coefficients (`sma`, `ema`, `ema_debiased`, `wma`, `curve`,
`weights`), a mean that slides over the last k marks (`lawa`, `pma`), and a mean of all steps so far (`step_ema`).
"""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from corpus.config import Config
from trainer_hooks.lengths import Length, LengthValue, Ratio
from trainer_hooks.phases import ShapeName

if TYPE_CHECKING:
    from torch import nn

    from trainer_hooks.average_marks import MergedMarks
    from trainer_hooks.averaging import RunningAverage


class _Window(Config):
    """Checkpoints at equal distances, up to a point of the run."""

    window: Length = Field(LengthValue(share=0.1), description="tokens from the oldest averaged checkpoint to the "
                           "newest; written in tokens, a whole number of steps between each two")  # fmt: skip
    end: Length | None = Field(None, description="where the newest checkpoint lies; default: the end of the run")
    saved: bool = Field(True, description="keep a checkpoint at each mark, so that other averages can be merged "
                        "afterwards; false for windows of very many marks")  # fmt: skip


class LastCheckpoints(_Window):
    """The weighted mean of the last checkpoints of the run, or of those up to `end`.

    Of a run in ascending order at a constant rate this is CMA, with a moderate decay CDMA (arXiv 2511.18903).
    """

    kind: Literal["sma", "ema", "ema_debiased", "wma"] = Field(
        "sma", description="sma: equal; wma: rising linearly; ema: the recursion started at the oldest, which keeps "
        "(1 - alpha)^(last - 1) of it; ema_debiased: rising exponentially"
    )  # fmt: skip
    last: int = Field(6, ge=1, description="how many checkpoints are averaged")
    alpha: float = Field(0.2, gt=0, le=1, description="share of the newest checkpoint in each ema update")


class CurveAverage(_Window):
    """Coefficients that imitate a learning-rate decay over the window (WSM, arXiv 2507.17634)."""

    kind: Literal["curve"]
    last: int = Field(6, ge=2, description="how many checkpoints are averaged: one more than the curve has segments")
    shape: ShapeName = Field("1-sqrt", description="the decay that is imitated")
    to: Ratio = Field(0.0, description="where the decay ends, as a ratio of its start, such as 1/3; the newest "
                      "checkpoint's coefficient grows with it")  # fmt: skip


class ExplicitAverage(_Window):
    """Coefficients written out, oldest checkpoint first."""

    kind: Literal["weights"]
    weights: tuple[float, ...] = Field(min_length=1, description="one a checkpoint, oldest first, summing to 1")

    @property
    def last(self) -> int:
        """How many checkpoints are averaged."""
        return len(self.weights)

    @field_validator("weights")
    @classmethod
    def _sums_to_one(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if abs(sum(weights) - 1) > 1e-9:
            raise ValueError(f"coefficients sum to 1; these sum to {sum(weights):.10g}")
        return weights


class Lawa(Config):
    """The plain mean of the last marks, at any time; before there are enough, of those there are (2306.03241)."""

    kind: Literal["lawa"]
    last: int = Field(5, ge=1, description="how many marks; each is kept as a float32 copy of the model")
    every: Length = Field(LengthValue(share=0.02), description="tokens between marks, counted back from the end")
    start: Length = Field(LengthValue(tokens=0), description="where marks begin")


class Pma(Config):
    """The mean of the last marks within the constant phase (PMA, arXiv 2505.12082)."""

    kind: Literal["pma"]
    last: int = Field(10, ge=1, description="how many marks; each is kept as a float32 copy of the model")
    every: Length = Field(LengthValue(share=0.02), description="tokens between marks, counted back from where it ends")
    weights: Literal["sma", "wma", "ema"] = Field("sma", description="equal, rising linearly, or the ema recursion")
    alpha: float = Field(0.2, gt=0, le=1, description="share of the newest mark in each ema update")
    until: Literal["stable", "end"] = Field(
        "stable", description="where it ends: with the last constant phase, or with the run"
    )


class StepEma(Config):
    """An exponential mean of the weights after every optimizer step, or every so many tokens."""

    kind: Literal["step_ema"]
    half_life: Length | None = Field(None, description="tokens after which a step's share in the mean has halved")
    half_life_seen: Ratio | None = Field(
        None, description="instead: the half-life as a share f of the tokens seen, growing with them; the mean age is "
        "f/(f + ln 2) of them (anytime, arXiv 2602.03702)"
    )  # fmt: skip
    form: Literal["debiased", "recursion"] = Field(
        "debiased", description="debiased: newer steps never count less than older ones; recursion: started from the "
        "first weights, which then keep what the half-life leaves of them"
    )  # fmt: skip
    every: Length | None = Field(None, description="tokens between updates; default: every optimizer step")
    start: Length = Field(LengthValue(tokens=0), description="where updates begin")

    @model_validator(mode="after")
    def _one_half_life(self) -> "StepEma":
        if (self.half_life is None) == (self.half_life_seen is None):
            raise ValueError("step_ema has exactly one of half_life and half_life_seen")
        if self.half_life_seen == 0 or (
            self.half_life is not None and not (self.half_life.tokens or self.half_life.share)
        ):
            raise ValueError("a half-life is above 0")
        return self


WindowAverage = LastCheckpoints | CurveAverage | ExplicitAverage
SlidingAverage = Lawa | Pma
AnyAverage = Annotated[WindowAverage | SlidingAverage | StepEma, Field(discriminator="kind")]


def named(value: Any) -> Any:
    """Let one average stand for a mapping of one, under the name of its kind; `none` and null are no average."""
    if value in (None, "none") or value == {"kind": "none"}:
        return {}
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, dict) and ("kind" in value or not all(isinstance(item, dict) for item in value.values())):
        value = {"kind": "sma", **value}
        return {str(value["kind"]): value}
    return value


def usable_name(name: str) -> str:
    """An average's name: it becomes a file's, and `raw` means the weights that are not averaged."""
    if name == "raw" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError(f"an average cannot be called {name!r}; write letters, digits and _ . - in a name but raw")
    return name


AverageName = Annotated[str, AfterValidator(usable_name)]
Averages = Annotated[dict[AverageName, AnyAverage], BeforeValidator(named)]


class ResolvedAverage(Config):
    """An average in whole tokens: marks are the positions `first`, `first + every`, ..., `until`."""

    average: AnyAverage
    first: int = Field(ge=1, description="tokens seen at the oldest mark")
    every: int = Field(ge=1, description="tokens between marks")
    until: int = Field(description="tokens seen at the newest mark")
    coefficients: tuple[float, ...] = Field((), description="of a window's marks, oldest first; they sum to 1")
    half_life: int | None = Field(None, description="tokens, of a step_ema that has one")
    restarts: tuple[int, ...] = Field(
        (), description="where the optimizer starts anew or the rate jumps; earlier weights then leave the mean"
    )

    @property
    def marks(self) -> range:
        """Positions at which weights enter, in tokens, oldest first."""
        return range(self.first, self.until + 1, self.every)

    def takes(self, tokens: int) -> bool:
        """Whether the weights after so many tokens enter the average."""
        return tokens in self.marks

    def saves(self, tokens: int) -> bool:
        """Whether the checkpoint after so many tokens stays, so that its window can also be merged otherwise."""
        return getattr(self.average, "saved", False) and self.takes(tokens)

    def averager(self, model: "nn.Module") -> "RunningAverage":
        """The running average of a model, empty; its tensors lie where the model's do."""
        from trainer_hooks.averaging import make_average

        return make_average(self, model)

    def final(self) -> "MergedMarks":
        """The marks that the average at the end of the run is made of, and their coefficients."""
        from trainer_hooks.average_marks import final_marks

        return final_marks(self)
