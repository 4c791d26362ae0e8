"""DSIR importance in plain Python: the definition that the compiled rater must equal.

Written from the definition in arXiv 2302.03169 and its public code (p-lambda/dsir): hashed uni- and bigrams of
lower-cased WordPunct tokens, one document at a time. Tests compare the kernels with it on arbitrary text, and
benchmarks/importance.py measures the same work.

The pattern of a token is matched by `re`, as NLTK 3.8's WordPunctTokenizer did. NLTK 3.10
matches it with the package `regex`, where combining marks are letters and fractions such as ½ are not.
"""

import math
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

SMOOTHING = 1e-8
"""Added to every share before its logarithm, as in the public code."""
_TOKEN = re.compile(r"\w+|[^\w\s]+")


def features(text: str) -> Iterator[str]:
    """The tokens of a text and its pairs of neighbours, joined by a blank; in the order the rater adds them."""
    before = None
    for token in _TOKEN.findall(text.lower()):
        yield token
        if before is not None:
            yield f"{before} {token}"
        before = token


def bucket(feature: str, buckets: int) -> int:
    """The bucket of one feature."""
    return int(sha256(feature.encode("utf-8")).hexdigest(), 16) % buckets


def counts(texts: Iterable[str], buckets: int) -> Counts:
    """How many features of the texts fall into each bucket: shape (buckets,)."""
    found = np.zeros(buckets, dtype=np.int64)
    for text in texts:
        for feature in features(text):
            found[bucket(feature, buckets)] += 1
    return found


def log_ratios(target: Counts, raw: Counts, pseudo_count: float = 0.0) -> npt.NDArray[np.float64]:
    """log(p_target + 1e-8) - log(p_raw + 1e-8) of each bucket; the pseudo-count goes to the target alone."""
    p_target = (target + pseudo_count) / (target.sum() + pseudo_count * target.size)
    p_raw = raw / raw.sum()
    pairs = zip(p_target.tolist(), p_raw.tolist(), strict=True)
    return np.array([math.log(a + SMOOTHING) - math.log(b + SMOOTHING) for a, b in pairs])


def log_importance(text: str, ratios: npt.NDArray[np.float64]) -> tuple[float, int]:
    """The log importance weight of a text, the published sum over its features, and how many features it has."""
    found = counts([text], ratios.size)
    return float(found @ ratios), int(found.sum())
