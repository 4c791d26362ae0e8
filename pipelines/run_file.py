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
from curriculum.kinds import Policy
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve


class OrderOf(Config):
    """An order to be made: the visits of a mixture, or each document of a token artifact once."""

    visits: str = Field(description="an artifact: a mixture, such as mixture/mix, or tokens")
    policy: Policy | dict[str, Policy] = Field(description="how they are put in order, in all phases or in each")


class RunFile(Config):
    """A run: order, model, plan. Artifacts are named as in the workspace."""

    name: str = Field("", description="the run is runs/NAME; default: the file's name")
    order: str | OrderOf = Field(description="an order of the workspace, or how to make one")
    heldout: str | None = Field("heldout_tokens", description="token shards to measure on, by source; null: none")
    tokenizer: str = Field("tokenizer", description="the tokenizer the tokens were made with; exported with the model")
    model: ModelConfig
    plan: Plan


def load_run_file(path: Path, overrides: tuple[str, ...] = ()) -> RunFile:
    """Read a run file, apply `--set` overrides, and resolve its plan once to find what cannot be followed.

    Raises ConfigError that lists every problem with its dotted path.
    """
    data: Any = apply_overrides(load_yaml(path), overrides)
    run = validated(RunFile, {"name": path.stem, **data}, str(path))
    resolve(run.plan)
    return run
