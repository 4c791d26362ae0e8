"""Resolve the phases of a plan: whole steps that cover the run, and the rate at both ends of each.

A phase begins at the rate reached before it; where it does not, it has declared a jump. What would train in silence
at rate 0, rise in a decay, or divide by an empty interval is refused by name.

    phases = resolve_phases(plan.phases, Budget(tokens, step_tokens, peak_lr), steps)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from corpus.errors import ConfigError
from trainer_hooks.laws import PowerLaw
from trainer_hooks.lengths import half_up
from trainer_hooks.phases import Phase, ResolvedPhase
from trainer_hooks.shapes import SHAPES

CONTINUOUS = 1e-12
"""Rates closer than this share of the peak are equal where two phases meet."""


class Budget(NamedTuple):
    """What a run has to spend: tokens in all, tokens of one optimizer step, and its highest learning rate."""

    tokens: int
    step_tokens: int
    peak_lr: float


@dataclass(frozen=True)
class _Place:
    """One phase on the axis, and what the phases before it have left.

    Attributes:
        where: how messages name the phase; start, end: in tokens.
        level: the learning rate reached; None before the first phase.
        warmed_from: where the last warm-up began, in tokens; 0 where there was none.
    """

    where: str
    start: int
    end: int
    level: float | None
    warmed_from: int
    budget: Budget

    @property
    def peak(self) -> float:
        return self.budget.peak_lr

    def resolved(self, phase: Phase, begin: float, end: float, **more: Any) -> ResolvedPhase:
        """The phase from rate `begin` to rate `end` here; a start away from the rate reached is a jump."""
        return ResolvedPhase(
            kind=phase.kind,
            start=self.start,
            end=self.end,
            lr_start=begin,
            lr_end=end,
            jump=self.level is not None and abs(begin - self.level) > CONTINUOUS * self.peak,
            reset_optimizer=phase.reset_optimizer,
            **more,
        )


def resolve_phases(
    phases: Sequence[Phase], budget: Budget, steps: int, where: str = "phases"
) -> tuple[ResolvedPhase, ...]:
    """The phases in whole tokens, one after the other from 0 to the end of the last of `steps` steps.

    A boundary is its exact position rounded half up to a whole step, so rounding never accumulates; a phase of length
    0 is no phase. Raises ConfigError, naming the phase, where they do not cover the run or one cannot be trained.
    """
    lengths = _lengths(phases, budget.tokens, where)
    kept = [index for index, length in enumerate(lengths) if length > 0]
    resolved: list[ResolvedPhase] = []
    position, start, warmed_from = Fraction(0), 0, 0
    for index in kept:
        phase, length = phases[index], lengths[index]
        position += length
        end = steps if index == kept[-1] else half_up(position / budget.step_tokens)
        name = f"{where}.{index} ({phase.kind}: {phase.length})"
        if end == start:
            raise ConfigError(
                f"{name} is shorter than half an optimizer step",
                found=f"{float(length):,.0f} tokens",
                expected=f"0, or at least a step of {budget.step_tokens:,} tokens",
                fix="lengthen it, or write 0 for none",
            )
        level = resolved[-1].lr_end if resolved else None
        warmed_from = start * budget.step_tokens if phase.kind == "warmup" else warmed_from
        place = _Place(name, start * budget.step_tokens, end * budget.step_tokens, level, warmed_from, budget)
        resolved.append(_RESOLVERS[phase.kind](phase, place))
        start = end
    _check_resets(resolved, where)
    assert all(a.end == b.start for a, b in pairwise(resolved))
    return tuple(resolved)


def _lengths(phases: Sequence[Phase], total: int, where: str) -> list[Fraction]:
    """The exact length of each phase in tokens; `rest` is what the others leave."""
    rests = [index for index, phase in enumerate(phases) if phase.length.rest]
    if len(rests) > 1:
        raise ConfigError("only one phase can take the rest of the run", found=f"{len(rests)} of them", where=where)
    exact = [Fraction(0) if phase.length.rest else phase.length.of(total) for phase in phases]
    covered = sum(exact, Fraction(0))
    if rests and covered <= total:
        exact[rests[0]] = total - covered
        return exact
    if abs(covered - total) <= Fraction(total, 10**8):
        return exact
    shares = [phase.length.share for phase in phases]
    raise ConfigError(
        f"the phases cover {'more' if covered > total else 'less'} than the run",
        expected="shares that sum to 100%" if None not in shares else f"lengths that sum to {total:,} tokens",
        found=" + ".join(str(phase.length) for phase in phases)
        + f" = {100 * float(covered / total):g}% of {total:,} tokens",
        where=f"plan.{where}",
        fix="lengthen or shorten the stable phase, or write stable: rest",
    )


def _check_resets(resolved: Sequence[ResolvedPhase], where: str) -> None:
    if resolved[0].reset_optimizer:
        raise ConfigError(
            "the first phase has no optimizer state to reset",
            where=f"plan.{where}",
            fix="leave out reset_optimizer there",
        )


def _warmup(phase: Phase, place: _Place) -> ResolvedPhase:
    begin = 0.0 if phase.from_zero else place.level or 0.0
    end = place.peak if phase.to is None else phase.to * place.peak
    end = end if phase.to_lr is None else phase.to_lr
    if not begin < end <= place.peak:
        raise ConfigError(
            f"{place.where} does not rise to a rate between where it begins and the peak",
            expected=f"an end above {begin:g} and at most {place.peak:g}",
            found=f"{end:g}",
            fix="change to or to_lr, or begin from 0 with from_zero: true",
        )
    return place.resolved(phase, begin, end)


def _stable(phase: Phase, place: _Place) -> ResolvedPhase:
    begin = _begin(phase, place)
    return place.resolved(phase, begin, begin)


def _decay(phase: Phase, place: _Place) -> ResolvedPhase:
    begin, end, shape = _begin(phase, place), phase.to_lr, phase.shape or "1-sqrt"
    if phase.to is not None:
        end = phase.to * place.peak
    if phase.half_life is not None:
        end, shape = begin * _halved(phase, place), "exponential"
    assert end is not None
    if end > begin:
        raise ConfigError(
            f"{place.where} ends above the rate it starts from",
            expected=f"an end of at most {begin:g}",
            found=f"{end:g}",
            fix="lower to or to_lr",
        )
    if end == 0 and SHAPES[shape].positive:
        raise ConfigError(
            f"{place.where} cannot reach 0 on a curve of shape {shape}",
            expected="an end above 0",
            fix="write to: 1/300, or choose 1-sqrt or linear",
        )
    return place.resolved(phase, begin, end, shape=shape, power=phase.power, alpha=phase.alpha)


def _halved(phase: Phase, place: _Place) -> float:
    """The ratio that a decay by halves has reached at its end."""
    assert phase.half_life is not None
    half_life = phase.half_life.of(place.budget.tokens)
    if half_life == 0:
        raise ConfigError(f"{place.where} has a half_life of 0", expected="tokens in which the rate halves")
    return float(0.5 ** float((place.end - place.start) / half_life))


def _power_law(phase: Phase, place: _Place) -> ResolvedPhase:
    begin, total = _begin(phase, place), place.budget.tokens
    age = place.start - place.warmed_from if phase.age is None else float(phase.age.of(total))
    knee = 0.0 if phase.knee is None else float(phase.knee.of(total))
    if max(age, knee) <= 0:
        raise ConfigError(
            f"{place.where} has no time scale, because nothing comes before it: such a law is infinite at 0",
            expected="a warm-up before it, or an age above 0",
            fix="write {warmup: 1%} before it, or age: 1%",
        )
    floor = (phase.floor or 0.0) * place.peak
    if floor > begin:
        raise ConfigError(
            f"{place.where} has a floor above the rate it begins at",
            expected=f"at most {begin / place.peak:g} of the peak",
            found=f"{phase.floor:g}",
        )
    law = PowerLaw(
        exponent=phase.exponent or 0.5,
        age=age,
        knee=max(age, knee),
        floor=floor,
        floor_form=phase.floor_form or "max",
    )
    end = float(law.rate(np.array(float(place.end - place.start)), begin))
    return place.resolved(phase, begin, end, law=law)


def _table(phase: Phase, place: _Place) -> ResolvedPhase:
    assert phase.values is not None
    rates = [value * place.peak for value in phase.values]
    if place.level is not None and abs(rates[0] - place.level) > CONTINUOUS * place.peak:
        raise ConfigError(
            f"{place.where} does not begin at the rate reached before it",
            expected=f"a first value of {place.level / place.peak:g}",
            found=f"{phase.values[0]:g}",
            fix="let the table be the first phase",
        )
    return place.resolved(phase, rates[0], rates[-1], table=tuple(rates), norms=phase.norms)


def _begin(phase: Phase, place: _Place) -> float:
    """The rate a phase begins at: where it jumps to, else the rate reached, else the peak."""
    if phase.jump_to is not None:
        return phase.jump_to * place.peak
    if place.level == 0:
        raise ConfigError(
            f"{place.where} would train at learning rate 0, because the phase before it decays to 0",
            fix="end that decay above 0, end the plan with it, warm up again, or declare a jump with jump_to: 1",
        )
    return place.peak if place.level is None else place.level


_RESOLVERS = {"warmup": _warmup, "stable": _stable, "decay": _decay, "power_law": _power_law, "table": _table}
