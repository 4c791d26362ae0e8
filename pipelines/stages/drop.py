"""Dropping documents by what earlier stages found: filter rules, a list of duplicates, a held-out split.

Each is a row-wise stage that leaves the text alone and names its reason. Rules are data
(pipelines/rules/*.yaml) over signal columns that were computed once; a changed threshold reruns this cheap
stage and nothing before it.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.config import Share
from corpus.keyed_random import keyed_uniforms
from corpus.shards import read_table
from pipelines.filter_rules import load_rules
from pipelines.stages.base import Reasons, Stage
from raters.filter_signals import Rule, first_failure


class RuleFilter(Stage):
    """Drop documents that fail a rule; the reason is the set's name and the first rule failed."""

    name: str
    rules: tuple[Rule, ...]

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Reasons such as `gopher: too few stop words`. Raises ConfigError for a rule over an unknown signal."""
        failed = first_failure(batch, self.rules)
        plain = pc.replace_substring_regex(failed, f"^{re.escape(self.name)}_", "")
        return batch, pc.binary_join_element_wise(self.name, plain, ": ")


def rule_filter(name: str, base: Path) -> RuleFilter:
    """A filter from a bundled rule set, or from a YAML file relative to `base`. Raises ConfigError for neither."""
    is_file = name.endswith((".yaml", ".yml"))
    return RuleFilter(name=Path(name).stem, rules=load_rules(str(base / name) if is_file else name))


class DropListed(Stage):
    """Drop the documents a table lists; the reason is the table's `kind` followed by `duplicate`."""

    table: Path = Field(exclude=True)  # its content enters the fingerprint as an input artifact, its path does not

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Reasons `exact duplicate` or `near duplicate`; null for documents that are not listed."""
        ids, reasons = _listed(self.table)
        found = pc.index_in(batch.column("id"), value_set=ids)
        return batch, reasons.take(found)


@lru_cache(maxsize=2)
def _listed(path: Path) -> tuple[pa.Array, pa.Array]:
    table = read_table(path, ["id", "kind"]).combine_chunks()
    reasons = pc.binary_join_element_wise(table.column("kind"), "duplicate", " ")
    return _one(table.column("id")), _one(reasons)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


class HeldOut(Stage):
    """Split off documents to measure on: a share drawn by the hash of seed and id, the same for every run."""

    share: Share
    seed: int
    keep: bool = Field(description="true keeps the held-out documents, false keeps the others")

    reason: ClassVar[str] = "held out"

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Reason `held out` (or `for training`, when `keep` is set) for the rows on the other side of the split."""
        held = keyed_uniforms(self.seed, batch.column("id").to_pylist()) < self.share
        gone = ~held if self.keep else held
        reason = np.where(gone, "for training" if self.keep else self.reason, "")
        return batch, pa.array(reason, pa.string(), mask=~gone)
