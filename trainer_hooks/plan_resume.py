"""What an edited plan changes in a run that has begun, and whether the run may go on under it from where it is.

The past must stay what it was: the rates of the steps taken, the weights taken into an average, the data read. So a
plan may be lengthened, or decay otherwise from here on, but not be another one in its past, nor change an average
in the middle of its window.

    changes = resume_findings(old, new, position_tokens=1_200_000)
    if changes.findings and not (changes.acceptable and accept_edits):
        ...                                              # each finding names the setting, what it was and what it is
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer_hooks.average_kinds import ResolvedAverage
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.lengths import LengthValue
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_findings import Finding, by_severity, curve_setting

MAY_CHANGE = frozenset({"tokens", "phases", "schedule", "average", "eval_every", "eval_at", "checkpoint_every", "keep"})
"""Settings of a plan that shape what is to come; a change of any other changes what the steps taken were."""
_SAME_RATE = 1e-12  # of the peak


@dataclass(frozen=True)
class PlanChanges:
    """What differs between the plan of a run and the one it is asked to go on under: notes, and errors that refuse it.

    No findings: the plans are the same.
    """

    findings: tuple[Finding, ...]

    @property
    def acceptable(self) -> bool:
        """Whether the run may go on under the new plan from here: nothing that has happened would be otherwise."""
        return all(finding.severity != "error" for finding in self.findings)


def resume_findings(old: ResolvedPlan, new: ResolvedPlan, position_tokens: int) -> PlanChanges:
    """Compare the plan of a run that has seen so many tokens with another one.

    A change is acceptable where only the settings of `MAY_CHANGE` differ, the learning rates of all steps taken are
    equal to 1e-12 of the peak, and no average that differs has taken weights in.
    """
    found = [*_settings(old, new), *_length(new, position_tokens)]
    if old.step_tokens == new.step_tokens:
        steps = position_tokens // old.step_tokens
        found += [*_rates(old, new, steps), *_resets(old, new, position_tokens), *_averages(old, new, steps)]
    return PlanChanges(tuple(by_severity(found)))


def _settings(old: ResolvedPlan, new: ResolvedPlan) -> Iterator[Finding]:
    """A finding for every setting as written that differs, whatever it does."""
    before, after = old.plan.model_dump(mode="json"), new.plan.model_dump(mode="json")
    for key in dict.fromkeys([*before, *after]):
        for path, was, now in _differences(before.get(key), after.get(key), key):
            allowed = key in MAY_CHANGE
            yield Finding(
                "note" if allowed else "error",
                "edited" if allowed else "edited-past",
                f"{path} was {was!r}, is now {now!r}",
                f"plan.{path}",
                "" if allowed else "put it back, or begin a new run in a folder of its own",
            )


def _differences(old: Any, new: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that differs, with its dotted path, what it was and what it is."""
    if _is_length(old) and _is_length(new):
        if old != new:
            yield where, _length_text(old), _length_text(new)
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        for i in range(max(len(old), len(new))):
            was, now = (side[i] if i < len(side) else None for side in (old, new))
            yield from _differences(was, now, f"{where}.{i}")
    elif old != new:
        yield where, old, new


def _is_length(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= LengthValue.model_fields.keys()


def _length_text(value: dict[str, Any]) -> str:
    share, tokens = value["share"], value["tokens"]
    return str(LengthValue(share=share, tokens=tokens)) if (share, tokens) != (None, None) else "rest"


def _length(new: ResolvedPlan, position: int) -> Iterator[Finding]:
    if new.tokens < position:
        yield Finding(
            "error", "shorter-than-run", f"the run has seen {position:,} tokens, the new plan ends at {new.tokens:,}",
            "plan.tokens", f"plan at least {position:,} tokens",
        )  # fmt: skip


def _rates(old: ResolvedPlan, new: ResolvedPlan, steps: int) -> Iterator[Finding]:
    was, now = step_learning_rates(old)[:steps], step_learning_rates(new)[:steps]
    shared = min(len(was), len(now))
    apart = np.flatnonzero(np.abs(was[:shared] - now[:shared]) > _SAME_RATE * old.plan.peak_lr)
    if len(apart):
        first = int(apart[0])
        yield Finding(
            "error", "past-rates",
            f"step {first + 1:,} of the {steps:,} taken had learning rate {was[first]:.6g}; in the new plan it has "
            f"{now[first]:.6g}",
            curve_setting(new.plan),
            "write lengths that end before here as tokens (warmup: 40K): shares of a longer run are longer",
        )  # fmt: skip


def _so_far(average: ResolvedAverage, position: int) -> ResolvedAverage:
    """What of an average shapes it up to a position: of a window all, of a mean without one not where it ends."""
    if average.coefficients:
        return average
    restarts = tuple(restart for restart in average.restarts if restart < position)
    return average.model_copy(update={"until": 0, "restarts": restarts})


def _resets(old: ResolvedPlan, new: ResolvedPlan, position: int) -> Iterator[Finding]:
    """Optimizer resets that lie behind, in one of the plans only."""
    was, now = (
        {phase.start for phase in plan.phases if phase.reset_optimizer and 0 < phase.start < position}
        for plan in (old, new)
    )
    for start in sorted(was ^ now):
        yield Finding(
            "error", "past-reset", f"the optimizer is reset at {start:,} tokens in one of the plans only",
            "plan.phases", "keep the phases that lie behind as they were",
        )  # fmt: skip


def _averages(old: ResolvedPlan, new: ResolvedPlan, steps: int) -> Iterator[Finding]:
    """Averages that differ although one of them, old or new, has taken weights in by now."""
    for name in dict.fromkeys([*old.averages, *new.averages]):
        was, now = old.averages.get(name), new.averages.get(name)
        position = steps * old.step_tokens
        if was and now and _so_far(was, position) == _so_far(now, position):
            continue
        for average, whose in ((was, "has taken"), (now, "would have taken")):
            taken = average and next((i for i in range(1, steps + 1) if average.takes(i * old.step_tokens)), None)
            if taken:
                yield Finding(
                    "error", "open-average",
                    f"average {name} {whose} weights in at {taken * old.step_tokens:,} tokens, and is another one now",
                    f"plan.average.{name}", "keep it as it was; another average goes under a new name and begins later",
                )  # fmt: skip
                break
