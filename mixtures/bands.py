"""Quality bands of a component: which document is in which, and what part of the component's tokens each band gets.

The documents of a component are ranked by a score and laid on a line by their tokens, worst first; a band is an
interval of that line. A filter reads the last bands only, an upsampling curve reads higher bands more often, weights
say outright what each gets (mixtures/upsampling.py). Phases may differ: the bands are then cut at the edges of all of
them, so that a document is in one band for the whole run, and its visits are counted through.

How it is used: `quality_of(config)`; `band_weights(ask, edges, tokens of the bands, repetition)`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.config import nearest
from curriculum.visits import VISIT_SCHEMA, canonical_sort
from mixtures.config import MixtureConfig, SourceConfig
from mixtures.shares import MixtureError, exactly, normalised
from mixtures.static_shares import bounded
from mixtures.upsampling import upsampling_curve, weighted_bands

QUALITY = ("keep", "upsample", "bands")


@dataclass(frozen=True)
class Quality:
    """How a component is cut: by which score (-name: a low one is good), and at which ranks from 0 (worst) to 1."""

    by: str
    edges: tuple[Fraction, ...]


def quality_of(config: MixtureConfig) -> dict[str, Quality]:
    """The cut of each component that asks for one, in the mixture or in a phase.

    Raises: MixtureError for a component that is cut by one score here and by another there, or upsampled in one place
    and filtered in another.
    """
    asked: dict[str, list[SourceConfig]] = {}
    for sources in (config.sources, *(phase.sources or {} for phase in config.phases)):
        for key, ask in sources.items():
            if any(getattr(ask, name) for name in QUALITY):
                asked.setdefault(key, []).append(ask)
    return {key: _quality(key, asks) for key, asks in asked.items()}


def band_numbers(
    candidates: pa.Table, rows: npt.NDArray[np.int64], quality: Quality, key: str
) -> npt.NDArray[np.int32]:
    """The band of each of these rows of the candidates, shape (n,): 0 is the worst, -1 without the score.

    A document is in the band that holds the middle of its tokens; equal scores are ranked by digest.

    Raises: MixtureError for a score that is not there, is not a number, or that none of the documents has.
    """
    score = quality.by.removeprefix("-")
    if score not in candidates.column_names or score in VISIT_SCHEMA.names:
        known = [name for name in candidates.column_names if name not in VISIT_SCHEMA.names]
        raise MixtureError(
            f"{key} is to be read by {score!r}, and its documents have no such score{nearest(score, known)}",
            where=f"mixture.sources.{key}", fix="gradatim rate gives documents scores; name one of them",
        )  # fmt: skip
    part = candidates.select(["digest", "shard", "doc", "length", score]).take(pa.array(rows)).combine_chunks()
    if not (pa.types.is_floating(part.schema.types[-1]) or pa.types.is_integer(part.schema.types[-1])):
        raise MixtureError(f"{key} cannot be ranked by {score!r}: it is not a number", where=f"mixture.sources.{key}")
    scored = pc.is_valid(part[score]).to_numpy()
    if len(rows) and not scored.any():
        raise MixtureError(
            f"no document of {key} has a score {score!r}", where=f"mixture.sources.{key}",
            fix="rate its documents, or leave out what reads them by score",
        )  # fmt: skip
    part = part.filter(pa.array(scored))
    values = part[score].to_numpy()
    line = canonical_sort(part, [-values if quality.by.startswith("-") else values, part["digest"].to_numpy()])
    length = part["length"].to_numpy()[line].astype(np.int64)
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    borders = [-(-2 * edge.numerator * total // edge.denominator) for edge in quality.edges[1:-1]]
    found = np.full(len(rows), -1, np.int32)
    found[np.flatnonzero(scored)[line]] = np.searchsorted(np.array(borders, np.int64), 2 * ends - length, side="right")
    return found


def band_weights(
    ask: SourceConfig, edges: Sequence[Fraction], tokens: Sequence[int], repetition: Fraction
) -> list[Fraction]:
    """What part of a component's tokens each band gets in a phase, shape (bands,); they sum to one.

    Args:
        ask: what the phase asks of the component.
        edges: of the bands, as in `Quality`; tokens: what each band holds.
        repetition: visits of the whole component over the run, which an upsampling curve is shaped for.

    Raises: MixtureError when the bands that would be read hold nothing, or the curve cannot be had.
    """
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    if ask.bands:
        whole = weighted_bands(ask.bands.weights, 1)
        return _divided(whole.edges, whole.factors, middles, tokens)
    if ask.upsample:
        asked = ask.upsample
        shaped = repetition if asked.visits is None else exactly(asked.visits)
        assert shaped is not None
        curve = upsampling_curve(shaped, start=asked.drop, top=asked.top, bands=asked.bands)
        factors = _factors_at(curve.edges, curve.factors, middles)
        shares, _ = normalised([factor * held for factor, held in zip(factors, tokens, strict=True)])
        most = [exactly(asked.top) * held / (shaped * sum(tokens)) for held in tokens]  # type: ignore[operator]
        named = {str(i): share for i, share in enumerate(shares)}
        return list(bounded(named, ceilings={str(i): high for i, high in enumerate(most)}).values())
    lowest = 1 - (exactly(ask.keep.top) or Fraction(0)) if ask.keep else Fraction(0)
    read = [held if middle > lowest else 0 for held, middle in zip(tokens, middles, strict=True)]
    return normalised(read)[0]


def _quality(key: str, asks: Sequence[SourceConfig]) -> Quality:
    settings = [setting for ask in asks for name in QUALITY if (setting := getattr(ask, name))]
    scores = sorted({setting.by for setting in settings})
    if len(scores) > 1:
        raise MixtureError(
            f"{key} is read by two scores", expected="one score in all phases", found=" and ".join(scores),
            where=f"mixture.sources.{key}",
        )  # fmt: skip
    if 0 < sum(ask.upsample is not None for ask in asks) < len(asks):
        raise MixtureError(
            f"{key} is upsampled by a curve in one place and cut in another way elsewhere",
            expected="one of upsample, keep and bands: the visits of a band are bounded over all phases",
            where=f"mixture.sources.{key}",
        )
    edges = {Fraction(0), Fraction(1)}
    for ask in asks:
        edges.update(_edges(ask))
    return Quality(scores[0], tuple(sorted(edges)))


def _edges(ask: SourceConfig) -> Iterable[Fraction]:
    if ask.keep:
        return [1 - (exactly(ask.keep.top) or Fraction(0))]
    parts = ask.upsample.bands if ask.upsample else len(ask.bands.weights) if ask.bands else 1
    return [Fraction(i, parts) for i in range(1, parts)]


def _factors_at(edges: Sequence[Fraction], factors: Sequence[Fraction], middles: Sequence[Fraction]) -> list[Fraction]:
    """The factor of the wider band that each narrower one lies in."""
    return [factors[sum(edge <= middle for edge in edges) - 1] for middle in middles]


def _divided(
    edges: Sequence[Fraction], weights: Sequence[Fraction], middles: Sequence[Fraction], tokens: Sequence[int]
) -> list[Fraction]:
    """Each wide band's weight, exactly, divided over the narrower bands in it by the tokens they hold."""
    wide = [sum(edge <= middle for edge in edges) - 1 for middle in middles]
    held = [sum(n for n, at in zip(tokens, wide, strict=True) if at == i) for i in range(len(weights))]
    empty = [i for i, weight in enumerate(weights) if weight and not held[i]]
    if empty:
        raise MixtureError(
            f"the quality band {len(weights) - empty[0]} of {len(weights)} (from the best) holds no document",
            fix="ask for fewer bands",
        )
    exact, _ = normalised(weights)
    return [exact[at] * n / held[at] if held[at] else Fraction(0) for n, at in zip(tokens, wide, strict=True)]
