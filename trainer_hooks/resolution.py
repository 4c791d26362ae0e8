"""Resolve a plan once: from shares and counts to whole optimizer steps, with every refusal in one place.

The rules: the unit is tokens; a boundary is its exact token position rounded half up to a whole step, so
phases never drift apart; phases are half open and agree where they meet; what would train in silence at
rate 0, or divide by an empty phase, is refused by name.

    resolved = resolve(plan)                                 # ConfigError says what to change
"""

from fractions import Fraction
from itertools import pairwise

from corpus.errors import ConfigError
from trainer_hooks.average_kinds import ResolvedAverage
from trainer_hooks.average_resolution import resolve_average
from trainer_hooks.lengths import LengthValue, half_up
from trainer_hooks.phases import Phase, ResolvedPhase
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.shapes import SHAPES


def resolve(plan: Plan) -> ResolvedPlan:
    """Resolve a plan to whole steps and tokens.

    Raises ConfigError where the phases do not cover the run, a phase or interval rounds to no step, a rate
    would rise in a decay or stay at 0, or the averaging window does not fit.
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
    tokens = steps * step_tokens
    phases = _phases(plan, step_tokens, steps)
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
        averages=averages,
        warnings=tuple(_warnings(plan, tokens, phases, averages)),
    )


def _phases(plan: Plan, step_tokens: int, steps: int) -> tuple[ResolvedPhase, ...]:
    exact = [phase.length.of(plan.tokens) for phase in plan.phases]
    _check_cover(plan, sum(exact, Fraction(0)))
    resolved: list[ResolvedPhase] = []
    position, start, level = Fraction(0), 0, plan.peak_lr
    for index, (phase, length) in enumerate(zip(plan.phases, exact, strict=True)):
        position += length
        end = steps if position == plan.tokens or index == len(exact) - 1 else half_up(position / step_tokens)
        if length == 0:
            continue  # a phase of length 0 is no phase: no warm-up starts at the peak, no decay stays there
        where = f"phases.{index} ({phase.kind}: {phase.length})"
        if end == start:
            raise ConfigError(
                f"{where} is shorter than half an optimizer step",
                found=f"{float(length):,.0f} tokens",
                expected=f"0, or at least a step of {step_tokens:,} tokens",
                fix="lengthen it or leave it out",
            )
        lr_start, lr_end = _levels(phase, where, plan, level, first=not resolved)
        shape = (phase.shape or "1-sqrt") if phase.kind == "decay" else "linear"
        resolved.append(
            ResolvedPhase(
                kind=phase.kind,
                start=start * step_tokens,
                end=end * step_tokens,
                lr_start=lr_start,
                lr_end=lr_end,
                shape=shape,
            )
        )
        start, level = end, lr_end
    assert all(a.end == b.start and abs(a.lr_end - b.lr_start) <= 1e-12 * plan.peak_lr for a, b in pairwise(resolved))
    return tuple(resolved)


def _check_cover(plan: Plan, covered: Fraction) -> None:
    if abs(covered - plan.tokens) <= Fraction(plan.tokens, 10**8):
        return
    shares = [phase.length.share for phase in plan.phases]
    more = "more" if covered > plan.tokens else "less"
    raise ConfigError(
        f"the phases cover {more} than the run",
        expected="shares that sum to 100%" if None not in shares else f"lengths that sum to {plan.tokens:,} tokens",
        found=" + ".join(str(phase.length) for phase in plan.phases)
        + f" = {100 * float(covered / plan.tokens):g}% of {plan.tokens:,} tokens",
        where="plan.phases",
        fix="lengthen or shorten the stable phase",
    )


def _levels(phase: Phase, where: str, plan: Plan, level: float, *, first: bool) -> tuple[float, float]:
    """The rates at a phase's two ends, given the rate reached before it."""
    if phase.kind == "warmup":
        if not first:
            raise ConfigError(
                f"{where} is not the first phase",
                expected="a warm-up at the start of the plan only",
                fix="start a second plan from the checkpoint to warm up again",
            )
        return 0.0, plan.peak_lr
    if level == 0:
        raise ConfigError(
            f"{where} would train at learning rate 0, because the phase before it decays to 0",
            fix="end that decay above 0, or end the plan with it",
        )
    if phase.kind == "stable":
        return level, level
    end = phase.to_lr if phase.to is None else phase.to * plan.peak_lr
    assert end is not None
    if end > level:
        raise ConfigError(
            f"{where} ends above the rate it starts from",
            expected=f"an end of at most {level:g}",
            found=f"{end:g}",
            fix="lower to or to_lr",
        )
    shape = phase.shape or "1-sqrt"
    if end == 0 and SHAPES[shape].positive:
        raise ConfigError(
            f"{where} cannot reach 0 on a curve of shape {shape}",
            expected="an end above 0",
            fix="write to: 1/300, or choose 1-sqrt or linear",
        )
    return level, end


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


def _warnings(
    plan: Plan, tokens: int, phases: tuple[ResolvedPhase, ...], averages: dict[str, ResolvedAverage]
) -> list[str]:
    found = []
    if tokens != plan.tokens:
        found.append(f"{plan.tokens:,} tokens are rounded to {tokens:,}, a whole number of steps")
    for name, average in averages.items():
        if average.average.kind == "step_ema":
            continue  # a mean of all steps spans every phase, and fades
        marks = average.final().marks
        if any(marks[0] < phase.start < marks[-1] for phase in phases):
            found.append(f"the window of average {name} starts at {marks[0]:,} tokens and spans a change of phase")
    return found
