"""The plan of a run on one axis, tokens seen: learning-rate phases, averaged checkpoints, evaluations.

A `Plan` is what a person writes: `30B`, `2%`, `1/300`. `resolve` turns it once into whole optimizer steps and
whole tokens, checks it, and returns a `ResolvedPlan`, which is saved with the run and never computed again.
Everything after that is a pure function of tokens seen (`trainer_hooks.curves`), so a plan can be checked,
drawn and resumed without replaying a run.

    plan = validated(Plan, {"tokens": "2M", "sequence_length": 256, "batch_sequences": 16, "peak_lr": 0.003,
                            "phases": [{"warmup": "2%"}, {"stable": "78%"}, {"decay": "20%", "to": "1/300"}]}, "plan")
    rates = step_learning_rates(resolve(plan))               # trainer_hooks.curves; one rate an optimizer step
"""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from corpus.config import Config, Count, parse_count, parse_share

ShapeName = Literal["linear", "1-sqrt", "cosine", "square", "exponential"]
AverageKind = Literal["none", "sma", "ema", "ema_debiased", "wma"]
Precision = Literal["auto", "fp32", "bf16"]


def parse_ratio(value: Any) -> Any:
    """Turn `1/300`, `33%` or a number in [0, 1] into a float. Raises ValueError for other text."""
    if isinstance(value, str) and "/" in value:
        try:
            value = float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is not a ratio; write for example 1/300, 0.33 or 33%") from None
    return parse_share(value)


def parse_length(value: Any) -> Any:
    """Turn `15%` or 0.15 into a share of the run and `64K` or 1000 into a count of tokens.

    A bare 1 is refused, because it may mean one token or the whole run.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.endswith("%") or (text[-1:].isdigit() and "." in text):
            return {"share": parse_share(text)}
        value = parse_count(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value == 1 and isinstance(value, int):
        raise ValueError("1 may mean one token or the whole run; write 100% or 1.0 for the whole run")
    return {"tokens": value} if isinstance(value, int) else {"share": parse_share(value)}


class LengthValue(Config):
    """A length on the token axis: a share of the run, or a count of tokens; never both."""

    share: float | None = Field(default=None, ge=0, le=1, description="a share of the plan's tokens")
    tokens: int | None = Field(default=None, ge=0, description="a count of tokens")

    @model_validator(mode="after")
    def _one_unit(self) -> "LengthValue":
        if (self.share is None) == (self.tokens is None):
            raise ValueError("a length is either a share of the run or a count of tokens, not both and not neither")
        return self

    def of(self, total: int) -> Fraction:
        """The exact length in tokens in a run of `total` tokens."""
        if self.tokens is not None:
            return Fraction(self.tokens)
        assert self.share is not None
        return Fraction(self.share).limit_denominator(10**9) * total

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens" if self.share is None else f"{100 * self.share:g}%"


Length = Annotated[LengthValue, BeforeValidator(parse_length)]
Ratio = Annotated[float, BeforeValidator(parse_ratio)]


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


class Average(Config):
    """Which of the last checkpoints are averaged, and how."""

    kind: AverageKind = Field(default="none", description="none, sma, ema (started at the oldest), ema_debiased or wma")
    last: int = Field(
        default=6, ge=1, description="how many checkpoints are averaged; the newest is the end of the run"
    )
    window: Length = Field(
        default=LengthValue(share=0.1), description="tokens from the oldest averaged checkpoint to the end of the run"
    )
    alpha: float = Field(default=0.2, gt=0, le=1, description="share of the newest checkpoint in each ema update")


class Plan(Config):
    """A run's timeline by tokens, and the settings of its optimizer."""

    tokens: Count = Field(description="tokens to train on, rounded half up to whole steps")
    sequence_length: int = Field(256, ge=1, description="tokens the model reads as one row")
    batch_sequences: int = Field(16, ge=1, description="sequences of one optimizer step, over all devices")
    peak_lr: float = Field(gt=0, description="the learning rate after warm-up")
    phases: tuple[Phase, ...] = Field(min_length=1, description="intervals that together cover the run")
    average: Average = Field(Average(), description="averaging of the last checkpoints")
    eval_every: Length = Field(LengthValue(share=0.1), description="tokens between held-out evaluations")
    checkpoint_every: Length = Field(LengthValue(share=0.1), description="tokens between checkpoints")
    weight_decay: float = Field(0.1, ge=0, description="decoupled decay of the matrices")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's two moment decays")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    grad_clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    seed: int = Field(0, ge=0, description="seed of the initial parameters")
    threads: int = Field(2, ge=1, description="CPU threads; part of the plan, because sums depend on it bit by bit")
    precision: Precision = Field("auto", description="matmul type; auto: bf16 where the hardware has it, else fp32")

    @model_validator(mode="after")
    def _betas_in_range(self) -> "Plan":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must each be in [0, 1), found {list(self.betas)}")
        return self


class ResolvedPhase(Config):
    """A phase in whole tokens: half open, [start, end)."""

    kind: Literal["warmup", "stable", "decay"]
    start: int
    end: int
    lr_start: float
    lr_end: float
    shape: ShapeName = "linear"


class ResolvedPlan(Config):
    """A plan in whole steps and tokens: what a run follows, saved with it, compared on resume."""

    plan: Plan
    step_tokens: int = Field(description="tokens of one optimizer step")
    steps: int
    tokens: int = Field(description="steps x step_tokens")
    phases: tuple[ResolvedPhase, ...]
    eval_every_steps: int
    checkpoint_every_steps: int
    marks: tuple[int, ...] = Field(description="token positions of the averaged checkpoints, oldest first")
    coefficients: tuple[float, ...] = Field(description="their weights in the average, summing to 1")
    warnings: tuple[str, ...] = ()
