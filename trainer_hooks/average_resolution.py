"""Resolve an average once: from shares and counts to the token positions at which weights enter it."""

from collections.abc import Sequence
from dataclasses import dataclass

from corpus.errors import ConfigError
from trainer_hooks.average_kinds import (
    AnyAverage,
    Lawa,
    Pma,
    ResolvedAverage,
    StepEma,
    WindowAverage,
)
from trainer_hooks.average_marks import mark_coefficients
from trainer_hooks.lengths import LengthValue, half_up
from trainer_hooks.phases import ResolvedPhase


def resolve_average(
    name: str, average: AnyAverage, phases: Sequence[ResolvedPhase], total: int, step_tokens: int, steps: int
) -> ResolvedAverage:
    """Turn an average's lengths into whole steps and tokens.

    Args:
        total: tokens the plan asks for; steps: whole optimizer steps, of `step_tokens` each.

    Raises ConfigError where marks do not fit into the run, or a window would average across an optimizer that starts
    anew or a rate that jumps. Means that slide or decay start anew there instead.
    """
    axis = _Axis(f"plan.average.{name}", tuple(phases), total, step_tokens, steps)
    if isinstance(average, StepEma):
        return _step_ema(average, axis)
    if isinstance(average, Lawa | Pma):
        return _sliding(average, axis)
    return _window(average, axis)


def breaks(phases: Sequence[ResolvedPhase]) -> tuple[int, ...]:
    """Positions at which the optimizer starts anew or the rate jumps: no average may reach across one."""
    return tuple(
        phase.start
        for phase in phases
        if phase.start and (getattr(phase, "reset_optimizer", False) or getattr(phase, "jump", False))
    )


@dataclass(frozen=True)
class _Axis:
    """The token axis that an average of a plan lies on."""

    where: str
    phases: tuple[ResolvedPhase, ...]
    total: int
    step_tokens: int
    steps: int

    def whole_steps(self, length: LengthValue) -> int:
        return half_up(length.of(self.total) / self.step_tokens)

    def spacing(self, every: LengthValue) -> int:
        steps = self.whole_steps(every)
        if steps < 1:
            raise ConfigError(
                "the marks of this average are closer than half an optimizer step",
                found=f"every {every}",
                expected=f"at least {self.step_tokens:,} tokens",
                where=f"{self.where}.every",
            )
        return steps

    def marks(self, start: int, end: int, every: int) -> dict[str, int]:
        """Marks counted back from step `end` to `start`, in tokens; the initial weights are none."""
        first = end - (end - start) // every * every
        first += every if first == 0 else 0
        if first > end:
            raise ConfigError(
                "this average has no mark",
                expected=f"marks from step {start} to step {end}",
                found=f"every {every} steps",
                where=self.where,
                fix="lower every, or let it start earlier",
            )
        return {"first": first * self.step_tokens, "every": every * self.step_tokens, "until": end * self.step_tokens}


def _window(average: WindowAverage, axis: _Axis) -> ResolvedAverage:
    end = axis.steps if average.end is None else axis.whole_steps(average.end)
    if not 1 <= end <= axis.steps:
        raise ConfigError(
            "an averaging window ends outside the run",
            expected=f"an end of at most {axis.steps} steps of {axis.step_tokens:,} tokens",
            found=str(average.end),
            where=f"{axis.where}.end",
        )
    spacing = _window_spacing(average, axis, end)
    first = end - spacing * (average.last - 1)
    marks = [(first + i * spacing) * axis.step_tokens for i in range(average.last)]
    for position in breaks(axis.phases):
        if marks[0] < position < marks[-1]:
            raise ConfigError(
                "an averaging window would reach across an optimizer that starts anew or a rate that jumps",
                expected=f"a window within one stretch; this position is at {position:,} tokens",
                found=f"{marks[0]:,} to {marks[-1]:,} tokens",
                where=axis.where,
                fix=f"shorten window, or let it end there with end: {position}",
            )
    return ResolvedAverage(
        average=average,
        first=marks[0],
        every=spacing * axis.step_tokens,
        until=marks[-1],
        coefficients=tuple(mark_coefficients(average, marks).tolist()),
    )


def _window_spacing(average: WindowAverage, axis: _Axis, end: int) -> int:
    """Steps between checkpoints of a window; a window in tokens is taken exactly, one as a share is rounded."""
    gaps = average.last - 1
    if not gaps:
        return end
    exact = average.window.of(axis.total) / axis.step_tokens / gaps
    spacing = half_up(exact)
    if spacing < 1 or end - spacing * gaps < 1:
        raise ConfigError(
            f"{average.last} checkpoints do not fit into the averaging window",
            expected=f"a window of {gaps} to {end - 1} steps of {axis.step_tokens:,} tokens",
            found=f"{average.window} = {float(exact * gaps):.1f} steps",
            where=axis.where,
            fix="change window, or average fewer checkpoints with last",
        )
    if average.window.tokens is not None and exact != spacing:
        raise ConfigError(
            f"the distance between {average.last} checkpoints does not divide the averaging window",
            expected=f"a multiple of {gaps} steps of {axis.step_tokens:,} tokens",
            found=f"{average.window}",
            where=f"{axis.where}.window",
            fix=f"write {spacing * gaps * axis.step_tokens}, or a share of the run, which is rounded",
        )
    return spacing


def _sliding(average: Lawa | Pma, axis: _Axis) -> ResolvedAverage:
    every = axis.spacing(average.every)
    if isinstance(average, Lawa):
        start, end = axis.whole_steps(average.start), axis.steps
    else:
        constant = [phase for phase in axis.phases if phase.kind == "stable"]
        if not constant:
            raise ConfigError(
                "pma averages within a constant phase, and this plan has none",
                expected="a phase stable: ... in plan.phases",
                where=axis.where,
                fix="choose lawa, which slides along the whole run",
            )
        start = constant[-1].start // axis.step_tokens
        end = constant[-1].end // axis.step_tokens if average.until == "stable" else axis.steps
    return ResolvedAverage(average=average, **axis.marks(start, end, every), restarts=breaks(axis.phases))


def _step_ema(average: StepEma, axis: _Axis) -> ResolvedAverage:
    every = 1 if average.every is None else axis.spacing(average.every)
    half_life = None if average.half_life is None else max(1, half_up(average.half_life.of(axis.total)))
    marks = axis.marks(axis.whole_steps(average.start), axis.steps, every)
    return ResolvedAverage(average=average, **marks, half_life=half_life, restarts=breaks(axis.phases))
