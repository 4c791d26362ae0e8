"""A run folder belongs to one plan, model, order and held-out set: plan.yaml says which, and a resume compares it.

Restoring only a step counter lets an edited setting bend the curve in the middle of a run. Here every field is
compared, and each one that differs is named.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from corpus.config import load_yaml
from corpus.errors import ConfigError
from corpus.shards import write_text

PLAN_FILE = "plan.yaml"


def check_identity(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write plan.yaml into a new run folder, or compare it field by field with the one there.

    Raises ConfigError that names the fields that differ.
    """
    asked = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for name, part in parts.items()
    }
    path = folder / PLAN_FILE
    if not path.exists():
        write_text(path, yaml.safe_dump(asked, sort_keys=False))
        return
    differing = list(_differences(load_yaml(path), asked, ""))
    if differing:
        shown = differing[:5] + [f"and {len(differing) - 5} more"] * (len(differing) > 5)
        raise ConfigError(
            "this folder holds a run with other settings",
            found="; ".join(shown),
            where=str(path),
            fix="use the settings the run began with, or another folder for a new run",
        )


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{where}.{index}")
    elif old != new:
        yield f"{where} was {old!r}, is now {new!r}"
