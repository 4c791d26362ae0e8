"""The hooks a plan can name and their settings; a module without torch.

A plan lists them in the order in which they act: `hooks: [source_loss, {kind: migu, quantile: 0.7}]`. Each
settings class makes its hook (`make`), importing what it needs there.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from corpus.config import Config, Share
from mixtures.online_policies import OnlinePolicy
from trainer_hooks.lengths import Length, LengthValue

if TYPE_CHECKING:
    from trainer_hooks.hooks.base import Hook


class HookSettings(Config):
    """What every hook has: a kind, by which it is named in plans, logs and checkpoints."""

    kind: str

    def make(self) -> "Hook":
        """The hook with these settings."""
        raise TypeError(f"{type(self).__name__} does not define make")


class SourceLoss(HookSettings):
    """Log the training loss of each source."""

    kind: Literal["source_loss"] = "source_loss"
    every: int = Field(1, ge=1, description="steps from one line to the next")

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.source_loss import SourceLossHook

        return SourceLossHook(self)


class QualityLoss(HookSettings):
    """Log the training loss of each decile of the order's score."""

    kind: Literal["quality_loss"] = "quality_loss"
    every: int = Field(1, ge=1, description="steps from one line to the next")

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.quality_loss import QualityLossHook

        return QualityLossHook(self)


class GradL1(HookSettings):
    """Log the L1 norm of the whole gradient before clipping, from which a refined schedule for Adam is made."""

    kind: Literal["grad_l1"] = "grad_l1"

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.grad_l1 import GradL1Hook

        return GradL1Hook()


class Migu(HookSettings):
    """Update only the output rows of linear layers whose outputs are largest (arXiv 2406.17245)."""

    kind: Literal["migu"] = "migu"
    quantile: float = Field(
        0.7, ge=0, le=1, description="quantile of a layer's output magnitudes below which rows rest"
    )
    mode: Literal["faithful", "freeze_masked"] = Field(
        "faithful",
        description="faithful: gradients of resting rows are 0, momentum and decay still move them; freeze_masked: "
        "they stay as they are",
    )
    mask: Literal["magnitude", "random"] = Field("magnitude", description="random: a control, as many rows by lot")
    after: Length = Field(LengthValue(share=0.0), description="tokens before the first masked step")
    seed: int = Field(0, ge=0, description="seed of the random mask")

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.migu import MiguHook

        return MiguHook(self)


class Nap(HookSettings):
    """Bring hidden matrices back to their initial norms after updates (NaP, arXiv 2407.01800)."""

    kind: Literal["nap"] = "nap"
    every: int = Field(1, ge=1, description="steps from one projection to the next")
    scales: Literal["free", "joint"] = Field(
        "free", description="norm scales: left alone, or all together brought back to their initial norm"
    )

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.nap import NapHook

        return NapHook(self)


class Spikes(HookSettings):
    """Leave out steps whose loss or gradient norm stands out from those before."""

    kind: Literal["spikes"] = "spikes"
    watch: tuple[Literal["loss", "grad_norm"], ...] = Field(("loss", "grad_norm"), min_length=1)
    rule: Literal["score", "ratio"] = Field(
        "score",
        description="score: distance from the running median in robust standard deviations (1.4826 x median absolute "
        "deviation); ratio: multiple of the running median",
    )
    limit: float = Field(8.0, gt=0, description="the largest score or ratio of a step that is taken")
    window: int = Field(128, ge=2, description="taken steps that the median is over")
    warmup: int = Field(64, ge=2, description="taken steps before the first judgement")
    most_in_a_row: int = Field(
        3, ge=1, description="steps left out in a row; the next one is taken and the window begins anew"
    )

    @model_validator(mode="after")
    def _window_fills(self) -> "Spikes":
        if self.warmup > self.window:
            raise ValueError(f"warmup ({self.warmup}) must not exceed window ({self.window}), or nothing is judged")
        if self.rule == "ratio" and self.limit <= 1:
            raise ValueError(f"limit ({self.limit:g}) must be above 1 as a multiple of the median")
        return self

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.spikes import SpikesHook

        return SpikesHook(self)


class Hypergradient(HookSettings):
    """Adapt a factor on the plan's learning rate by how new gradients agree with the last update's direction."""

    kind: Literal["hypergradient"] = "hypergradient"
    form: Literal["relative", "additive"] = Field(
        "relative",
        description="relative: rate x (1 + beta cos(gradient, direction)); additive: rate + beta gradient . direction",
    )
    direction: Literal["adam", "gradient"] = Field(
        "adam", description="adam: m / (sqrt(v) + eps) of the optimizer; gradient: the last gradient, kept in memory"
    )
    beta: float = Field(0.01, gt=0, description="how strongly the rate follows")
    low: float = Field(0.1, gt=0, le=1, description="smallest factor on the plan's rate")
    high: float = Field(10.0, ge=1, description="largest factor on the plan's rate")

    @model_validator(mode="after")
    def _scale_is_said(self) -> "Hypergradient":
        if self.form == "additive" and "beta" not in self.model_fields_set:
            raise ValueError("the additive form depends on the gradient's scale: write beta, about 1e-8 for adam "
                             "and 1e-6 for gradient as published")  # fmt: skip
        return self

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.hypergradient import HypergradientHook

        return HypergradientHook(self)


