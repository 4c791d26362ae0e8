"""What is found in a plan before it is followed: a sentence, how much it matters, where it is, and what would mend it.

`trainer_hooks.plan_checks` finds what a plan does that its author may not want, `trainer_hooks.plan_resume` what an
edited plan changes in a run that has begun.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from trainer_hooks.plan import Plan

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        severity: error: the run would fail, or not do what the plan says; warning: it probably does what nobody
            wants; note: worth knowing.
        code: a short name that stays the same, for programs.
        what: the finding with its numbers, a sentence without its full stop; where: the dotted path of the setting.
        fix: what would change it; empty where nothing needs to.
    """

    severity: Severity
    code: str
    what: str
    where: str = ""
    fix: str = ""


def by_severity(found: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; each in the order found."""
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def curve_setting(plan: Plan, phase: int | None = None) -> str:
    """The dotted path of what sets a plan's learning rate: its schedule, its phases, or one of these."""
    if plan.schedule is not None:
        return "plan.schedule"
    return "plan.phases" if phase is None else f"plan.phases.{phase % len(plan.phases)}"
