"""Whether another trainer is set as the plan says."""

from collections.abc import Mapping
from typing import Any

from corpus.errors import ConfigError


def check_agreement(found: Mapping[str, Any], wanted: Mapping[str, Any], fix: str) -> None:
    """Raise ConfigError that names every setting of a trainer that is not the plan's, with `fix` as the way out."""
    differing = [name for name in wanted if found[name] != wanted[name]]
    if differing:
        raise ConfigError(
            "the trainer does not follow the plan",
            expected="; ".join(f"{name}: {wanted[name]}" for name in differing),
            found="; ".join(f"{name}: {found[name]}" for name in differing),
            fix=fix,
        )
