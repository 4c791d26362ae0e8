"""Turn a mixture's configuration into exact token counts, or say why it cannot be had and what would help.

Phase by phase: what each component asks for (mixtures/weighing.py), kept within floors, ceilings and what is left of
its cap on visits, then whole tokens by largest remainder. Caps hold over all phases together, and an earlier phase
comes first, so that editing a later one changes nothing before it. A ramp counts with its exact integral.

How it is used: `allocate(available(candidates, config), config)`.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from mixtures.allocation import Allocation, Component, PhaseAllocation, PhaseRow, amount
from mixtures.available import Available, Held
from mixtures.config import MixtureConfig, PhaseConfig
from mixtures.phases import Phase, asks_in, fixed_tokens, lay_out
from mixtures.repeats import WARN_EPOCHS, check_epochs
from mixtures.shares import MixtureError, exactly, largest_remainder
from mixtures.static_shares import bounded
from mixtures.supply import Supply, supplies
from mixtures.turns import turns_of
from mixtures.weighing import Asked, Shares, asked_shares

REST = "the rest of others"


def allocate(available: Available | Mapping[str, Held], config: MixtureConfig) -> Allocation:
    """Exact tokens for each phase and component.

    Args:
        available: documents and tokens of each source; from counts alone, without candidates, quality bands are taken
            to be of equal documents, and the allocation serves to plan, not to draw.
        config: with `tokens` null the budget is the largest that keeps every component within its cap.

    Raises: MixtureError for a key that stands for no source, shares that cannot be used, phases that do not add up, a
    component that cannot fill its share, or one read more than 16 times where that is not allowed.
    """
    held = available if isinstance(available, Available) else Available(available)
    supply = supplies(held, config)
    tokens = _budget(config, supply)
    intervals, said = [], []
    before: Shares = {}
    for phase in lay_out(config, tokens):
        asked = asked_shares(
            phase.asks, config, {key: one.readable(phase.asks.get(key)) for key, one in supply.items()},
            of=phase.of, unimax=_unimax_budget(phase, config, supply, before), where=phase.where,
        )  # fmt: skip
        interval = _settle(phase, config, supply, asked, before)
        said += [asked.said] if asked.said and asked.said not in said else []
        said += _short(interval, config)
        before = {row.component: row.share for row in interval.rows}
        intervals.append(interval)
    components = tuple(_component(one, intervals) for one in supply.values())
    return Allocation(
        tokens=tokens, turns=config.turns, batch=config.batch, components=components, intervals=tuple(intervals),
        warnings=(*said, *_warnings(components, config, held)),
    )  # fmt: skip


def _settle(
    phase: Phase, config: MixtureConfig, supply: Mapping[str, Supply], asked: Asked, before: Shares
) -> PhaseAllocation:
    """Bound the shares that are asked for, and count their tokens. What is given is taken off the supply."""
    shares, reasons = _bound(phase, config, supply, asked, before)
    starts = {key: before.get(key, Fraction(0)) if phase.ramp else shares[key] for key in shares}
    counts = _counts(phase, config, starts, shares)
    half, rows = Fraction(phase.ramp, 2), []
    for key, one in supply.items():
        ask, wanted = phase.asks.get(key), asked.shares.get(key, Fraction(0))
        if counts[key] > one.left(ask):
            raise one.cannot_fill(phase, shares[key], counts[key], _most(phase, config, supply, before)[key])
        rows.append(
            PhaseRow(
                component=key,
                asked_share=wanted,
                asked_tokens=round(starts[key] * half + wanted * (phase.tokens - half)),
                start_share=starts[key],
                share=shares[key],
                tokens=counts[key],
                epochs=counts[key] / max(one.readable(ask), 1),
                bound=reasons[key],
            )
        )
        one.take(ask, counts[key])
    return PhaseAllocation(name=phase.name, tokens=phase.tokens, ramp_tokens=phase.ramp, rows=tuple(rows))


def _bound(
    phase: Phase, config: MixtureConfig, supply: Mapping[str, Supply], asked: Asked, before: Shares
) -> tuple[Shares, dict[str, str]]:
    """Shares within floors, ceilings and, where they may give way, caps; and for each what decided it."""
    wanted = {key: asked.shares.get(key, Fraction(0)) for key in supply}
    floors = {key: exactly(ask.min_share) or Fraction(0) for key, ask in phase.asks.items()}
    ceilings = {key: exactly(ask.max_share) or Fraction(0) for key, ask in phase.asks.items()}
    caps: Shares = {}
    if config.when_short == "spread":
        caps = _most(phase, config, supply, before)
        _check_enough(phase, supply, wanted, {key: min(ceilings.get(key, cap), cap) for key, cap in caps.items()})
    highest = {key: min(ceilings.get(key, Fraction(1)), caps.get(key, Fraction(1))) for key in supply}
    shares, reasons = bounded(wanted, floors, highest), {}
    for key, share in shares.items():
        reasons[key] = asked.reasons.get(key, "not asked")
        if share != wanted[key]:
            met = (("cap on visits", caps.get(key)), ("floor", floors.get(key)), ("ceiling", ceilings.get(key)))
            reasons[key] = next((name for name, bound in met if share == bound), REST)
    return shares, reasons


def _counts(phase: Phase, config: MixtureConfig, starts: Shares, shares: Shares) -> dict[str, int]:
    """Whole tokens: the integral of the shares by largest remainder, or what the turns give."""
    if config.turns:
        unit = config.turns
        turns = turns_of(list(starts.values()), list(shares.values()), phase.ramp // unit, phase.tokens // unit)
        return dict(zip(shares, (unit * np.bincount(turns, minlength=len(shares))).tolist(), strict=True))
    flat = phase.tokens - Fraction(phase.ramp, 2)
    mass = [starts[key] * Fraction(phase.ramp, 2) + shares[key] * flat for key in shares]
    return dict(zip(shares, largest_remainder(mass, phase.tokens), strict=True))


def _unimax_budget(
    phase: Phase, config: MixtureConfig, supply: Mapping[str, Supply], before: Shares
) -> tuple[int, dict[str, int]]:
    """The tokens that UniMax shares out in a phase, and what each component may get by its cap."""
    most = _most(phase, config, supply, before)
    return phase.tokens, {key: math.floor(share * phase.tokens) for key, share in most.items()}


def _most(phase: Phase, config: MixtureConfig, supply: Mapping[str, Supply], before: Shares) -> Shares:
    """The share at which each component reaches its cap; below zero where the ramp alone passes it.

    Turns come out up to one off their share, so one is kept back.
    """
    turn = config.turns or 0
    half = Fraction(phase.ramp, 2)
    most = {}
    for key, one in supply.items():
        left = one.left(phase.asks.get(key))
        if turn:
            left = max(left // turn - 1, 0) * turn
        start = before.get(key, Fraction(0)) if phase.ramp else Fraction(0)
        most[key] = max((left - half * start) / (phase.tokens - half), Fraction(0))
    return most


def _check_enough(phase: Phase, supply: Mapping[str, Supply], wanted: Shares, ceilings: Shares) -> None:
    """Raise MixtureError where all components together cannot fill a phase."""
    reached = sum((ceilings[key] for key, share in wanted.items() if share), Fraction(0))
    if reached < 1:
        shown = ", ".join(
            f"{key} {amount(supply[key].held)}, cap {supply[key].max_visits:g}"
            for key, share in wanted.items()
            if share
        )
        most = math.floor(reached * phase.tokens)
        raise MixtureError(
            f"the sources cannot fill {f'the phase {phase.name!r}' if phase.name else 'the mixture'}",
            expected=f"{phase.tokens:,} tokens", found=f"at most {most:,} under the caps: {shown}", where=phase.where,
            fix=f"raise max_visits, or set {f'{phase.where}.tokens' if phase.name else 'mixture.tokens'}: {most}",
        )  # fmt: skip


def _budget(config: MixtureConfig, supply: Mapping[str, Supply]) -> int:
    """The tokens of the run: as set, as the phases or the sources say, or as many as the caps allow."""
    tokens = config.tokens if config.tokens is not None else fixed_tokens(config)
    asks = list(config.sources.values())
    if tokens is None and not config.phases and all(ask.tokens is not None for ask in asks):
        tokens = sum(ask.tokens or 0 for ask in asks)
    if tokens is None:
        tokens = _largest(config, supply)
    if not tokens:
        raise MixtureError("the mixture holds no tokens", expected="a budget of 1 or more", fix="set mixture.tokens")
    return tokens


def _largest(config: MixtureConfig, supply: Mapping[str, Supply]) -> int:
    """The largest budget within all caps. Shares of phases round to whole tokens, so a few are kept back for each."""
    turn = (config.turns or 1) * (config.batch or 1)
    if config.when_short == "spread" or config.weighing == "unimax":
        if config.phases:
            raise MixtureError(
                "a mixture with phases has no largest budget when shares may give way to caps", fix="set mixture.tokens"
            )
        return (
            sum(one.left(config.sources[key]) for key, one in supply.items() if _may_give(config, key)) // turn * turn
        )
    used, n_stretches = _uses(config, supply), max(len(config.phases), 1)
    back = 3 * (n_stretches - 1) + (turn * n_stretches if turn > 1 else 0)
    most = min((room for key, one in supply.items() for room in one.budgets(used[key], back)), default=0)
    return max(most // turn * turn, 0)


def _may_give(config: MixtureConfig, key: str) -> bool:
    ask = config.sources[key]
    return ask.share != 0 and ask.weight != 0


def _uses(config: MixtureConfig, supply: Mapping[str, Supply]) -> dict[str, list[tuple[object, Fraction]]]:
    """What part of the run each component takes in each phase, with the ask it takes it by."""
    used: dict[str, list[tuple[object, Fraction]]] = {key: [] for key in supply}
    before: Shares = {}
    parts: list[tuple[PhaseConfig | None, float | None, float | None]] = [(None, 1.0, 0.0)]
    if config.phases:
        parts = [(phase, phase.tokens.share, phase.ramp.share) for phase in config.phases]
    if any(p.tokens.share is None or p.ramp.tokens for p in config.phases):
        raise MixtureError(
            "phases with lengths in tokens beside shares need a run whose length is known", fix="set mixture.tokens"
        )
    for phase, length, ramp in parts:
        asks = asks_in(config, phase) if phase else config.sources
        where = f"mixture.phases.{phase.name}.sources" if phase and phase.sources is not None else "mixture.sources"
        held = {key: one.readable(asks.get(key)) for key, one in supply.items()}
        asked = asked_shares(asks, config, held, of=None, unimax=None, where=where).shares
        floors = {key: ask.min_share for key, ask in asks.items() if ask.min_share}
        shares = bounded(asked, floors, {key: ask.max_share for key, ask in asks.items()})
        whole, half = exactly(length or 0) or Fraction(0), (exactly(ramp or 0) or Fraction(0)) / 2
        for key in supply:
            share = shares.get(key, Fraction(0))
            used[key].append((asks.get(key), before.get(key, share) * half + share * (whole - half)))
        before = {key: shares.get(key, Fraction(0)) for key in supply}
    return used


def _component(one: Supply, intervals: Sequence[PhaseAllocation]) -> Component:
    rows = [row for interval in intervals for row in interval.rows if row.component == one.key]
    bands = one.bands([row.tokens for row in rows])
    read = [band for band in bands if one.curved or any(band.weights)] or bands
    bounds = list(dict.fromkeys(row.bound for row in rows if row.tokens or row.asked_share))
    return Component(
        name=one.key, sources=one.sources, sequence=one.sequence, by=one.quality.by if one.quality else None,
        documents=sum(band.documents for band in read), available_tokens=sum(band.available_tokens for band in read),
        max_visits=one.max_visits, asked_tokens=sum(row.asked_tokens for row in rows),
        tokens=sum(row.tokens for row in rows),
        bound=", ".join(bounds) or "not asked", bands=bands,
    )  # fmt: skip


def _short(interval: PhaseAllocation, config: MixtureConfig) -> list[str]:
    if config.when_short == "error":
        return []
    where = f" in {interval.name}" if interval.name else ""
    return [
        f"{row.component} asked for {row.asked_tokens:,} tokens{where} and could give {row.tokens:,}; "
        "the others took the rest"
        for row in interval.rows
        if row.bound == "cap on visits"
    ]


def _warnings(components: Sequence[Component], config: MixtureConfig, held: Available) -> list[str]:
    warnings = []
    for one in components:
        check_epochs(one.name, max((band.epochs for band in one.bands), default=0), allow=config.allow_many_visits)
        if one.epochs > WARN_EPOCHS:
            warnings.append(check_epochs(one.name, one.epochs, allow=True))
        documents, tokens = held.unscored.get(one.name, (0, 0))
        if documents:
            warnings.append(
                f"{documents:,} documents of {one.name} ({amount(tokens)} tokens) have no {one.by}: not read"
            )
        if one.by and one.name not in held.bands:
            warnings.append(f"the bands of {one.name} are a guess from its size; to draw them its scores are needed")
    taken = {source for one in components for source in one.sources}
    unused = sorted(set(held.sources) - taken)
    return [*warnings, *([f"not in the mixture, and not read: {', '.join(unused)}"] if unused else [])]
