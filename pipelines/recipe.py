"""The recipe: one YAML file, the whole way from web pages to trained models.

Every key is described here once, and `gradatim run --explain` prints these descriptions. What a recipe says is
identity: it enters fingerprints. Where and how it runs (workspace, runtime, workers, master) never does, except
that a recipe may name the runtime it expects.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from corpus.config import Config, Count, Share, apply_overrides, load_yaml, nearest, parse_count, validated
from corpus.errors import ConfigError
from curriculum.kinds import Policy
from mixtures.config import MixtureConfig
from pipelines.rephrase_instruments import InstrumentSettings
from pipelines.stages.decontaminate import DecontaminateStep
from pipelines.stages.deduplicate import MinHashSettings
from pipelines.stages.readers.base import InputConfig
from raters.composite import CompositeSettings
from raters.kinds import AnyRater
from raters.signals import SignalsSettings
from rephrase.budget import Budget
from rephrase.generators import AnyGenerator
from rephrase.routing import Routing
from rephrase.vllm_settings import VllmSettings
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve

BUNDLED = Path(__file__).parent / "demo"
DEMO = BUNDLED / "demo.yaml"


class FilterStep(Config):
    """Apply a rule set over signal columns."""

    filter: str = Field(description="a rule set: gopher, c4, fineweb, or a path to a YAML file of rules")
    sources: tuple[str, ...] = Field((), description="apply it to these inputs only (default: all)")


class DatatroveStep(Config):
    """Run a datatrove filter or formatter by name."""

    datatrove: str = Field(description="class name, such as URLFilter or GopherRepetitionFilter")
    args: dict[str, Any] = Field(default={}, description="its constructor's arguments")
    sources: tuple[str, ...] = Field((), description="apply it to these inputs only (default: all)")


class Extraction(Config):
    """How HTML becomes text."""

    extractor: Literal["resiliparse", "trafilatura"] = Field(
        "resiliparse", description="resiliparse, or trafilatura: ten times slower, a little cleaner"
    )


class Rating(Config):
    """Which scores documents get, and how they become one."""

    raters: dict[str, AnyRater] = Field({"signals": SignalsSettings()}, description="what rates, by a name of yours")
    composite: CompositeSettings = CompositeSettings()


class Rephrasing(Config):
    """Which documents are rephrased, in which styles, by which model."""

    styles: tuple[str, ...] = Field(
        (), description="bundled styles, or paths of style files; none: the route's, or medium"
    )
    route: Routing = Field(Routing(), description="which styles a document gets: all, quality, random, or settings")
    by: str = Field("composite", description="the score that routes documents and puts the best first")
    generator: AnyGenerator = Field(VllmSettings(), description="what answers: kind vllm, or kind server")
    instruments: InstrumentSettings = Field(InstrumentSettings(), description="what gates use beyond the two texts")
    sources: tuple[str, ...] = Field((), description="inputs to draw documents from (default: all)")
    budget: Budget = Field(Budget(), description="how much to rephrase (default: everything)")
    rate: float | None = Field(None, gt=0, description="generated tokens per second and GPU, for a budget of GPU-hours")
    measure: bool = Field(False, description="measure that rate on the first outputs, once")
    pick: Literal["best", "random"] = Field("random", description="a keyed draw, or the best-scored documents first")
    dedup: MinHashSettings | None = Field(
        None, description="how near-duplicates among all rephrasings are found and left out; null: they stay"
    )
    batch_size: Count = Field(4096, ge=1, description="requests handed to the generator together")
    task_requests: Count = Field(4_000, ge=1, description="requests of a task, about; decides what a file holds")
    rollout: int = Field(0, ge=0, description="another number gives another output of each document")
    seed: int = Field(0, ge=0, description="keys the route, the choice and every draw")


class TokenizerConfig(Config):
    """Train a tokenizer on the clean documents, or load one."""

    vocabulary: Count = Field(4096, description="size of the byte-level BPE to train")
    path: Path | None = Field(None, description="a tokenizer.json to load instead, relative to the recipe")


class Arm(Config):
    """One training run: an order of the mixture's documents and a plan."""

    order: Policy | dict[str, Policy] | None = Field(
        None, description="how visits are put in order, in all phases or in each; null: as the mixture merges sources"
    )
    plan: Plan


