"""Named schedules: what a plan may write in place of its phases, with the defaults of the literature.

    schedule: {kind: wsd, warmup: 1%, decay: 20%, to: 1/300, shape: 1-sqrt}
    schedule: d2z

Each is a settings class that expands into phases (`phases`), so that there is one curve, one check and one drawing
for all of them. Schedule-free training and the controllers (hypergradient, search) set the rate by what they see of the
run; they are an optimizer and hooks, and go with `constant`.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from corpus.config import Config, Share
from corpus.errors import ConfigError
from trainer_hooks.laws import FloorForm
from trainer_hooks.lengths import Length, LengthValue, Ratio, half_up
from trainer_hooks.phase_resolution import Budget
from trainer_hooks.phases import Phase, ShapeName

TOKENS_A_SEQUENCE = 4096
"""The batch of the power schedule is counted in sequences of this length (arXiv 2408.13359)."""


class Schedule(Config):
    """What every schedule has."""

    kind: str

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """The phases it stands for in a run of so many tokens."""
        raise TypeError(f"{type(self).__name__} does not define phases")

    def warnings(self, budget: Budget, averaged: bool) -> list[str]:
        """What is to be known before such a run; `averaged`: whether the plan averages weights."""
        return []


class _Warmed(Schedule):
    """A schedule that begins with a warm-up."""

    warmup: Length = Field(LengthValue(share=0.01), description="linear rise from 0 at the start; 0: begin at the peak")

    def _warm_up(self) -> Phase:
        return _phase(warmup=self.warmup)


class _Ending(Schedule):
    """A schedule that ends in decays, each at `to` or `to_lr`."""

    to: Ratio | None = Field(None, description="where the decay ends, as a ratio of the peak")
    to_lr: float | None = Field(None, ge=0, description="where the decay ends, as a learning rate")

    @model_validator(mode="after")
    def _one_end(self) -> "_Ending":
        if self.to is not None and self.to_lr is not None:
            raise ValueError("a decay ends at exactly one of to (a ratio of the peak) and to_lr (a learning rate)")
        return self

    def _end(self, default: float) -> dict[str, float]:
        if self.to_lr is not None:
            return {"to_lr": self.to_lr}
        return {"to": default if self.to is None else self.to}


class Constant(_Warmed):
    """The peak after a warm-up."""

    kind: Literal["constant"] = "constant"

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, hold."""
        return self._warm_up(), _phase(stable="rest")


class Linear(_Warmed, _Ending):
    """A linear decay over the whole run; where it ends has to be said."""

    kind: Literal["linear"] = "linear"

    @model_validator(mode="after")
    def _has_end(self) -> "Linear":
        if self.to is None and self.to_lr is None:
            raise ValueError("linear ends at exactly one of to (a ratio of the peak) and to_lr; d2z ends at 0")
        return self

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, decay."""
        return self._warm_up(), _phase(decay="rest", shape="linear", **self._end(0.0))


class D2Z(_Warmed):
    """A linear decay to 0 over the whole run (arXiv 2502.15938)."""

    kind: Literal["d2z"] = "d2z"

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, decay to 0."""
        return self._warm_up(), _phase(decay="rest", to=0.0, shape="linear")


class Cosine(_Warmed, _Ending):
    """A cosine over the whole run, to a tenth of the peak where nothing is said (arXiv 2403.08763)."""

    kind: Literal["cosine"] = "cosine"

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, decay."""
        return self._warm_up(), _phase(decay="rest", shape="cosine", **self._end(0.1))


class WSD(_Warmed, _Ending):
    """Warm-up, stable, decay (arXiv 2404.06395), to 1/300 of the peak where nothing is said (arXiv 2511.18903)."""

    kind: Literal["wsd"] = "wsd"
    decay: Length = Field(LengthValue(share=0.2), description="length of the decay; 10 to 20% are usual")
    shape: ShapeName = Field("1-sqrt", description="the curve of the decay; linear and 1-sqrt are usual")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, hold, decay."""
        decay = _phase(decay=self.decay, shape=self.shape, **self._end(1 / 300))
        return self._warm_up(), _phase(stable="rest"), decay


