"""Resolve a plan once: from shares and counts to whole optimizer steps, with every refusal in one place.

The rules: the unit is tokens; a boundary is its exact token position rounded half up to a whole step, so
phases never drift apart; phases are half open and agree where they meet; what would train in silence at
rate 0, or divide by an empty phase, is refused by name.

    resolved = resolve(plan)                                 # ConfigError says what to change
"""

from fractions import Fraction

from corpus.errors import ConfigError
from trainer_hooks.average_kinds import ResolvedAverage
from trainer_hooks.average_resolution import resolve_average
from trainer_hooks.lengths import LengthValue, half_up
from trainer_hooks.phase_resolution import Budget, resolve_phases
from trainer_hooks.phases import ResolvedPhase
from trainer_hooks.plan import Plan, ResolvedPlan


def resolve(plan: Plan) -> ResolvedPlan:
    """Resolve a plan to whole steps and tokens.

    Raises ConfigError where the phases do not cover the run, a phase or interval rounds to no step, a rate
    would rise in a decay or stay at 0, the averaging window does not fit, or a place lies outside the run.
    """
    step_tokens = plan.sequence_length * plan.batch_sequences
    steps = half_up(Fraction(plan.tokens, step_tokens))
    if steps < 1:
        raise ConfigError(
            "the plan is shorter than one optimizer step",
            expected=f"at least {step_tokens:,} tokens ({plan.batch_sequences} sequences of {plan.sequence_length})",
            found=f"{plan.tokens:,} tokens",
            fix="raise tokens, or lower batch_sequences",
        )
    tokens, budget = steps * step_tokens, Budget(plan.tokens, step_tokens, plan.peak_lr)
    phases = _phases(plan, budget, steps)
    averages = {
        name: resolve_average(name, average, phases, plan.tokens, step_tokens, steps)
        for name, average in plan.average.items()
    }
    keep = plan.keep.every
    return ResolvedPlan(
        plan=plan,
        step_tokens=step_tokens,
        steps=steps,
        tokens=tokens,
        phases=phases,
        eval_every_steps=_every(plan.eval_every, "eval_every", plan.tokens, step_tokens),
        checkpoint_every_steps=_every(plan.checkpoint_every, "checkpoint_every", plan.tokens, step_tokens),
        keep_every_steps=None if keep is None else _every(keep, "keep.every", plan.tokens, step_tokens),
        eval_at_steps=_places(plan.eval_at, "eval_at", plan.tokens, step_tokens, steps),
        keep_at_steps=_places(plan.keep.at, "keep.at", plan.tokens, step_tokens, steps),
        averages=averages,
        warnings=tuple(_warnings(plan, budget, tokens, phases, averages)),
    )


def _phases(plan: Plan, budget: Budget, steps: int) -> tuple[ResolvedPhase, ...]:
    if plan.schedule is None:
        return resolve_phases(plan.phases, budget, steps)
    return resolve_phases(plan.schedule.phases(budget), budget, steps, "schedule")


def _every(length: LengthValue, name: str, total: int, step_tokens: int) -> int:
    steps = half_up(length.of(total) / step_tokens)
    if steps < 1:
        raise ConfigError(
            f"{name} is shorter than half an optimizer step",
            found=str(length),
            expected=f"at least {step_tokens:,} tokens",
            where=f"plan.{name}",
        )
    return steps


def _places(lengths: tuple[LengthValue, ...], name: str, total: int, step_tokens: int, steps: int) -> tuple[int, ...]:
    """Places of the run as whole steps, rising, each once."""
    found = {half_up(length.of(total) / step_tokens): length for length in lengths}
    for step, length in found.items():
        if not 1 <= step <= steps:
            raise ConfigError(
                f"{name} names a place outside the run",
                expected=f"places from the first step's end to the last's, {step_tokens:,} to {steps * step_tokens:,} "
                "tokens",
                found=str(length),
                where=f"plan.{name}",
            )
    return tuple(sorted(found))


def _warnings(
    plan: Plan, budget: Budget, tokens: int, phases: tuple[ResolvedPhase, ...], averages: dict[str, ResolvedAverage]
) -> list[str]:
    found = []
    if plan.schedule is not None:
        found += plan.schedule.warnings(budget, averaged=bool(averages))
    if tokens != plan.tokens:
        found.append(f"{plan.tokens:,} tokens are rounded to {tokens:,}, a whole number of steps")
    for name, average in averages.items():
        if average.average.kind == "step_ema":
            continue  # a mean of all steps spans every phase, and fades
        marks = average.final().marks
        if any(marks[0] < phase.start < marks[-1] for phase in phases):
            found.append(f"the window of average {name} starts at {marks[0]:,} tokens and spans a change of phase")
    return found