class Training(Config):
    """The arms to compare: the same document visits, in different orders, under different plans."""

    model: ModelConfig
    arms: dict[str, Arm]


class Recipe(Config):
    """A whole pipeline."""

    name: str
    seed: int = Field(0, description="keys every draw: splits, shuffles, visits")
    runtime: Literal["spark", "local"] = Field("spark", description="what runs tasks and global steps")
    inputs: dict[str, Annotated[InputConfig, Field(discriminator="kind")]]
    shard_documents: Count = Field(5_000, description="documents a shard")
    extract: Extraction = Extraction()
    stages: tuple[FilterStep | DatatroveStep | DecontaminateStep, ...] = Field((), description="filters, in order")
    rate: Rating = Rating()
    dedup: MinHashSettings | None = Field(MinHashSettings(), description="null keeps duplicates")
    heldout: Share = Field(0.05, description="share of clean documents kept for measuring")
    rephrase: Rephrasing | None = None
    tokenizer: TokenizerConfig = TokenizerConfig()
    mixture: MixtureConfig | None = None
    train: Training | None = None

    @model_validator(mode="before")
    @classmethod
    def _model_fits_tokenizer(cls, data: Any) -> Any:
        """The model's vocabulary is that of the trained tokenizer unless it is given, padded to a multiple of 64."""
        train = data.get("train") if isinstance(data, dict) else None
        model = train.get("model", {}) if isinstance(train, dict) else None
        model = {"preset": model} if isinstance(model, str) else model
        if not isinstance(train, dict) or not isinstance(model, dict):
            return data
        tokenizer = data.get("tokenizer") or {}
        if "vocabulary" in model or not isinstance(tokenizer, dict) or tokenizer.get("path"):
            return data
        size = parse_count(tokenizer.get("vocabulary", TokenizerConfig().vocabulary))
        padded = -(-size // 64) * 64 if isinstance(size, int) else size
        return {**data, "train": {**train, "model": {**model, "vocabulary": padded}}}

    @model_validator(mode="after")
    def _names_agree(self) -> "Recipe":
        named = {source for step in self.stages for source in step.sources}
        named |= set(self.rephrase.sources) if self.rephrase else set()
        for source in sorted(named - set(self.inputs)):
            raise ValueError(f"there is no input {source!r}{nearest(source, self.inputs)}")
        if self.train and not self.mixture:
            raise ValueError("train needs a mixture: which documents, how often")
        return self


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply `--set` overrides; `demo` is the bundled one. Relative paths are the recipe's.

    Raises ConfigError that lists every problem with its dotted path.
    """
    file = recipe_file(path)
    if file.is_dir():
        raise ConfigError(f"{file} is a folder", expected="a recipe, such as recipe.yaml", fix="gradatim run demo")
    data = apply_overrides(load_yaml(file), overrides)
    recipe = validated(Recipe, data, str(file))
    _check_plans(recipe, str(file))
    return recipe


def _check_plans(recipe: Recipe, where: str) -> None:
    """Find a plan that cannot be followed now, not after an hour of curation."""
    for name, arm in recipe.train.arms.items() if recipe.train else ():
        place = f"{where}, train.arms.{name}.plan"
        try:
            resolved = resolve(arm.plan)
        except ConfigError as error:
            raise ConfigError(
                error.what, expected=error.expected, found=error.found, where=place, fix=error.fix
            ) from None
        held = recipe.mixture.tokens if recipe.mixture else None
        if held is not None and resolved.tokens >= held:
            raise ConfigError(
                f"the plan of {name} reads more than the mixture holds",
                expected=f"fewer than {held:,} tokens (one more is needed as the last target)",
                found=f"{resolved.tokens:,} tokens in {resolved.steps:,} whole steps",
                where=place,
                fix="raise mixture.tokens, or lower the plan's tokens",
            )


def recipe_file(path: Path) -> Path:
    """The file a recipe's name stands for: `demo` is the bundled one, also beside a workspace folder called demo."""
    return DEMO if str(path) == "demo" and not path.is_file() else path
