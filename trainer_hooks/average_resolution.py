"""Resolve an average once: from shares and counts to the token positions at which weights enter it."""

from collections.abc import Sequence

from corpus.errors import ConfigError
from trainer_hooks.average_kinds import AnyAverage, ResolvedAverage
from trainer_hooks.averaging_rules import coefficients
from trainer_hooks.lengths import half_up
from trainer_hooks.phases import ResolvedPhase


def resolve_average(
    name: str, average: AnyAverage, phases: Sequence[ResolvedPhase], total: int, step_tokens: int, steps: int
) -> ResolvedAverage:
    """Equally spaced positions, the first a window before the end, the last at the end of the run.

    Args:
        total: tokens the plan asks for; steps: whole optimizer steps, of `step_tokens` each.

    Raises ConfigError where the window does not fit.
    """
    marks = _marks(name, average, total, step_tokens, steps)
    weights = coefficients(average.kind, len(marks), average.alpha)
    return ResolvedAverage(average=average, marks=marks, coefficients=tuple(weights.tolist()))


def _marks(name: str, average: AnyAverage, total: int, step_tokens: int, steps: int) -> tuple[int, ...]:
    if average.last == 1:
        return (steps * step_tokens,)
    spacing = half_up(average.window.of(total) / step_tokens / (average.last - 1))
    first = steps - spacing * (average.last - 1)
    if spacing < 1 or first < 1:
        raise ConfigError(
            f"{average.last} checkpoints do not fit into the averaging window",
            expected=f"a window of {average.last - 1} to {steps - 1} steps of {step_tokens:,} tokens",
            found=f"{average.window} = {float(average.window.of(total) / step_tokens):.1f} steps",
            where=f"plan.average.{name}",
            fix="change window, or average fewer checkpoints with last",
        )
    return tuple((first + i * spacing) * step_tokens for i in range(average.last))
