"""A run as one file: what is read in which order, by which model, under which plan.

    order: {visits: mixture, policy: {kind: sorted, by: composite}}   # or one that exists: orders/climb
    heldout: heldout_tokens                                  # token shards, measured source by source
    tokenizer: tokenizer
    model: {hidden: 128, layers: 4}
    plan:
      tokens: 2M
      peak_lr: 3e-3
      phases: [{warmup: 2%}, {stable: 98%}]
      average: {kind: ema, last: 6}

`gradatim plan check` and `show` read the same file before anything is spent; `gradatim train` follows it.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from corpus.config import Config, apply_overrides, load_yaml, validated
from corpus.tokenizer import load_encoder
from curriculum.kinds import Policy
from pipelines.reading import TOKENIZER
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve

TOKENIZERS = ("tokenizer", "sources/tokenizer")  # of a recipe, and of a mixture built by itself
PADDING = 64  # a vocabulary of whole tiles
ASCENT = Path(__file__).parent / "demo" / "ascent.yaml"


class OrderOf(Config):
    """An order to be made: the visits of a mixture, or each document of a token artifact once."""

    visits: str = Field(description="an artifact: a mixture, such as mixture/mix, or tokens")
    policy: Policy | dict[str, Policy] = Field(description="how they are put in order, in all phases or in each")


class RunFile(Config):
    """A run: order, model, plan. Artifacts are named as in the workspace."""

    name: str = Field("", description="the run is runs/NAME; default: the file's name")
    order: str | OrderOf = Field(description="an order of the workspace, or how to make one")
    heldout: str | None = Field("heldout_tokens", description="token shards to measure on, by source; null: none")
    tokenizer: str = Field(
        "tokenizer", description="the tokenizer the tokens were made with, exported with the model; where there is "
        "none of this name, sources/tokenizer, as gradatim mix makes it"
    )  # fmt: skip
    model: ModelConfig
    plan: Plan


def load_run_file(path: Path, overrides: tuple[str, ...] = (), workspace: Path | None = None) -> RunFile:
    """Read a run file, apply `--set` overrides, and resolve its plan once to find what cannot be followed.

    What is not said is looked up in the workspace: the tokenizer, whose vocabulary, padded to a multiple of 64, a model
    without one takes.

    Raises ConfigError that lists every problem with its dotted path.
    """
    path = run_file(path)
    data: Any = apply_overrides(load_yaml(path), overrides)
    if workspace is not None:
        data = _with_vocabulary(_with_tokenizer(data, workspace), workspace)
    run = validated(RunFile, {"name": path.stem, **data}, str(path))
    resolve(run.plan)
    return run


def run_file(path: Path) -> Path:
    """The file a name stands for: `ascent` is the bundled one, where there is no file of that name."""
    return ASCENT if str(path) == "ascent" and not path.is_file() else path


def _with_tokenizer(data: dict[str, Any], workspace: Path) -> dict[str, Any]:
    names = [name for name in TOKENIZERS if (workspace / name / TOKENIZER).is_file()]
    return data if "tokenizer" in data or not names else {**data, "tokenizer": names[0]}


def _with_vocabulary(data: dict[str, Any], workspace: Path) -> dict[str, Any]:
    model = data.get("model", {})
    model = {"preset": model} if isinstance(model, str) else model
    tokenizer = workspace / str(data.get("tokenizer", RunFile.model_fields["tokenizer"].default)) / TOKENIZER
    if not isinstance(model, dict) or "vocabulary" in model or not tokenizer.is_file():
        return data
    size = -(-load_encoder(tokenizer).vocabulary // PADDING) * PADDING
    return {**data, "model": {**model, "vocabulary": size}}
