"""What a mixture may say: its sources, how their shares come about, its limits, and its phases.

A short form and a long one mean the same: `web: 45%` is `web: {share: 45%}`. Shares are of the tokens of the run (or
of the phase), and every limit is counted in tokens or in visits.

    tokens: 10B
    sources:
      web: 60%
      math: {share: 25%, max_visits: 2, keep: {by: edu, top: 30%}}
      old/*: {share: 15%, sequence: original}               # replay
    phases:
      - {name: stable, tokens: 80%}
      - {name: anneal, tokens: 20%, ramp: 5%, sources: {web: 30%, math: 55%, old/*: 15%}}
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from corpus.config import Config, Count, Share, parse_count, parse_share

Sequence = Literal["shuffled", "original"]
Weighing = Literal["given", "proportional", "uniform", "unimax"]


class Keep(Config):
    """Filter: only the best documents of a source."""

    by: str = Field(description="the score that decides; -name where a low one is good")
    top: Share = Field(gt=0, description="share of the source's tokens to keep, the highest scores first")


class Upsample(Config):
    """Quality-aware upsampling: how often a document is read rises with the quantile of its score (OLMo 3)."""

    by: str = Field(description="the score that decides; -name where a low one is good")
    drop: Share = Field(default=0.4, description="quantiles below this are not read")
    top: float = Field(default=7, gt=0, description="visits of the highest band at most")
    bands: int = Field(default=20, ge=2, le=1000, description="quantile bands, by tokens")
    visits: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="visits of the whole source that the curve is shaped for, and "
        "at most; null: those of the run, so that a change of a later phase bends the curve of earlier ones, too",
    )


class Bands(Config):
    """Weights for quality bands: 50/30/20 gives the best third of a source half of its tokens."""

    by: str = Field(description="the score that decides; -name where a low one is good")
    weights: tuple[float, ...] = Field(
        min_length=2, description="one for each band of equal tokens, the best band first"
    )


def _short_source(value: Any) -> Any:
    return {"share": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class SourceConfig(Config):
    """One component of a mixture: a source or several, what it asks for, and its limits."""

    share: Share | None = Field(default=None, description="share of the tokens")
    tokens: Count | None = Field(default=None, description="tokens instead of a share")
    weight: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="a weight instead of a share: shares are weights over their sum",
    )
    min_share: Share = Field(default=0.0, description="the least it may be given, whatever the weighing says")
    max_share: Share = Field(default=1.0, description="the most it may be given")
    max_visits: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="epochs it may be read at most; null: the mixture's max_visits",
    )
    sequence: Sequence = Field(
        default="shuffled",
        description="the sequence in which its documents are drawn: shuffled (a keyed permutation for each epoch), or "
        "original (shard by shard, as they lie there), for the data of an earlier run",
    )
    keep: Keep | None = Field(default=None, description="read its best documents only")
    upsample: Upsample | None = Field(default=None, description="read better documents more often")
    bands: Bands | None = Field(default=None, description="share its tokens out over quality bands")

    @model_validator(mode="after")
    def _consistent(self) -> "SourceConfig":
        asked = [name for name in ("share", "tokens", "weight") if getattr(self, name) is not None]
        if len(asked) > 1:
            raise ValueError(f"a source asks in one way, not by {' and '.join(asked)}")
        if self.min_share > self.max_share:
            raise ValueError(f"min_share {self.min_share:g} is above max_share {self.max_share:g}")
        curves = [name for name in ("keep", "upsample", "bands") if getattr(self, name) is not None]
        if len(curves) > 1:
            raise ValueError(f"only one of {', '.join(curves)} can decide how often a document is read")
        return self


Source = Annotated[SourceConfig, BeforeValidator(_short_source)]


def _length(value: Any) -> Any:
    """`20%` and 0.2 are shares of the run, `64K` and 1000 tokens."""
    if isinstance(value, str) and not value.strip().endswith("%"):
        return {"tokens": parse_count(value)}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"tokens": value}
    return {"share": parse_share(value)} if isinstance(value, str | float) else value


class Extent(Config):
    """A length on the token axis: a share of the run, or tokens."""

    share: float | None = Field(default=None, ge=0, le=1, description="a share of the run's tokens")
    tokens: int | None = Field(default=None, ge=0, description="a count of tokens")


Length = Annotated[Extent, BeforeValidator(_length)]


class PhaseConfig(Config):
    """An interval of the run with shares of its own."""

    name: str = Field(min_length=1, description="what the phase is called in the order and in plans")
    tokens: Length = Field(description="how long it is: a share of the run, or tokens")
    ramp: Length = Field(
        default=Extent(tokens=0),
        description="at its beginning, shares move in a straight line from those of the phase before, over this length",
    )
    sources: dict[str, Source] | None = Field(
        default=None, description="what each source asks for in this phase; null: as in the mixture"
    )


class MixtureConfig(Config):
    """Sources, a budget, limits, and phases."""

    sources: dict[str, Source] = Field(
        min_length=1,
        description="what each source asks for; a name also stands for what lies below it (wrap for wrap/easy), and "
        "may hold * ? and [..]; a source belongs to the key that is its exact name, else to the longest that matches",
    )
    tokens: Count | None = Field(default=None, description="tokens in all; null: as many as the cap on visits allows")
    weighing: Weighing = Field(
        default="given",
        description="shares of sources that ask for nothing: given refuses them; proportional to their tokens, "
        "uniform, or unimax (as even as the caps allow)",
    )
    temperature: float | None = Field(
        default=None, gt=0, description="proportional shares raised to 1 / temperature; above 1 they are more even"
    )
    max_visits: float = Field(default=4, gt=0, allow_inf_nan=False, description="epochs a source may be read at most")
    allow_many_visits: bool = Field(
        default=False, description="read a source more than 16 times, where max_visits allows it"
    )
    when_short: Literal["error", "spread"] = Field(
        default="error",
        description="a source that cannot fill its share: error refuses the mixture; spread gives it all it may have, "
        "and what it leaves to the others in proportion to their shares",
    )
    phases: tuple[PhaseConfig, ...] = Field(default=(), description="intervals of the run, in order; none: one phase")
    turns: Count | None = Field(
        default=None,
        description="merge sources in whole sequences of this many tokens, by the deadline rule; null: document by "
        "document",
    )
    pairing: Literal["same", "disjoint"] = Field(
        default="same",
        description="of a document and its rephrasing: same, both may be read (WRAP); disjoint, a document that was "
        "rephrased is left out, so that each content is read in one form",
    )
    max_synthetic: Share = Field(
        default=0.8, description="the most that rephrased text may have of the tokens; more is refused"
    )
    batch: int | None = Field(
        default=None,
        gt=0,
        description="sequences of a batch: each batch has its turns in a keyed order instead of a fixed rhythm, and "
        "phases are whole batches; needs turns",
    )

    @model_validator(mode="after")
    def _batches_are_of_turns(self) -> "MixtureConfig":
        if self.batch is not None and not self.turns:
            raise ValueError(
                "batch orders the turns of a batch, and there are no turns: set turns to the sequence length"
            )
        return self

    @model_validator(mode="after")
    def _temperature_bends_proportional_shares(self) -> "MixtureConfig":
        if self.temperature is not None and self.weighing != "proportional":
            raise ValueError(f"temperature bends proportional shares, and weighing is {self.weighing}")
        return self

    @model_validator(mode="after")
    def _phases_are_named_apart(self) -> "MixtureConfig":
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two phases are called {twice!r}")
        return self
