"""Rate documents by importance: how much more a document looks like a target corpus than like raw text (DSIR).

log w(x) = sum over the words and word pairs of x of [log p_target - log p_raw], each hashed into 10,000 buckets
(arXiv 2302.03169; columns 17 to 19 of Meta-rater, arXiv 2504.14194). That sum grows with a document's length, so
each target has two columns: `<rater>_<target>`, the mean over the features, for composites and thresholds; and
`<rater>_<target>_sum`, the published form, whose sum over a selection is its log likelihood ratio.

Run it:  gradatim rate web.jsonl.gz --rater 'dsir={kind: importance, targets: {wiki: {files: [enwiki.jsonl.gz]}}}'
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from corpus.config import Count
from corpus.fingerprints import file_checksum
from corpus.scores import Score
from raters.base import Fitting, RaterSettings
from raters.examples import Examples
from raters.importance_table import BUCKETS, RAW, RAW_FEATURES, TABLE, fit, load_weights, read_facts

SUM = "_sum"
_MOST_BUCKETS = 2**24
"""sha256.MAX_BUCKETS, without its compiler."""


@dataclass(frozen=True)
class Importance:
    """A fitted table as a rater.

    Args:
        path: the table; not part of the identity.
        checksum: xxh3 of its bytes; a file that differs is refused.
        name: the scores' names begin with it.
        targets: the names of the table's targets, in the order of its rows.
        features: how many words and word pairs each target was fitted on, for the report.
        pseudo_count: added to every bucket of a target. Without it a bucket the target lacks costs about 9.
    """

    path: str
    checksum: str
    name: str
    targets: tuple[str, ...]
    features: tuple[int, ...]
    pseudo_count: float = 1.0

    @classmethod
    def from_folder(cls, folder: Path, name: str, pseudo_count: float = 1.0) -> "Importance":
        """The rater of a table that `importance_table.fit` wrote. Raises ArtifactError where there is none."""
        features = {target: n for target, n in read_facts(folder)["features"].items() if target != RAW}
        path = folder / TABLE
        return cls(str(path), file_checksum(path), name, tuple(features), tuple(features.values()), pseudo_count)

    @property
    def scores(self) -> tuple[Score, ...]:
        """Two scores a target: the mean of a feature's log ratio, and the sum."""
        found = []
        for target, size in zip(self.targets, self.features, strict=True):
            about = f"log importance against {target} (fitted on {size:,} words and word pairs)"
            column = f"{self.name}_{target}"
            found.append(Score(column, low=None, high=None, better="high", description=f"{about}, mean of a feature"))
            found.append(
                Score(column + SUM, low=None, high=None, better="high", description=f"{about}, sum; grows with length")
            )
        return tuple(found)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The table's bytes, which hold counts and bucket count, and how they become weights."""
        return {
            "rater": "importance", "version": 1, "name": self.name, "table": self.checksum,
            "targets": self.targets, "pseudo_count": self.pseudo_count,
            "features": "sha256 of lower-case WordPunct tokens and pairs",
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null text and for one without a word or a mark.

        Raises ArtifactError when the table is not the one the rater was made from.
        """
        from raters.text.ngram_buckets import weigh_features

        sums, sizes = weigh_features(batch.column("text"), load_weights(self.path, self.checksum, self.pseudo_count))
        means = sums / np.maximum(sizes, 1)[:, None]
        columns = [
            pa.array(values[:, i].astype(np.float32), mask=sizes == 0)
            for i in range(len(self.targets))
            for values in (means, sums)
        ]
        return pa.record_batch(columns, names=[score.name for score in self.scores])


class ImportanceSettings(RaterSettings):
    """How much more like a target corpus than like raw text a document is (DSIR)."""

    kind: Literal["importance"] = "importance"
    targets: dict[str, Examples] = Field(
        min_length=1, description="texts of each target corpus; scores are named after it"
    )
    raw: Examples | None = Field(None, description="texts to compare with (default: all documents that are rated)")
    buckets: Count = Field(BUCKETS, ge=1, le=_MOST_BUCKETS, description="buckets that words and pairs are hashed into")
    raw_features: Count = Field(
        RAW_FEATURES, description="the most words and pairs of raw text to count; above it documents are sampled"
    )
    pseudo_count: float = Field(1.0, ge=0.0, allow_inf_nan=False, description="added to each bucket of a target")
    min_features: Count | None = Field(
        None, ge=1, description="words and pairs that a corpus must have (default: 10 for each bucket)"
    )

    @field_validator("targets")
    @classmethod
    def _names(cls, targets: dict[str, Examples]) -> dict[str, Examples]:
        for name in targets:
            if not name.isidentifier() or name.endswith(SUM) or name == RAW:
                raise ValueError(
                    f"{name!r} cannot name a target; use letters, digits and _, not {RAW}, and no {SUM} at the end"
                )
        return dict(sorted(targets.items()))

    def rater(self, name: str, fitting: Fitting) -> Importance:
        """Count the corpora, or take the table that was counted from them before.

        Raises InputError for a corpus that is too small, ConfigError for one without a text.
        """

        def make(folder: Path) -> dict[str, Any]:
            targets = {target: fitting.texts(given, f"targets.{target}") for target, given in self.targets.items()}
            return fit(
                targets, fitting.texts(self.raw, "raw"), folder,
                buckets=self.buckets, raw_features=self.raw_features, min_features=self.min_features,
            )  # fmt: skip

        config = self.model_dump(mode="json", exclude={"pseudo_count"})
        return Importance.from_folder(
            fitting.keep(config, make, examples=(self.raw, *self.targets.values())), name, self.pseudo_count
        )
