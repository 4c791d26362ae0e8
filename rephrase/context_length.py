"""How long a prompt and its answer may be together, read from a model's config.json without loading the model.

The rules are those of vLLM 0.32: `max_position_embeddings` (or an older name of it), times the factor of a linear or
dynamic rope scaling; other scalings have it in the number already. Models with longrope answer short texts worse when
they are set up for long ones, so what they were trained at is the default there.

How it is used:  longest_context(folder, wanted=None)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus.errors import ConfigError

_NAMES = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "model_max_length",
)  # fmt: skip


def longest_context(folder: Path, *, wanted: int | None) -> int:
    """The context in tokens: `wanted`, or the model's own maximum for null.

    Raises ConfigError for more than the model was made for, and for null where config.json gives no length.
    """
    config = folder / "config.json"
    whole = json.loads(config.read_text(encoding="utf-8"))
    said = whole.get("text_config") or whole
    lengths = [said[name] for name in _NAMES if isinstance(said.get(name), int)]
    rope = said.get("rope_parameters") or said.get("rope_scaling") or {}
    most = int(min(lengths) * _factor(rope)) if lengths else None
    if wanted is None and most is None:
        raise ConfigError(
            "config.json does not say how long the model's context is",
            expected=f"one of {', '.join(_NAMES)}", where=str(config), fix="set max_context",
        )  # fmt: skip
    if wanted is not None and most is not None and wanted > most:
        raise ConfigError(
            f"max_context is {wanted:,}, more than the model was made for",
            expected=f"at most {most:,} tokens", where=str(config), fix="lower max_context, or set it to null",
        )  # fmt: skip
    if wanted is not None:
        return wanted
    assert most is not None
    trained = said.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    return int(trained) if _kind(rope) == "longrope" and trained else most


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type", rope.get("type", "default")))


def _factor(rope: Mapping[str, Any]) -> float:
    return float(rope.get("factor") or 1) if _kind(rope) in ("linear", "dynamic") else 1.0
