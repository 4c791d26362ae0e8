"""Route documents to styles by a score: what is poor is rewritten, what is good is asked about.

A score is cut into 20 buckets at its quantiles; the cuts are frozen with the fingerprint of the rater that made the
score, so that a later crawl is routed as the first one was. A table of bands says which styles a bucket may get, and a
keyed draw spreads each document's styles over them: the route is a pure function of document id, bucket and seed.

Whether routing helps is an open question (FinePhrase saw no effect of the source's quality beside a strong companion
set, BeyondWeb a small one), so `kind: random` makes its control: the same styles with the same tokens each, given out
without a look at the score. `kind: all` is the off switch: every style for every document.

How it is used:  wanted = route(ids, buckets, styles, table_of(routing, styles), seed=0, per_document=1, weights=ones)
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from corpus.config import Config, Share, nearest
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes, keyed_uniforms

BUCKETS = 20
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

QUALITY_BANDS: dict[str, tuple[str, ...]] = {
    "3-8": ("guided_rewrite", "wikipedia"),
    "9-11": ("wikipedia", "medium", "easy"),
    "12-17": ("qa", "diverse_qa", "faq", "tutorial", "table"),
    "18-20": ("distill", "extract_knowledge", "knowledge_list", "math", "table", "faq"),
}
"""Styles by bucket, 1 the worst. Buckets 1 and 2 get none: mostly spam and boilerplate. The border at 11 is that of
Nemotron-CC (arXiv 2412.02595), rewriting what is poor is REWIRE's (2506.04689), the rest is this project's choice."""

_BAND = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


class Routing(Config):
    """Which styles a document gets. As text, `quality` stands for `{kind: quality}`."""

    kind: Literal["all", "quality", "random"] = Field(
        "all", description="all: every style; quality: by bucket; random: the control of quality, blind to the score"
    )
    per_document: int | None = Field(None, ge=1, description="styles a document gets; null: all of them, routed 1")
    bands: dict[str, tuple[str, ...]] | None = Field(
        None, description="styles by buckets of 20, such as 3-8: [wikipedia]; null: the bundled table"
    )
    quotas: dict[str, Share] = Field({}, description="share of each style; those not named share what is left")
    quota_of: Literal["tokens", "documents"] = Field("tokens", description="what the shares are of")
    buckets: Path | None = Field(None, description="buckets.json of an earlier plan, to cut where it did")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _possible(self) -> "Routing":
        _buckets_of(self.bands or QUALITY_BANDS)
        if self.bands is not None and self.kind == "all":
            raise ValueError("bands need kind: quality or random; all gives every document every style")
        if sum(self.quotas.values()) > 1 + 1e-9:
            raise ValueError(f"the quotas add up to {sum(self.quotas.values()):.1%}, which is more than all")
        return self

    @property
    def by_score(self) -> bool:
        """Whether a score is needed. The random control needs it too: it copies what a route by quality gives out."""
        return self.kind != "all"


class Buckets(Config):
    """Cuts of a score into 20 buckets, frozen.

    Args:
        score, rater: the column, and the fingerprint of the rater that made it.
        better: which end is good; bucket 20 lies there.
        thresholds: 19 cuts in the direction of `better`, not falling; a value on a cut belongs above it.
    """

    score: str
    rater: str
    better: Literal["high", "low"]
    thresholds: tuple[float, ...] = Field(min_length=BUCKETS - 1, max_length=BUCKETS - 1)

    def of(self, scores: Floats) -> Ints:
        """The bucket of each score, shape (n,), in 1..20; 0 for a missing one (NaN)."""
        towards = scores if self.better == "high" else -scores
        buckets = 1 + np.searchsorted(np.asarray(self.thresholds), towards, side="right")
        return np.where(np.isnan(scores), 0, buckets).astype(np.int64)


def fit_buckets(scores: Floats, *, score: str, rater: str, better: str) -> Buckets:
    """Cut a sample of scores, shape (n,), NaN where missing, into 20 parts of equal size.

    Raises ConfigError when no document has the score, and for a score without a good end.
    """
    if better not in ("high", "low"):
        raise ConfigError(
            f"the score {score!r} has no good end: both extremes are suspect", fix="route by another score, or `all`"
        )
    known = scores[~np.isnan(scores)]
    if not len(known):
        raise ConfigError(f"no document has a value of {score!r}, so none can be routed by it", fix="rate them again")
    towards = np.sort(known if better == "high" else -known)
    cuts = towards[np.arange(1, BUCKETS) * len(towards) // BUCKETS]  # values themselves: nothing is rounded
    return Buckets.model_validate({"score": score, "rater": rater, "better": better, "thresholds": tuple(cuts)})


def styles_of_bands(bands: Mapping[str, Sequence[str]]) -> list[str]:
    """Every style that bands name, in their order, once."""
    return list(dict.fromkeys(style for styles in bands.values() for style in styles))


def table_of(routing: Routing, styles: Sequence[str]) -> Marks:
    """Which style a bucket may get: shape (21, n styles); row 0 is for documents without a score.

    A style that no band names may go wherever any style goes. Raises ConfigError for bands and quotas of styles that
    are not asked for.
    """
    for named in routing.quotas:
        if named not in styles:
            raise ConfigError(f"there is a quota of a style that is not asked for: {named!r}{nearest(named, styles)}")
    table = np.zeros((BUCKETS + 1, len(styles)), np.bool_)
    if routing.kind == "all":
        return ~table
    bands = routing.bands or QUALITY_BANDS
    named_styles = styles_of_bands(bands)
    for style in named_styles if routing.bands else ():
        if style not in styles:
            raise ConfigError(f"bands name a style that is not asked for: {style!r}{nearest(style, styles)}")
    for bucket, allowed in _buckets_of(bands).items():
        for at, style in enumerate(styles):
            table[bucket, at] = bool(allowed) and (style in allowed or style not in named_styles)
    return table


def quota_weights(routing: Routing, styles: Sequence[str], ratios: Floats) -> Floats:
    """How the draw weighs styles, shape (n styles,). `ratios`: output tokens that a style makes of one source token.

    A quota of tokens is turned into one of documents by them. A style with quota 0 is never drawn.
    """
    left = 1 - sum(routing.quotas.values())
    others = sum(style not in routing.quotas for style in styles)
    shares = np.array([routing.quotas.get(style, left / others if others else 0.0) for style in styles])
    return shares if routing.quota_of == "documents" else shares / np.maximum(ratios, 1e-9)


def route(
    ids: Sequence[str],
    buckets: Ints,
    styles: Sequence[str],
    table: Marks,
    *,
    seed: int,
    per_document: int | None,
    weights: Floats,
) -> Marks:
    """Which styles each document gets: shape (n, n styles).

    At most `per_document` (null: all) of those its bucket may get, drawn without replacement in proportion to the
    weights, shape (n styles,). A document's row depends on its id, its bucket and the seed, and on no other document.
    """
    allowed = table[buckets] & (weights > 0)
    if per_document is None or per_document >= allowed.shape[1]:
        return allowed
    times = np.full(allowed.shape, np.inf)
    for at, style in enumerate(styles):
        rows = np.flatnonzero(allowed[:, at])
        draws = keyed_uniforms(seed, (f"{ids[row]}\x00route {style}" for row in rows))
        times[rows, at] = -np.log1p(-draws) / weights[at]  # exponential clocks: the first to ring is the draw
    ranks = times.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return allowed & (ranks < per_document)


def route_at_random(
    ids: Sequence[str], tokens: Ints, styles: Sequence[str], targets: Ints, *, seed: int, per_document: int | None
) -> Marks:
    """The control of a route: each style gets its target of source tokens, from documents drawn without a score.

    Args:
        tokens: of each document, shape (n,); documents without tokens get nothing.
        targets: source tokens of each style, shape (n styles,).

    A style's total is as near to its target as a cut between two documents allows, as long as documents last.
    """
    given = np.zeros((len(ids), len(targets)), np.bool_)
    most = per_document or len(targets)
    for at, (style, target) in enumerate(zip(styles, targets.tolist(), strict=True)):
        rows = np.flatnonzero((given.sum(axis=1) < most) & (tokens > 0))
        hashes = keyed_hashes(seed, (f"{ids[row]}\x00control {style}" for row in rows))
        rows = rows[np.argsort(hashes, kind="stable")]
        ends = np.concatenate([[0], np.cumsum(tokens[rows])])
        given[rows[: int(np.abs(ends - target).argmin())], at] = True
    return given


def _buckets_of(bands: Mapping[str, Sequence[str]]) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for text, styles in bands.items():
        match = _BAND.fullmatch(str(text).strip())
        low = int(match[1]) if match else 0
        high = int(match[2] or low) if match else 0
        if not 1 <= low <= high <= BUCKETS:
            raise ValueError(f"{text!r} is no band of buckets; write 7 or 3-8, of 1 (worst) to {BUCKETS}")
        for bucket in range(low, high + 1):
            if bucket in found:
                raise ValueError(f"bucket {bucket} lies in two bands")
            found[bucket] = tuple(styles)
    return found
