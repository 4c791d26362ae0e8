"""A weights file: how to combine scores, with the evidence for it, as JSON that people and recipes can read.

A weight means nothing without the scale and the direction it was learned on, so the file states the normaliser, the
policy for missing scores and the good end of every score beside the weights. What it claims stands in `evidence`:
a sentence, and whatever was measured (design, runs, regressor, rank correlation with its interval, intervals of the
weights). Equal weights need no evidence; learned ones that are not distinguishable from equal ones say so.

Run it:  write_weights(path, WeightsFile(...));  in a recipe:  rate: {composite: {weights: weights.json}}
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from corpus.config import Config, nearest, validated
from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from corpus.scores import Better
from corpus.shards import write_text
from raters.normalise import Kind

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Missing = Literal["neutral", "median", "drop", "renormalise"]
Within = Literal["corpus", "source", "length"]


class Evidence(Config):
    """Why these weights."""

    summary: str = Field(min_length=1, description="one sentence: how they were found, and how sure that is")
    measured: dict[str, JsonValue] = Field({}, description="design, runs, regressor, correlations, intervals, verdict")


class WeightsFile(Config):
    """Weights of scores, and all that they presuppose."""

    format: Literal[1] = 1
    scores: tuple[str, ...] = Field(description="the score columns, in the order of the weights")
    weights: tuple[Weight, ...] = Field(description="one number a score, 0 or more; divided by their sum when used")
    directions: dict[str, Better] = Field({}, description="the good end of a score: high, low, middle; else as defined")
    normaliser: Kind = Field("quantile", description="the scale the weights were found on")
    within: Within = Field("corpus", description="what documents were ranked among: corpus, source, or length")
    missing: Missing = Field("neutral", description="what a missing score counts as")
    evidence: Evidence

    @model_validator(mode="after")
    def _fits_together(self) -> "WeightsFile":
        if len(self.scores) != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.scores)} scores; there must be one a score")
        for name, n in Counter(self.scores).items():
            if n > 1:
                raise ValueError(f"the score {name!r} is named {n} times")
        for name in self.directions:
            if name not in self.scores:
                raise ValueError(f"a direction is given for {name!r}, which has no weight{nearest(name, self.scores)}")
        if not sum(self.weights) > 0:
            raise ValueError("no weight is above 0")
        return self

    @property
    def checksum(self) -> str:
        """The identity of its content, 16 hex digits; blanks and the order of keys do not matter."""
        return fingerprint(self)


def read_weights(path: Path) -> WeightsFile:
    """Read a weights file. Raises ConfigError for one that is missing, is not JSON, or cannot be used."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except FileNotFoundError:
        raise ConfigError(
            "there is no weights file here", where=str(path), fix="gradatim weigh writes weights.json"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError("this is not a weights file", expected="JSON", found=str(error), where=str(path)) from None
    if not isinstance(data, dict) or "weights" not in data:
        found = f"keys {', '.join(data)}" if isinstance(data, dict) else type(data).__name__
        raise ConfigError("this is not a weights file", expected="keys scores, weights, evidence", found=found,
                          where=str(path))  # fmt: skip
    return validated(WeightsFile, data, str(path))


def write_weights(path: Path, weights: WeightsFile) -> None:
    """Write a weights file, atomically."""
    write_text(path, weights.model_dump_json(indent=1) + "\n")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
    if twice:
        raise ConfigError(f"the key {twice[0]!r} is written twice in a weights file")
    return dict(pairs)
