"""What a resolved average is made of at each of its marks: step sizes and coefficients as vectors, without tensors.

A window and a `step_ema` are running means, given by one step size a mark; `lawa` and `pma` are means over the newest
marks. Where the optimizer starts anew or the rate jumps, they start anew too: the weights right at that position are
both the end of what was before and the beginning of what follows, so they may open a mean that older ones are not in.

    final_marks(resolved.averages["lawa"])        # positions and coefficients of the average at the end of the run
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainer_hooks.average_kinds import (
    CurveAverage,
    ExplicitAverage,
    Lawa,
    Pma,
    ResolvedAverage,
    SlidingAverage,
    StepEma,
    WindowAverage,
)
from trainer_hooks.averaging_rules import (
    anytime_steps,
    coefficients,
    coefficients_from_steps,
    curve_coefficients,
    half_life_steps,
    step_sizes,
)
from trainer_hooks.shapes import Floats


class MergedMarks(NamedTuple):
    """Token positions, shape (m,) int64, oldest first, and their coefficients, shape (m,) float64, summing to 1."""

    marks: npt.NDArray[np.int64]
    coefficients: Floats


def mark_coefficients(average: WindowAverage | SlidingAverage, positions: npt.ArrayLike) -> Floats:
    """The coefficients of these rising token positions, all of one window, oldest first; they sum to 1.

    Raises ConfigError where there are no such coefficients, or they cannot be applied one after the other.
    """
    if isinstance(average, CurveAverage):
        return curve_coefficients(average.shape, average.to, positions)
    if isinstance(average, ExplicitAverage):
        step_sizes(average.weights)  # raises
        return np.asarray(average.weights, dtype=np.float64)
    if isinstance(average, Lawa):
        return coefficients("sma", np.size(positions))
    kind = average.weights if isinstance(average, Pma) else average.kind
    return coefficients(kind, np.size(positions), average.alpha)


def running_steps(resolved: ResolvedAverage) -> Floats:
    """The step size l_t of every mark of a window or a step_ema, shape (marks,); 1 where a mean begins."""
    ema = resolved.average
    if not isinstance(ema, StepEma):
        return step_sizes(resolved.coefficients)
    borders = [_first_after(resolved, restart) for restart in resolved.restarts]
    starts = sorted({0, *(border for border in borders if border < len(resolved.marks))})
    pieces = [
        _ema_steps(ema, resolved, resolved.marks[a:b])
        for a, b in zip(starts, [*starts[1:], len(resolved.marks)], strict=True)
    ]
    return np.concatenate(pieces)


def sliding_marks(resolved: ResolvedAverage, newest: int) -> MergedMarks:
    """The marks in the mean of a lawa or pma once the mark `newest` is in, and their coefficients."""
    sliding = resolved.average
    assert isinstance(sliding, SlidingAverage)
    end = resolved.marks.index(newest) + 1
    begin = max([0, end - sliding.last, *(_at_or_after(resolved, r) for r in resolved.restarts if r < newest)])
    marks = np.asarray(resolved.marks[begin:end], dtype=np.int64)
    return MergedMarks(marks, mark_coefficients(sliding, marks))


def final_marks(resolved: ResolvedAverage) -> MergedMarks:
    """The marks and coefficients of the average at the end of the run, of whatever kind."""
    if isinstance(resolved.average, SlidingAverage):
        return sliding_marks(resolved, resolved.until)
    marks = np.asarray(resolved.marks, dtype=np.int64)
    if isinstance(resolved.average, StepEma):
        return MergedMarks(marks, coefficients_from_steps(running_steps(resolved)))
    return MergedMarks(marks, np.asarray(resolved.coefficients, dtype=np.float64))


def _ema_steps(ema: StepEma, resolved: ResolvedAverage, marks: range) -> Floats:
    debiased = ema.form == "debiased"
    if resolved.half_life is not None:
        return half_life_steps(len(marks), resolved.every, resolved.half_life, debiased=debiased)
    assert ema.half_life_seen is not None
    return anytime_steps(marks, ema.half_life_seen, debiased=debiased)


def _at_or_after(resolved: ResolvedAverage, tokens: int) -> int:
    """The index of the first mark at or after a position; the number of marks where there is none."""
    return min(max(0, -(-(tokens - resolved.first) // resolved.every)), len(resolved.marks))


def _first_after(resolved: ResolvedAverage, tokens: int) -> int:
    return _at_or_after(resolved, tokens + 1)