class WSDS(_Warmed, _Ending):
    """Periods that each end in a short linear decay, and a jump back to the peak between them (arXiv 2410.05192)."""

    kind: Literal["wsd_s"] = "wsd_s"
    periods: tuple[Length, ...] = Field(min_length=1, description="their lengths; the warm-up lies inside the first; "
                                        "what they leave of the run is trained at the rate reached")  # fmt: skip
    decay: Share = Field(0.1, gt=0, lt=1, description="share of each period that is its decay")
    peaks: tuple[Ratio, ...] = Field((), description="ratio of the peak that each period begins at; 1 if not said")

    @model_validator(mode="after")
    def _a_peak_each(self) -> "WSDS":
        if self.peaks and len(self.peaks) != len(self.periods):
            raise ValueError(f"{len(self.periods)} periods and {len(self.peaks)} peaks; give one a period, or none")
        return self

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up once; hold and decay in each period; at last hold what was reached."""
        peaks = self.peaks or (1.0,) * len(self.periods)
        warm_up = half_up(self.warmup.of(budget.tokens))
        found = [_phase(warmup=_tokens(warm_up), to=peaks[0])]
        for index, (length, peak) in enumerate(zip(_whole(self.periods, budget.tokens), peaks, strict=True)):
            decay = half_up(length * Fraction(str(self.decay)))
            stable = length - decay - (0 if index else warm_up)
            if stable < 0:
                raise ConfigError(
                    "the first period is shorter than its warm-up and its decay",
                    expected=f"at least {warm_up + decay:,} tokens",
                    found=f"{length:,} tokens",
                    where="plan.schedule.periods",
                )
            jump = peak if index or not warm_up else None
            found.append(_phase(stable=_tokens(stable), jump_to=jump))
            found.append(_phase(decay=_tokens(decay), shape="linear", **self._end(0.1)))
        return (*found, _phase(stable="rest"))


class Rewarm(_Ending):
    """For each new data set: warm up from 0 to the old peak, then a cosine (arXiv 2403.08763)."""

    kind: Literal["rewarm"] = "rewarm"
    warmup: Share = Field(0.01, gt=0, lt=1, description="share of each data set; the rate rises from 0")
    data: tuple[Length, ...] = Field((LengthValue(share=1.0),), min_length=1, description="tokens of each data set, "
                                     "one after another; together the run")  # fmt: skip
    reset_optimizer: bool = Field(True, description="forget the optimizer's state at each switch, as published")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up and decay, once a data set."""
        found: list[Phase] = []
        for length in _whole(self.data, budget.tokens):
            warm_up = half_up(length * Fraction(str(self.warmup)))
            reset = self.reset_optimizer and bool(found)
            found.append(_phase(warmup=_tokens(warm_up), from_zero=bool(found), reset_optimizer=reset))
            found.append(_phase(decay=_tokens(length - warm_up), shape="cosine", **self._end(0.1)))
        return tuple(found)


class _Infinite(_Warmed, _Ending):
    """A cooldown to a rate that can be held over any number of data sets, and an anneal at the end of them."""

    cooldown: Length = Field(LengthValue(share=0.6), description="length of the fall to the constant rate")
    hold: Ratio = Field(0.55, gt=0, description="the constant rate, as a ratio of the peak; checkpoints to go on from "
                        "lie in this phase")  # fmt: skip
    anneal: Length = Field(
        LengthValue(share=0.15), description="length of the exponential fall at the end; 0: none yet"
    )

    def _held(self, **cooldown: Any) -> tuple[Phase, ...]:
        down = _phase(decay=self.cooldown, to=self.hold, **cooldown)
        anneal = _phase(decay=self.anneal, shape="exponential", **self._end(0.1))
        return self._warm_up(), down, _phase(stable="rest"), anneal


class InfiniteCosine(_Infinite):
    """Warm-up, cosine cooldown, constant, exponential anneal (arXiv 2403.08763, 2503.02844)."""

    kind: Literal["infinite_cosine"] = "infinite_cosine"

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, cool down, hold, anneal."""
        return self._held(shape="cosine")


class InfiniteInverseSqrt(_Infinite):
    """Warm-up, inverse-square-root cooldown, constant, exponential anneal (arXiv 2403.08763, 2503.02844)."""

    kind: Literal["infinite_inverse_sqrt"] = "infinite_inverse_sqrt"
    alpha: float = Field(10.0, gt=0, description="how steep the cooldown begins")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, cool down, hold, anneal."""
        return self._held(shape="inverse_sqrt", alpha=self.alpha)


class InverseSqrt(_Warmed):
    """peak sqrt(warm-up / tokens), which needs no horizon; the warm-up sets its time scale and cannot be 0."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    floor: Ratio | None = Field(None, description="lowest rate, as a ratio of the peak; none where nothing is said")
    floor_form: FloorForm | None = Field(None, description="max: as Megatron-LM; added: as OLMo-core")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, fall."""
        return self._warm_up(), _phase(power_law="rest", exponent=0.5, floor=self.floor, floor_form=self.floor_form)


