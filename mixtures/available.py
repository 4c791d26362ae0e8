"""What a mixture can draw from: documents and tokens of each source, and of each quality band where bands are asked
for.

A key of a mixture stands for a source, or for several: `wrap` for wrap/easy and wrap/qa, `wrap/*` likewise. Together
they are one component. Where a component is filtered or upsampled by a score, its documents are ranked by it, and cut
into bands by tokens (mixtures/bands.py); documents without the score are in no band and are not read.

How it is used: `available(candidates, config)`, then `mixtures.allocation.allocate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.config import nearest
from curriculum.order import codes_and_names
from mixtures.bands import Quality, band_numbers, quality_of
from mixtures.config import MixtureConfig
from mixtures.shares import MixtureError

Held = tuple[int, int]
"""Documents and tokens."""


@dataclass(frozen=True)
class Available:
    """What there is.

    Args:
        sources: documents and tokens of each source, each document counted once.
        bands: the same of each quality band, the worst first, by component; components without bands are left out.
        unscored: documents and tokens that are in no band, by component.
    """

    sources: Mapping[str, Held]
    bands: Mapping[str, tuple[Held, ...]] = field(default_factory=dict)
    unscored: Mapping[str, Held] = field(default_factory=dict)


def available(candidates: pa.Table, config: MixtureConfig | None = None) -> Available:
    """What a table of candidates holds, and in which quality bands, where a configuration asks for any.

    Raises: MixtureError for a score that the candidates do not have, or that no document of a component has.
    """
    codes, names = codes_and_names(candidates["source"])
    length = candidates["length"].to_numpy()
    documents, tokens = _totals(codes, length, len(names))
    sources = {name: (int(documents[code]), int(tokens[code])) for code, name in enumerate(names)}
    if config is None:
        return Available(sources)
    bands: dict[str, tuple[Held, ...]] = {}
    unscored: dict[str, Held] = {}
    owned = owned_sources(sources, keys_of(config), empty_allowed=True)
    for key, quality in quality_of(config).items():
        inside = np.isin(codes, [code for code, name in enumerate(names) if name in owned[key]])
        rows = np.flatnonzero(inside)
        number = band_numbers(candidates, rows, quality, key)
        read = number >= 0
        counts = _totals(number[read], length[rows][read], len(quality.edges) - 1)
        bands[key] = tuple((int(n), int(held)) for n, held in zip(*counts, strict=True))
        unscored[key] = (int((~read).sum()), int(length[rows][~read].sum(dtype=np.int64)))
    return Available(sources, bands, unscored)


def keys_of(config: MixtureConfig) -> list[str]:
    """The components of a mixture: the keys of its sources, then those that only a phase names."""
    keys = dict.fromkeys(config.sources)
    for phase in config.phases:
        keys.update(dict.fromkeys(phase.sources or ()))
    return list(keys)


def owned_sources(
    sources: Mapping[str, object], keys: Sequence[str], *, empty_allowed: bool = False
) -> dict[str, tuple[str, ...]]:
    """The sources that each key stands for, sorted: a source belongs to its exact name, else to the longest key.

    Raises: MixtureError for a key without a source, unless that is allowed.
    """
    owned: dict[str, list[str]] = {key: [] for key in keys}
    for source in sorted(sources):
        fits = [key for key in keys if fnmatchcase(source, key) or source.startswith(f"{key}/")]
        if source in owned:
            owned[source].append(source)
        elif fits:
            owned[max(fits, key=len)].append(source)
    for key, found in owned.items():
        if not found and not empty_allowed:
            raise MixtureError(
                f"the mixture names {key!r}, and no token shard holds such a source{nearest(key, sources)}",
                where=f"mixture.sources.{key}",
            )
    return {key: tuple(found) for key, found in owned.items()}


def banded(held: Held, quality: Quality) -> tuple[Held, ...]:
    """Bands as they would be if every document had the same length: for a plan made from counts alone."""
    documents, tokens = held
    edges = [(int(edge * documents), int(edge * tokens)) for edge in quality.edges]
    return tuple((b[0] - a[0], b[1] - a[1]) for a, b in pairwise(edges))


def _totals(
    codes: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and the sum of lengths by code; sums of whole numbers below 2^53 are exact as float64."""
    return np.bincount(codes, minlength=n), np.bincount(codes, weights=lengths, minlength=n).astype(np.int64)
