"""The plan of a run on one axis, tokens seen: learning rate, averaging, optimizer, hooks, evaluations.

A `Plan` is what a person writes: `30B`, `2%`, `1/300`. `resolve` turns it once into whole optimizer steps and
whole tokens, checks it, and returns a `ResolvedPlan`, which is saved with the run and never computed again.
Everything after that is a pure function of tokens seen (`trainer_hooks.curves`), so a plan can be checked,
drawn and resumed without replaying a run.

    plan = validated(Plan, {"tokens": "2M", "sequence_length": 256, "batch_sequences": 16, "peak_lr": 0.003,
                            "phases": [{"warmup": "2%"}, {"stable": "78%"}, {"decay": "20%", "to": "1/300"}]}, "plan")
    rates = step_learning_rates(resolve(plan))               # trainer_hooks.curves; one rate an optimizer step
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from corpus.config import Config, Count
from trainer_hooks.average_kinds import Averages, ResolvedAverage
from trainer_hooks.hooks.kinds import Hooks
from trainer_hooks.lengths import Length, LengthValue
from trainer_hooks.objectives.kinds import AnyObjective, NextToken
from trainer_hooks.optimizers.kinds import AdamW, AnyOptimizer
from trainer_hooks.phases import Phase, ResolvedPhase
from trainer_hooks.plan_presets import without_preset
from trainer_hooks.schedules import AnySchedule

Precision = Literal["auto", "fp32", "bf16"]


def _is_empty(places: tuple[object, ...]) -> bool:
    """What is not said is not saved, so that plans saved before a setting was there read the same."""
    return not places


class Keep(Config):
    """Which checkpoints stay."""

    last: int = Field(2, ge=1, description="the newest ones; the second is there if the newest is damaged")
    every: Length | None = Field(None, description="one in so many tokens stays for good, such as 10%")
    at: tuple[Length, ...] = Field(
        (),
        exclude_if=_is_empty,
        description="places at which a checkpoint is made and stays, such as one where another run is to branch off",
    )


class Plan(Config):
    """A run's timeline by tokens, and the settings of its optimizer."""

    tokens: Count = Field(description="tokens to train on, rounded half up to whole steps")
    sequence_length: int = Field(256, ge=1, description="tokens the model reads as one row")
    batch_sequences: int = Field(16, ge=1, description="sequences of one optimizer step, over all devices")
    micro_sequences: int | None = Field(
        None, ge=1, description="sequences of one forward pass on one device; gradients of more are accumulated"
    )
    peak_lr: float = Field(gt=0, description="the learning rate after warm-up")
    phases: tuple[Phase, ...] = Field((), description="intervals that together cover the run")
    schedule: AnySchedule | None = Field(None, description="in place of phases: a schedule by name, or with settings")
    average: Averages = Field({}, description="averages of the weights to follow: one, or several by name")
    optimizer: AnyOptimizer = Field(AdamW(), description="by name, or with settings")
    objective: AnyObjective = Field(NextToken(), description="what is minimised, by name or with settings")
    hooks: Hooks = Field((), description="what else happens at each step, in this order")
    eval_every: Length = Field(LengthValue(share=0.1), description="tokens between held-out evaluations")
    eval_at: tuple[Length, ...] = Field(
        (),
        exclude_if=_is_empty,
        description="more places to evaluate at, such as the first steps on new data; by Gradatim's own trainer only",
    )
    checkpoint_every: Length = Field(LengthValue(share=0.1), description="tokens between checkpoints")
    keep: Keep = Field(Keep(), description="which checkpoints stay; those inside an averaging window do too")
    document_mask: bool = Field(False, description="a token attends to its own document only, and a document's first "
                                "token is not predicted from the one before it")  # fmt: skip
    grad_clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    non_finite: Literal["stop", "skip"] = Field(
        "stop",
        description="what a loss or gradient that is not finite does; skip: leave the step out, ten in a row stop",
    )
    seed: int = Field(0, ge=0, description="seed of the initial parameters")
    threads: int = Field(2, ge=1, description="CPU threads; part of the plan, because sums depend on it bit by bit")
    precision: Precision = Field("auto", description="matmul type; auto: bf16 where the hardware has it, else fp32")
    compile: bool = Field(False, description="compile the layers with torch.compile; needs a C++ compiler on CPUs")
    deterministic: bool = Field(True, description="equal runs are equal bit by bit; false is a little faster on GPUs")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:
        """Replace `preset: cma` by the fields it stands for."""
        return without_preset(data)

    @model_validator(mode="after")
    def _one_curve(self) -> "Plan":
        if bool(self.phases) == (self.schedule is not None):
            raise ValueError("a plan has exactly one of phases and schedule; write for example schedule: wsd")
        return self


class ResolvedPlan(Config):
    """A plan in whole steps and tokens: what a run follows, saved with it, compared on resume."""

    plan: Plan
    step_tokens: int = Field(description="tokens of one optimizer step")
    steps: int
    tokens: int = Field(description="steps x step_tokens")
    phases: tuple[ResolvedPhase, ...]
    eval_every_steps: int
    checkpoint_every_steps: int
    keep_every_steps: int | None = None
    eval_at_steps: tuple[int, ...] = Field((), exclude_if=_is_empty)
    keep_at_steps: tuple[int, ...] = Field((), exclude_if=_is_empty)
    averages: dict[str, ResolvedAverage] = Field({})
    warnings: tuple[str, ...] = ()

    def evaluates(self, step: int) -> bool:
        """Whether held-out sets are measured after so many steps; they always are at the end."""
        return step == self.steps or step % self.eval_every_steps == 0 or step in self.eval_at_steps