class Power(_Warmed, _Ending):
    """min(peak, B a n^b) over tokens n, B sequences of 4096 tokens a step, then an exponential tail (2408.13359).

    The tail ends almost at 0: where nothing is said, at a thousandth of what the law itself would have come to.
    """

    kind: Literal["power"] = "power"
    a: float = Field(4.0, gt=0, description="amplitude; 3 to 5 are tolerated")
    b: float = Field(-0.51, lt=0, description="exponent, which is sensitive")
    decay: Length = Field(LengthValue(share=0.1), description="length of the tail; 0: none")

    def falls_from(self, budget: Budget) -> float:
        """Tokens until which the peak caps the law."""
        sequences = budget.step_tokens / TOKENS_A_SEQUENCE
        return float((sequences * self.a / budget.peak_lr) ** (-1 / self.b))

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, hold until the law falls below the peak, fall, decay to (almost) 0."""
        knee = self.falls_from(budget)
        warm_up = half_up(self.warmup.of(budget.tokens) / budget.step_tokens) * budget.step_tokens
        reached = 1.0 if warm_up <= knee else (warm_up / knee) ** self.b
        fall = _phase(power_law="rest", exponent=-self.b, knee=_tokens(half_up(Fraction(knee))))
        untailed = min(1.0, (budget.tokens / knee) ** self.b)
        tail = _phase(decay=self.decay, shape="exponential", **self._end(1e-3 * untailed))
        return _phase(warmup=self.warmup, to=reached), fall, tail

    def warnings(self, budget: Budget, averaged: bool) -> list[str]:
        """The parametrisation that the published constants hold for, and a cap that never lifts."""
        found = [
            "the power schedule's a and b hold for a width-scaled parametrisation (muP: embedding multiplier 12, "
            "residual 0.22 to 0.28, hidden rates and initial variance scaled by width / 256, attention logits divided "
            "by head size); for another one fit them anew"
        ]
        if self.falls_from(budget) >= budget.tokens:
            found.append(
                f"the power schedule stays at its cap, the peak, for the whole run: its law falls below the peak only "
                f"after {self.falls_from(budget):,.0f} tokens"
            )
        return found


class PowerNormalised(_Warmed, _Ending):
    """peak (tokens / warm-up)^b and a linear tail, as in OLMo-core; another schedule than `power`: no batch, no a."""

    kind: Literal["power_normalised"] = "power_normalised"
    b: float = Field(-0.51, lt=0, description="exponent")
    decay: Length = Field(LengthValue(share=0.1), description="length of the tail; 0: none")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, fall, decay to 0."""
        tail = _phase(decay=self.decay, shape="linear", **self._end(0.0))
        return self._warm_up(), _phase(power_law="rest", exponent=-self.b), tail


class Anytime(_Warmed):
    """peak (alpha / (t + alpha))^exponent, t tokens after the warm-up; goes with averaging (arXiv 2602.03702)."""

    kind: Literal["anytime"] = "anytime"
    alpha: Length = Field(description="tokens, its time scale; above 0")
    exponent: float = Field(0.5, gt=0, description="0.5 is the practical form")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """Warm up, fall."""
        return self._warm_up(), _phase(power_law="rest", exponent=self.exponent, age=self.alpha)

    def warnings(self, budget: Budget, averaged: bool) -> list[str]:
        """It is published with averaging only."""
        if averaged:
            return []
        return ["the anytime schedule replaces a decay only together with averaging; this plan averages nothing"]


class Refined(Schedule):
    """A schedule made from the gradient norms of a finished run, by `trainer_hooks.refined` (arXiv 2310.07831)."""

    kind: Literal["refined"] = "refined"
    values: tuple[Ratio, ...] = Field(min_length=2, description="ratios of the peak at equal distances over the run")
    norms: str = Field(description="checksum of the norms")
    step_tokens: int | None = Field(None, ge=1, description="tokens of an optimizer step of the run that gave them")

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """One table over the whole run."""
        return (_phase(table="rest", values=self.values, norms=self.norms),)

    def warnings(self, budget: Budget, averaged: bool) -> list[str]:
        """Norms of another batch size are other norms."""
        if self.step_tokens in (None, budget.step_tokens):
            return []
        return [
            f"the refined schedule is from gradient norms of batches of {self.step_tokens:,} tokens; this plan has "
            f"{budget.step_tokens:,}, and norms of different batch sizes cannot be compared"
        ]


def _tokens(count: int) -> LengthValue:
    return LengthValue(tokens=count)


def _whole(lengths: Sequence[LengthValue], total: int) -> list[int]:
    """Lengths that follow one another, in whole tokens: each end is rounded, so that they never drift."""
    ends = [half_up(end) for end in accumulate(length.of(total) for length in lengths)]
    return [end - start for start, end in pairwise([0, *ends])]


def _phase(**settings: Any) -> Phase:
    return Phase.model_validate({name: value for name, value in settings.items() if value is not None})


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnySchedule = Annotated[
    Constant
    | Linear
    | D2Z
    | Cosine
    | WSD
    | WSDS
    | Rewarm
    | InfiniteCosine
    | InfiniteInverseSqrt
    | InverseSqrt
    | Power
    | PowerNormalised
    | Anytime
    | Refined,
    Field(discriminator="kind"),
    BeforeValidator(_by_name),
]
