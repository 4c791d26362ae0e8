"""The fitted side of DSIR importance: how often each bucket of hashed n-grams occurs in raw text and in each target.

A table of whole numbers, counted once: it does not depend on the order in which documents arrive. Where raw text
exceeds its limit, documents are sampled by a hash of their text, one in 2, 4, 8 ... until the sample fits; the
public code takes the first ones instead, which would be one source of a corpus stored source by source.

Run it:  fit({"wiki": texts}, raw_texts, folder)
"""

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.fingerprints import file_checksum
from corpus.keyed_random import keyed_hashes

TABLE, FACTS = "table.npy", "table.json"
"""The counts, int64 of shape (1 + targets, buckets), raw text first; and what the rows are, for people and raters."""
BUCKETS, RAW_FEATURES, FEATURES_PER_BUCKET = 10_000, 10**9, 10
RAW = "raw"
SMOOTHING = 1e-8
"""Added to every share before its logarithm, as in the public code."""
_SEED, _LEVELS = 0, 33

Texts = Iterable[pa.StringArray]
Counts = npt.NDArray[np.int64]


def fit(
    targets: Mapping[str, Texts],
    raw: Texts,
    folder: Path,
    *,
    buckets: int = BUCKETS,
    raw_features: int = RAW_FEATURES,
    min_features: int | None = None,
) -> dict[str, Any]:
    """Count the features (words and pairs of neighbours) of every corpus and write the table into `folder`.

    Args:
        targets: the texts of each target, read once, batch by batch.
        raw: the texts the rated ones come from; None among them are passed over.
        buckets: how many buckets features are hashed into.
        raw_features: the most features of raw text that are counted; above it whole documents are left out.
        min_features: what a corpus must have; None: 10 for each bucket, so that the logarithm of an average bucket's
            share has a standard error of about 0.3. With fewer, single words of a target decide.

    Returns:
        The facts that are also written: features and empty buckets of each corpus, and the raw sample.

    Raises:
        InputError: a corpus has fewer features than `min_features`. ConfigError: a target is named `raw`.
    """
    if RAW in targets:
        raise ConfigError(f"a target cannot be named {RAW!r}, which is what it is compared with")
    needed = FEATURES_PER_BUCKET * buckets if min_features is None else min_features
    counts = np.zeros((1 + len(targets), buckets), np.int64)
    for row, (name, texts) in enumerate(targets.items(), 1):
        counts[row], _ = sampled_counts(texts, buckets)
        _check_size(f"target {name!r}", counts[row], needed)
    counts[0], one_in = sampled_counts(raw, buckets, raw_features)
    _check_size("raw text", counts[0], needed)
    np.save(folder / TABLE, counts, allow_pickle=False)
    names = (RAW, *targets)
    facts = {
        "features": {name: int(row.sum()) for name, row in zip(names, counts, strict=True)},
        "empty_buckets": {name: int((row == 0).sum()) for name, row in zip(names, counts, strict=True)},
        "buckets": buckets,
        "raw_one_document_in": one_in,
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


def sampled_counts(texts: Texts, buckets: int, limit: int | None = None) -> tuple[Counts, int]:
    """The features of texts by bucket, shape (buckets,), and n: about one document in n was counted.

    n is the lowest power of two that keeps the features at or below `limit`. A document's hash decides for which n
    it counts, so that no order of the documents and no cut into batches changes the result.
    """
    from raters.text.ngram_buckets import add_feature_counts

    counts = np.zeros((1 if limit is None else _LEVELS, buckets), np.int64)
    lowest = 0
    for batch in texts:
        levels = np.zeros(len(batch), np.int64) if limit is None else _levels(batch)
        add_feature_counts(batch, np.where(levels >= lowest, levels, -1), counts)
        while limit is not None and counts[lowest:].sum() > limit:
            lowest += 1
    return np.asarray(counts[lowest:].sum(axis=0), np.int64), 2**lowest


def log_ratios(counts: Counts, pseudo_count: float) -> npt.NDArray[np.float64]:
    """log(p_target + 1e-8) - log(p_raw + 1e-8) for a table: shape (buckets, targets), C-contiguous.

    `pseudo_count` is added to every bucket of a target, before its counts become shares.
    """
    raw, targets = counts[0], counts[1:] + pseudo_count
    shares = np.vstack([raw / raw.sum(), targets / targets.sum(axis=1, keepdims=True)]) + SMOOTHING
    # math.log, because NumPy's own logarithm differs in the last bit from one processor to another
    logs = np.array([list(map(math.log, row)) for row in shares.tolist()])
    return np.ascontiguousarray((logs[1:] - logs[0]).T)


@lru_cache(maxsize=4)
def load_weights(path: str, checksum: str, pseudo_count: float) -> npt.NDArray[np.float64]:
    """The `log_ratios` of the table at `path`, loaded once a process. Treat them as read-only.

    Raises ArtifactError for a table that is missing or was changed since the checksum was taken.
    """
    file = Path(path)
    found = file_checksum(file) if file.is_file() else ""
    if found != checksum:
        raise ArtifactError(
            "a table of importance weights was changed or removed after it was chosen",
            expected=f"xxh3 {checksum}", found=f"xxh3 {found}" if found else "no such file", where=path,
            fix="fit it again",
        )  # fmt: skip
    return log_ratios(np.load(file, allow_pickle=False), pseudo_count)


def read_facts(folder: Path) -> dict[str, Any]:
    """What `fit` returned. Raises ArtifactError where no table was fitted."""
    file = folder / FACTS
    if not file.is_file() or not (folder / TABLE).is_file():
        raise ArtifactError(
            "no importance weights were fitted here", expected=f"{TABLE} and {FACTS}", where=str(folder)
        )
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return facts


def _levels(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """For each text the highest l, at most 32, such that it is one of the about one in 2**l that are kept."""
    hashes = keyed_hashes(_SEED, (text or "" for text in texts.to_pylist()))
    return np.fromiter((min(64 - int(value).bit_length(), _LEVELS - 1) for value in hashes), np.int64)


def _check_size(corpus: str, counts: Counts, needed: int) -> None:
    found = int(counts.sum())
    if found < needed:
        raise InputError(
            f"the {corpus} is too small for importance weights",
            expected=f"at least {needed:,} features (words and pairs of neighbours) for {counts.size:,} buckets",
            found=f"{found:,}",
            fix="give more text or use fewer buckets; a lower min_features accepts that single words decide",
        )
