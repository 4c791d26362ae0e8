"""What is left of a component under its cap on visits, as phases take from it, band by band.

Every band may be read `max_visits` times (a band of an upsampling curve: up to the curve's `top`, the component as a
whole `max_visits` times). What one phase takes is no longer there for the next.

How it is used: by `mixtures.allocate`, which asks `left`, calls `take`, and raises `cannot_fill`.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from mixtures.allocation import Band, amount
from mixtures.available import Available, banded, keys_of, owned_sources
from mixtures.bands import Quality, band_weights, quality_of
from mixtures.config import MixtureConfig, SourceConfig
from mixtures.config import Sequence as Reading
from mixtures.phases import Phase, run_limit
from mixtures.shares import MixtureError, exactly, largest_remainder
from mixtures.turns import turns_of

_WHOLE = (Fraction(0), Fraction(1))


class Supply:
    """One component while its tokens are shared out."""

    def __init__(
        self,
        key: str,
        sources: tuple[str, ...],
        quality: Quality | None,
        held: Sequence[tuple[int, int]],
        *,
        max_visits: float,
        sequence: Reading,
        turn: int,
    ) -> None:
        self.key, self.sources, self.quality, self.sequence = key, sources, quality, sequence
        self.max_visits, self._turn = max_visits, turn
        self._bands = list(held)
        self._tokens = [tokens for _, tokens in held]
        self._cap = exactly(max_visits) or Fraction(0)
        self._taken = [0] * len(self._bands)  # by band, for the phases whose weights do not depend on the whole run
        self._total = 0
        self._asks: list[SourceConfig | None] = []

    @property
    def held(self) -> int:
        """Tokens of all bands, each document once."""
        return sum(self._tokens)

    @property
    def curved(self) -> bool:
        """Does an upsampling curve read it? Its cap then counts visits of the whole, unread bands included."""
        return any(ask.upsample is not None for ask in self._asks if ask)

    def readable(self, ask: SourceConfig | None) -> int:
        """Tokens of the bands that a phase which asks so reads at all."""
        if ask is None or self.quality is None or ask.upsample:
            return self.held
        return sum(held for held, weight in zip(self._tokens, self._weights(ask), strict=True) if weight)

    def left(self, ask: SourceConfig | None) -> int:
        """Tokens that a phase which asks so may still be given."""
        ask = ask or self._before()
        whole = math.floor(self._cap * self.held) - self._total
        if ask is None or self.quality is None:
            return whole
        if ask.upsample:
            return min(whole, math.floor(self._curve_cap(ask)) - self._total)
        weights = self._weights(ask)
        back = (
            self._turn if sum(weight > 0 for weight in weights) > 1 else 0
        )  # a band may get a turn more than its share
        rooms = [
            max(math.floor(self._cap * held) - taken - back, 0) / weight
            for held, taken, weight in zip(self._tokens, self._taken, weights, strict=True)
            if weight
        ]
        return min(math.floor(room) for room in rooms)

    def budgets(self, uses: Sequence[tuple[object, Fraction]], back: int) -> list[int]:
        """The largest budgets of a run under each cap of the component, of which each phase takes these parts."""
        parts = [(ask, part) for ask, part in uses if isinstance(ask, SourceConfig) and part]
        total = sum((part for _, part in parts), Fraction(0))
        if not total:
            return []
        caps = [(self._cap * self.held, total)]
        if self.quality is not None:
            curves = [ask for ask, _ in parts if ask.upsample]
            caps += [(self._curve_cap(ask), total) for ask in curves]
            if not curves:
                by_band = [[weight * part for weight in self._weights(ask)] for ask, part in parts]
                used = [sum(column, Fraction(0)) for column in zip(*by_band, strict=True)]
                caps += [(self._cap * held, one) for held, one in zip(self._tokens, used, strict=True) if one]
        return [math.floor((math.floor(cap) - back) / part) for cap, part in caps]

    def take(self, ask: SourceConfig | None, tokens: int) -> None:
        """Give tokens to the next phase."""
        ask = ask or self._before()
        self._asks.append(ask)
        self._total += tokens
        if ask is None or ask.upsample or not tokens:
            return
        counts = self._split(self._weights(ask), tokens)
        self._taken = [taken + count for taken, count in zip(self._taken, counts, strict=True)]

    def bands(self, tokens: Sequence[int]) -> tuple[Band, ...]:
        """The bands with what each gives in each phase, once all phases have taken theirs."""
        repetition = Fraction(self._total, self.held) if self.held else Fraction(0)
        weights, counts = [], []
        for ask, given in zip(self._asks, tokens, strict=True):
            part = self._weights(ask, repetition) if ask and given else [Fraction(0)] * len(self._bands)
            weights.append(part)
            counts.append(self._split(part, given) if given else [0] * len(part))
        edges = self.quality.edges if self.quality else _WHOLE
        return tuple(
            Band(
                low=edges[i],
                high=edges[i + 1],
                documents=documents,
                available_tokens=held,
                tokens=tuple(one[i] for one in counts),
                weights=tuple(one[i] for one in weights),
            )
            for i, (documents, held) in enumerate(self._bands)
        )

    def cannot_fill(self, phase: Phase, share: Fraction, tokens: int, lower: Fraction) -> MixtureError:
        """The error for a component of which a phase asks more than is left; `lower` is the share it could have."""
        ask = phase.asks.get(self.key) or self._before()
        left = self.left(ask)
        needed, most = self._total + tokens, self._total + left
        held = most / self._cap if self._cap else Fraction(0)  # what the cap counts: the binding band, scaled up
        by_then = f" by the end of the phase {phase.name!r}" if phase.name else ""
        what = (
            f"{self.key} needs {amount(needed)} tokens{by_then}, {amount(float(held))} exist: "
            f"{float(needed / held) if held else math.inf:.2f} visits, cap {self.max_visits:g}"
        )
        more = f"set max_visits: {math.ceil(needed / held)}" if held else "raise max_visits"
        if ask and ask.upsample and most < math.floor(self._cap * self.held):
            what = f"{self.key} needs {amount(needed)} tokens{by_then}, and its upsampling curve gives {amount(most)}"
            more = "raise upsample.top (or upsample.visits), or lower upsample.drop"
        length = "the phase" if phase.name else f"the run (tokens: {math.floor(phase.tokens * left / tokens)})"
        return MixtureError(
            what,
            expected=f"at most {most:,} tokens",
            found=f"{needed:,} tokens, {100 * float(share):.4g}% of {phase.tokens:,}"
            + (f" and {self._total:,} of the phases before" if self._total else ""),
            where=f"{phase.where}.{self.key}",
            fix=f"{more}, or lower its share to {math.floor(1000 * lower) / 10:g}%, or shorten {length}, "
            "or set when_short: spread, which gives the rest to the others",
        )

    def _split(self, weights: Sequence[Fraction], tokens: int) -> list[int]:
        """Whole tokens for each band: by largest remainder, or as its turns within those of the component come out."""
        if not self._turn:
            return largest_remainder(weights, tokens)
        turns = turns_of(weights, weights, 0, tokens // self._turn)
        return [count * self._turn for count in np.bincount(turns, minlength=len(weights)).tolist()]

    def _before(self) -> SourceConfig | None:
        """What the phase before asked: on a ramp down to nothing its bands go on being read."""
        return self._asks[-1] if self._asks else None

    def _weights(self, ask: SourceConfig, repetition: Fraction = Fraction(1)) -> list[Fraction]:
        if self.quality is None or not self.held:
            return [Fraction(1), *[Fraction(0)] * (len(self._bands) - 1)]
        try:
            return band_weights(ask, self.quality.edges, self._tokens, repetition)
        except MixtureError as error:  # bands know ranks and tokens, and not whose they are
            facts = {"expected": error.expected, "found": error.found, "fix": error.fix}
            raise MixtureError(f"{self.key}: {error.what}", where=f"mixture.sources.{self.key}", **facts) from None

    def _curve_cap(self, ask: SourceConfig) -> Fraction:
        """Tokens of the bands that a curve reads, `top` times each; no more than the visits it is shaped for."""
        assert ask.upsample is not None
        assert self.quality is not None
        drop, top = (exactly(value) or Fraction(0) for value in (ask.upsample.drop, ask.upsample.top))
        read = sum(held for held, low in zip(self._tokens, self.quality.edges, strict=False) if low >= drop)
        shaped = exactly(ask.upsample.visits) if ask.upsample.visits else None
        return min(top * read, top * (1 - drop) * self.held, *([] if shaped is None else [shaped * self.held]))


def supplies(available: Available, config: MixtureConfig) -> dict[str, Supply]:
    """The components of a mixture, by key.

    Raises: MixtureError for a key that stands for no source (unless shares are spread), or one whose sources hold no
    tokens.
    """
    made = {}
    quality = quality_of(config)
    owned = owned_sources(available.sources, keys_of(config), empty_allowed=config.when_short == "spread")
    for key, sources in owned.items():
        held = tuple(sum(available.sources[source][i] for source in sources) for i in (0, 1))
        if sources and not held[1]:
            raise MixtureError(
                f"the source {key!r} holds no tokens", where=f"mixture.sources.{key}",
                fix="leave it out, or check that its shards are those meant",
            )  # fmt: skip
        bands: Sequence[tuple[int, int]] = [(held[0], held[1])]
        if key in quality:
            bands = available.bands.get(key) or banded((held[0], held[1]), quality[key])
        visits, sequence = run_limit(config, key, "max_visits"), run_limit(config, key, "sequence")
        made[key] = Supply(
            key, sources, quality.get(key), bands,
            max_visits=float(str(visits)) if visits is not None else config.max_visits,
            sequence="original" if sequence == "original" else "shuffled",
            turn=config.turns or 0,
        )  # fmt: skip
    return made
