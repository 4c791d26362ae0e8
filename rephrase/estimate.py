"""What a run will cost, before it runs: requests, prompt and output tokens, hours, money, by style.

Requests and prompts are exact for the documents looked at: their courses are begun, and what they ask first is counted
and looked up in the cache. Where there are too many documents, a keyed sample is looked at and scaled by length. Output
lengths are foretold, in this order, from answers the cache holds for the style, from an earlier run's record, or from
the lengths that the style accepts. Retries, and the later steps of a style that asks in several, come on top.

How it is used:  estimate_style(style, sources, whole=Whole(20_000, 9_000_000), n_tokens=..., bench=bench, cache=cache)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rephrase.budget import SECONDS
from rephrase.cache import GenerationCache, cache_key
from rephrase.course import Ask, Bench, Source
from rephrase.courses import course_of
from rephrase.generator import Generation, Generator
from rephrase.style import Style

Ints = npt.NDArray[np.int64]
ENOUGH_ANSWERS = 20  # answers that foretell a style's output lengths better than its limits do
USUAL_RATIO = 1.0  # output tokens a source token, for styles that accept any length
BILLION = 10**9


@dataclass(frozen=True)
class StyleLengths:
    """What a style makes of n source tokens, on average.

    Args:
        chunk: the most source tokens of one request.
        shortest, longest: documents the style takes, in tokens; longest null: any.
        max_out: the most output tokens of one request.
        ratio: output tokens a source token.
    """

    chunk: int
    shortest: int
    longest: int | None
    max_out: int
    ratio: float

    def requests(self, tokens: Ints) -> Ints:
        """Requests for documents of so many tokens, shape (n,); 0 for those that are not sent."""
        sent = tokens >= self.shortest
        if self.longest is not None:
            sent &= tokens <= self.longest
        return np.where(sent, -(-tokens // self.chunk), 0)

    def n_out(self, tokens: Ints) -> Ints:
        """Output tokens for documents of so many tokens, shape (n,)."""
        requests = self.requests(tokens)
        foretold = np.ceil(self.ratio * tokens).astype(np.int64)
        return np.where(requests > 0, np.minimum(foretold, requests * self.max_out), 0)


def lengths_of(style: Style) -> StyleLengths:
    """A style's lengths, by its limits; outputs are expected in the middle of what its length gate accepts."""
    limits, gate = style.limits, style.gates.length
    bounds = [] if gate is None else [bound for bound in (gate.low, gate.high) if bound is not None]
    ratio = min(limits.max_ratio, sum(bounds) / 2 if len(bounds) == 2 else USUAL_RATIO)
    return StyleLengths(limits.chunk, limits.min_document, limits.max_document, limits.max_out, ratio)


@dataclass(frozen=True)
class StyleEstimate:
    """What one style will take.

    Args:
        documents: documents that are sent.
        requests, n_prompt, n_out: all first requests, their prompt tokens and the output tokens foretold.
        cached: requests whose answers are there already.
        n_new: output tokens that must still be generated.
        told_by: where output lengths come from.
        looked_at: documents whose requests were really counted.
    """

    style: str
    documents: int
    requests: int
    n_prompt: int
    n_out: int
    cached: int
    n_new: int
    told_by: str
    looked_at: int


@dataclass(frozen=True)
class Whole:
    """All documents that a sample stands for: how many, and their tokens."""

    documents: int
    tokens: int


def estimate_style(
    style: Style,
    sources: Sequence[Source],
    n_tokens: Sequence[int],
    whole: Whole,
    bench: Bench,
    cache: GenerationCache,
    *,
    earlier: float | None = None,
) -> StyleEstimate:
    """Estimate one style.

    Args:
        sources, n_tokens: the documents to look at and their lengths in tokens.
        whole: the documents they stand for.
        earlier: output tokens a request, as an earlier run had them; null where there was none.
    """
    asks = {source.id: first_asks(source, style, bench) for source in sources}
    keys = {
        cache_key(generator=bench.generator.identity, request=ask.request, document_id=name, rollout=ask.rollout): ask
        for name, its in asks.items()
        for ask in its
    }
    found = cache.find(list(keys))
    frame = bench.generator.count_prompt(style.messages(""))
    prompts = {key: _prompt_tokens(bench.generator, ask) for key, ask in keys.items()}
    bodies = {key: max(1, n - frame) for key, n in prompts.items()}
    ratio, told_by = _ratio(style, found, bodies, earlier)
    outs = {
        key: found[key].n_out if key in found else min(ask.request.max_tokens, round(ratio * bodies[key]))
        for key, ask in keys.items()
    }
    scale = whole.tokens / max(1, sum(n_tokens)) if sources else 0.0
    return StyleEstimate(
        style.name, whole.documents, round(scale * len(keys)), round(scale * sum(prompts.values())),
        round(scale * sum(outs.values())), round(scale * len(found)),
        round(scale * sum(n for key, n in outs.items() if key not in found)), told_by, len(sources),
    )  # fmt: skip


def first_asks(source: Source, style: Style, bench: Bench) -> list[Ask]:
    """What a document's course asks before it has any answer; nothing for a document that is not sent."""
    course = course_of(style)(source, style, bench)
    try:
        return next(course)
    except StopIteration:
        return []
    finally:
        course.close()


def _prompt_tokens(generator: Generator, ask: Ask) -> int:
    return generator.count_prompt(ask.request.messages, ask.request.opening)


def _ratio(
    style: Style, found: Mapping[str, Generation], bodies: Mapping[str, int], earlier: float | None
) -> tuple[float, str]:
    """Output tokens a source token, and where that comes from."""
    if found and len(found) >= min(ENOUGH_ANSWERS, len(bodies)):
        return sum(answer.n_out for answer in found.values()) / sum(bodies[key] for key in found), "stored answers"
    if earlier is not None:
        return earlier * len(bodies) / max(1, sum(bodies.values())), "an earlier run"
    return lengths_of(style).ratio, "the style's limits"


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Args:
        styles: one row a style.
        rate: generated tokens per second and GPU; null where nobody knows.
        told_by: where the rate comes from.
        gpus: how many work side by side (a CPU counts as one).
        price: of one GPU-hour, in any currency; null where none is given.
    """

    styles: tuple[StyleEstimate, ...]
    rate: float | None = None
    told_by: str = ""
    gpus: int = 1
    price: float | None = None

    @property
    def n_new(self) -> int:
        """Output tokens that must still be generated."""
        return sum(style.n_new for style in self.styles)

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours at the rate; null without one."""
        return None if self.rate is None else self.n_new / (SECONDS * self.rate)

    @property
    def hours(self) -> float | None:
        """Hours on the clock."""
        return None if self.gpu_hours is None else self.gpu_hours / self.gpus

    @property
    def gpu_hours_per_billion(self) -> float | None:
        """GPU-hours for a billion output tokens."""
        return None if self.rate is None else BILLION / (SECONDS * self.rate)

    @property
    def cost(self) -> float | None:
        """What the GPU-hours cost; null without a rate or a price."""
        return None if self.price is None or self.gpu_hours is None else self.price * self.gpu_hours
