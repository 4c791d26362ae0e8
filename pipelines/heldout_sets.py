"""Held-out token shards as sets to measure on, one a source.

evaluate(model, heldout_sets(Artifact(workspace / "heldout_tokens"))["web"], ...)
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.tokens import read_token_shard
from pipelines.stages.naming import source_of

if TYPE_CHECKING:
    from trainer_hooks.evaluation import HeldOut


def heldout_sets(shards: Iterable[Path]) -> "dict[str, HeldOut]":
    """Token shards by the source in their names; shards too short to predict anything are left out."""
    from trainer_hooks.evaluation import HeldOut

    by_source: dict[str, list[Path]] = {}
    for path in shards:
        if len(read_token_shard(path)) > 1:
            by_source.setdefault(source_of(path), []).append(path)
    return {source: HeldOut.from_shards(paths) for source, paths in by_source.items()}
