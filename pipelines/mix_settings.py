"""What `mix.yaml` may say: a mixture, what its sources are read from, and how its documents are put in order.

    inputs:
      web: crawl/*.jsonl.gz                                 # JSONL, Parquet, WARC, a data set saved by `datasets`
      books: {artifact: tokens}                             # an artifact of the workspace, of tokens or of documents
      old: {artifact: tokens, workspace: ../first, under: old}   # another workspace's; its web becomes old/web
      code: {kind: tokens, path: shards, tokenizer: tokenizer.json}
    tokens: 10B
    sources: {web: 60%, books: 15%, old: {share: 15%, sequence: original}, code: 10%}

All keys of `mixtures.config.MixtureConfig` stand beside these. Run it:  gradatim mix plan mix.yaml -w work
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from corpus.config import Config, Count, Share, apply_overrides, load_yaml, validated
from curriculum.kinds import Policy
from curriculum.policies.base import OrderPolicy
from mixtures.config import MixtureConfig
from mixtures.phases import ASKS
from mixtures.preset_mixture import preset_mixture
from mixtures.presets import preset
from pipelines.named_inputs import input_settings
from pipelines.phase_orders import columns_read, phase_orders
from pipelines.recipe import TokenizerConfig
from pipelines.stages.readers.base import InputConfig


class ArtifactInput(Config):
    """Tokens or documents that a workspace holds."""

    kind: Literal["artifact"] = "artifact"
    artifact: str = Field(description="its name, as `gradatim ls` prints it")
    workspace: Path | None = Field(default=None, description="another workspace; null: this one")
    under: str | None = Field(
        default=None, min_length=1, description="a name put before those of its sources: under old, web is old/web"
    )


class TokensInput(Config):
    """A folder of token shards: ours (`.npy`, `.docs.parquet`), or bare ones in which end-of-text parts documents."""

    kind: Literal["tokens"] = "tokens"
    path: Path = Field(description="a folder of .npy files, or of .bin files of uint16 or uint32 without a header")
    tokenizer: Path = Field(description="the tokenizer.json that made them, which says what closes a document")
    under: str | None = Field(
        default=None, min_length=1, description="a name put before those of its sources: under old, web is old/web"
    )


class PresetChoice(Config):
    """A published shape of a run (mixtures/presets.py), and which sources play its roles."""

    name: str = Field(description="its name, as `gradatim mix presets` lists them")
    roles: dict[str, str] = Field(default={}, description="the key of `sources` that plays each role")
    shares: dict[str, dict[str, Share]] = Field(
        default={}, description="by phase, the shares of its roles: where none are published, or to set others"
    )
    score: str | None = Field(default=None, description="the score, where a preset keeps the best part of a source")


class Declared(Config):
    """What a source will hold, for a plan without data."""

    available: Count = Field(gt=0, description="tokens")
    documents: Count | None = Field(default=None, gt=0, description="documents; null: not known")


def _short_declared(value: Any) -> Any:
    return {"available": value} if isinstance(value, str | int) and not isinstance(value, bool) else value


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Input = Annotated[InputConfig | ArtifactInput | TokensInput, Field(discriminator="kind")]
ScoreNames = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]


class MixSettings(MixtureConfig):
    """A mixture with what it is made from."""

    inputs: dict[str, Input] = Field(
        default={},
        description="what sources are read from: an artifact, token shards, or files, which are tokenised first. Files "
        "are one source by the name of their input; artifacts and shards keep the names of their sources",
    )
    declare: dict[str, Annotated[Declared, BeforeValidator(_short_declared)]] = Field(
        default={},
        description="tokens that sources will hold: plan and check then count nothing, so that a mixture can be "
        "checked before there is data; build counts, whatever is declared",
    )
    tokenizer: TokenizerConfig | None = Field(
        default=None,
        description="for inputs of text; null: that of the token shards they are mixed with, else a trained one",
    )
    shard_documents: Count = Field(default=5_000, gt=0, description="documents a shard, for inputs of text")
    scores: dict[str, ScoreNames] = Field(
        default={},
        description="scores under names of this mixture, to keep, upsample or order by: a column of sidecars, or "
        "several that score different inputs; a score that is named by its own column need not be listed",
    )
    seed: int = Field(default=0, description="keys the draw of documents and the order")
    order: Policy | dict[str, Policy] | None = Field(
        default=None,
        description="how visits are put in order, in all phases or in each; null: sources merged at their shares, "
        "each as its sequence says",
    )

    def mixture_data(self) -> dict[str, Any]:
        """The settings of the mixture alone, as plain data; of sources and phases what is said, since the rest they
        take from elsewhere in the mixture.
        """
        whole = self.model_dump(mode="json", include=set(MixtureConfig.model_fields))
        return {**whole, **self.model_dump(mode="json", include={"sources", "phases"}, exclude_unset=True)}

    def told(self) -> dict[str, Any]:
        """The settings but for what sources are read from, as plain data that can be read back."""
        scores = {name: list(held) for name, held in self.score_names().items()}
        order = None if self.order is None else self.model_dump(mode="json", include={"order"})["order"]
        return {**self.mixture_data(), "seed": self.seed, "scores": scores, "order": order}

    def orders(self, phases: Mapping[str, OrderPolicy]) -> dict[str, OrderPolicy]:
        """The policy of each phase, given those that the mixture itself suggests. Raises ConfigError."""
        return phase_orders(self.order, phases)

    def score_names(self) -> dict[str, tuple[str, ...]]:
        """Every score that is listed or used, by its name here, with the columns that hold it."""
        used = columns_read(self, self.order)
        return {**{name: (name,) for name in sorted(used)}, **self.scores}


def load_mix(
    file: Path | None, overrides: tuple[str, ...] = (), *, chosen: Mapping[str, Any] | None = None
) -> tuple[MixSettings, Path]:
    """Settings from a preset, a file and `--set` overrides, the later over the earlier; and the folder of their paths.

    `chosen` are settings of the preset, over those under `preset:` in the file. Raises ConfigError that lists every
    problem with its dotted path, MixtureError for a preset that cannot be used.
    """
    base = file.parent if file else Path()
    data = apply_overrides(load_yaml(file) if file else {}, overrides)
    said = data.pop("preset", None)
    if said is not None or chosen:
        named = {"name": said} if isinstance(said, str) else dict(said or {})
        data = _over(_preset(_over(named, dict(chosen or {}))), data)
    inputs = data.get("inputs")
    if isinstance(inputs, dict):
        data["inputs"] = {name: _input(value, base) for name, value in inputs.items()}
    return validated(MixSettings, data, str(file or "gradatim mix")), base


def _preset(said: dict[str, Any]) -> dict[str, Any]:
    """The sources and phases of a preset as plain data."""
    choice = validated(PresetChoice, said, "preset")
    made = preset_mixture(preset(choice.name), choice.roles, shares=choice.shares, score=choice.score)
    return made.model_dump(mode="json", include={"sources", "phases"}, exclude_unset=True)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Settings above others: mappings are merged key by key, everything else is replaced.

    A source asks in one way: what it asks for above takes the place of what it asks for below.
    """
    asks = set(ASKS) if set(ASKS) & set(above) else set[str]()
    merged = {**{key: value for key, value in below.items() if key not in asks}, **above}
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = _over(below[key], value)
    return merged


def _input(value: Any, base: Path) -> Any:
    if isinstance(value, str):
        return input_settings(value, base)
    if isinstance(value, dict) and "kind" not in value:
        if "artifact" in value:
            return {"kind": "artifact", **value}
        if isinstance(value.get("path"), str):
            return {**input_settings(value["path"], base), **value}
    return value