class LrSearch(HookSettings):
    """Search the learning rate stage by stage with trial steps that are taken back (AutoLRS, arXiv 2105.10762).

    What is searched is a factor on the plan's curve; on a stable phase that is the rate itself. It costs about as many
    trial steps as there are steps in the searched part of the run, with ten candidates and a tenth of a stage each.
    """

    kind: Literal["lr_search"] = "lr_search"
    candidates: int = Field(10, ge=1, description="factors tried in each stage; the first is 1, the plan's own curve")
    stage: Length = Field(LengthValue(share=0.05), description="length of the first stage; each is twice the last")
    longest: Length = Field(LengthValue(share=0.4), description="stages grow to this length and no further")
    trial: float = Field(0.1, gt=0, le=1, description="part of a stage that each candidate runs on trial")
    low: float = Field(0.03, gt=0, le=1, description="smallest factor")
    high: float = Field(3.0, ge=1, description="largest factor")
    kappa: float = Field(
        1e6, ge=0, description="weight of uncertainty when a candidate is chosen; the default all but explores only"
    )
    after: Length = Field(LengthValue(share=0.0), description="tokens before the first stage, such as the warm-up")
    until: Length = Field(LengthValue(share=1.0), description="tokens after which the plan's own rate holds again")

    @model_validator(mode="after")
    def _room(self) -> "LrSearch":
        if self.candidates > 1 and self.low == self.high:
            raise ValueError("low and high are both 1, so there is one candidate only; write candidates: 1")
        return self

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.lr_search import LrSearchHook

        return LrSearchHook(self)


class StopFile(HookSettings):
    """End the run with a checkpoint when a stop decision lies in its folder (`trainer_hooks.early_kill`)."""

    kind: Literal["stop_file"] = "stop_file"
    every: int = Field(1, ge=1, description="steps from one look to the next")

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.stop_file import StopFileHook

        return StopFileHook(self)


class OnlineMixture(HookSettings):
    """Move the shares of sources while the run reads, by its losses on each (`mixtures.online_policies`).

    Numbers of a policy that belong to sources (`targets`, rows of `graph`) follow the order of `shares`, and without
    them the sources' names from a to z.
    """

    kind: Literal["online_mixture"] = "online_mixture"
    policy: OnlinePolicy = Field(description="the rule: doremi, sheared, skill_it or ado")
    measure: Literal["training", "heldout"] = Field(
        "training", description="losses: of the batches since the last update, or of held-out sets at each evaluation"
    )
    every: Length | None = Field(
        None, description="tokens between updates by training losses; default: a step for ado, else as evaluations"
    )
    shares: dict[str, Share] | None = Field(
        None, description="what the sources begin with, summing to 1; default: their shares of the order's tokens"
    )
    reference: dict[str, float] | None = Field(
        None, description="doremi only: each source's loss, in nats a token, of the reference model"
    )
    heldout: tuple[str, ...] | None = Field(
        None, description="the sets measured, in the order of the signal; default: those named as the sources"
    )
    piece_tokens: int | None = Field(None, ge=1, description="tokens of a turn; default: turns are whole documents")
    passes: int = Field(1, ge=1, description="how often a source's visits in the order may be read")
    exhausted: Literal["refuse", "leave_out"] = Field(
        "refuse", description="with no pass left: refuse ends the run, leave_out shares out among the other sources"
    )
    write_order: bool = Field(True, description="write what was read as an order, in the run's folder")

    @model_validator(mode="after")
    def _measurable(self) -> "OnlineMixture":
        needs = {"doge": "a gradient of every source", "aioli": "training steps on probes"}.get(self.policy.kind)
        if needs:
            raise ValueError(
                f"{self.policy.kind} needs {needs} at each update, and the trainer measures losses only: use doremi, "
                "sheared, skill_it or ado, or feed mixtures.online_shares in a loop of your own"
            )
        if (self.policy.kind == "doremi") != (self.reference is not None):
            raise ValueError("doremi needs the losses of a reference model, and no other policy has any (reference)")
        if self.measure == "heldout" and self.every is not None:
            raise ValueError("held-out losses are measured at evaluations: leave out every, and set eval_every")
        if self.measure == "training" and self.heldout is not None:
            raise ValueError("heldout names sets for measure: heldout")
        return self

    def make(self) -> "Hook":
        """The hook with these settings."""
        from trainer_hooks.hooks.online_mixture import OnlineMixtureHook

        return OnlineMixtureHook(self)


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


_Kinds = SourceLoss | QualityLoss | GradL1 | Migu | Nap | Spikes | Hypergradient | LrSearch | StopFile | OnlineMixture
AnyHook = Annotated[Annotated[_Kinds, Field(discriminator="kind")], BeforeValidator(_by_name)]


def _consistent(hooks: tuple[HookSettings, ...]) -> tuple[HookSettings, ...]:
    kinds = [hook.kind for hook in hooks]
    if "lr_search" in kinds[1:]:
        raise ValueError("lr_search comes first and once: what it tries must not be seen by the other hooks")
    ahead = {"lr_search", "quality_loss"} & set(kinds)
    if ahead and "online_mixture" in kinds:
        raise ValueError(f"{min(ahead)} looks ahead in the order, which online_mixture decides only as the run goes")
    return hooks


Hooks = Annotated[tuple[AnyHook, ...], AfterValidator(_consistent)]
