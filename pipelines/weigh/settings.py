"""What `gradatim weigh` can be told: which scores, which losses, how many proxies of which size, under which plan.

All of it is identity: a changed setting remakes what depends on it and nothing else. `gradatim weigh --explain`
prints each with its meaning.
"""

from pydantic import Field, model_validator

from corpus.config import Config, Count, Share
from mixtures.learned_shares import LearnSettings
from mixtures.share_design import DesignSettings
from pipelines.proxies import DEFAULT_VOCABULARY, ProxySettings
from raters.normalise import Kind
from raters.weights_file import Missing, Within
from trainer_hooks.model_config import ModelConfig


class Combining(Config):
    """How scores are put on one scale; part of the weights file, because weights mean nothing without it."""

    normaliser: Kind = Field("quantile", description="how a raw score becomes a value in [0, 1]")
    within: Within = Field("corpus", description="rank among all documents, those of a source, or of about a length")
    missing: Missing = Field("neutral", description="what a missing score counts as")


class Validation(Config):
    """The losses that decide: held-out documents, by source."""

    sources: tuple[str, ...] = Field(
        (), description="sources whose documents are held out and measured on (default: all)"
    )
    target: tuple[str, ...] = Field(
        (),
        description="the sources whose mean loss is made small, chosen before anything is fitted (default: all)",
    )
    share: Share = Field(0.05, gt=0, lt=1, description="share of each source's documents held out, drawn by their ids")
    max_tokens: Count = Field(100_000, gt=1, description="tokens measured on, at most, in each source")

    @model_validator(mode="after")
    def _target_is_measured(self) -> "Validation":
        for name in self.target:
            if self.sources and name not in self.sources:
                raise ValueError(
                    f"target {name!r} is not among the sources that are measured on: {', '.join(self.sources)}"
                )
        return self


class Subset(Config):
    """What one weighting selects: the documents it ranks highest, up to a budget in tokens."""

    share: Share | None = Field(0.15, gt=0, le=1, description="budget as a share of the pool's tokens")
    tokens: Count | None = Field(None, description="budget in tokens, instead of a share")


class WeighSettings(ProxySettings):
    """How weights are learned."""

    scores: tuple[str, ...] = Field((), description="the score columns to weigh (default: every column there is)")
    exclude: tuple[str, ...] = Field((), description="score columns to leave out, such as the sums of importance")
    combine: Combining = Combining()
    validation: Validation = Validation()
    subset: Subset = Subset()
    design: DesignSettings = Field(DesignSettings(), description="which weightings are tried")
    random_subsets: int = Field(4, ge=0, description="runs on documents drawn at random: what selection is worth")
    confirm: int = Field(4, ge=0, description="runs with the learned weights, on the seeds of the equal ones")
    vocabulary: Count = Field(DEFAULT_VOCABULARY, description="size of the byte-level BPE trained for the proxies")
    learn: LearnSettings = Field(LearnSettings(), description="how losses are regressed and the best weights searched")
    seed: int = Field(0, ge=0, description="keys the held-out documents, ties, random subsets and the proxies' seeds")

    @property
    def proxy(self) -> ModelConfig:
        """The proxy's shape with the tokenizer's vocabulary, padded to a multiple of 64."""
        return self.proxy_of(self.vocabulary)
