"""Branching: a run begins where another one's past stops being its own, so that shared steps are taken once.

Two runs share their steps up to the first that reads other tokens, takes another learning rate, finds another average
under way, or is measured elsewhere. There the first of them keeps a checkpoint, and the other one goes on from a copy
of it under its own plan and order. It ends in the same bits as a run that takes every step itself: checkpoints hold
all there is to a run, and the trainer compares both pasts once more before it goes on.

    branches(members)                                        # [None, Branch(parent=0, step=960), ...]
    begin(members[1], members[:1])                           # a folder of its own, if a checkpoint is there
    train(..., change=change_for(members[1], members))
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpus.config import load_yaml
from curriculum.common_prefix import common_tokens
from curriculum.order import Order
from trainer_hooks.checkpoints import STATE, checkpoint_path, checkpoints_in, damage
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.metrics import METRICS
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_resume import resume_findings
from trainer_hooks.run_identity import PLAN_FILE, Change

CHECKPOINTS = "checkpoints"
FORKING = ".forking"


@dataclass(frozen=True)
class Member:
    """A run among those that may share steps with it: its plan, what it reads, and its folder."""

    resolved: ResolvedPlan
    order: Order
    folder: Path


@dataclass(frozen=True)
class Branch:
    """Where a run may leave another one: the number of that one among the members, and the steps they share."""

    parent: int
    step: int


def branches(members: Sequence[Member]) -> list[Branch | None]:
    """For each member the one before it that it shares most steps with, the first of equals; None: it shares none."""
    found: list[Branch | None] = []
    for number, member in enumerate(members):
        shared = [common_steps(other, member) for other in members[:number]]
        most = max(shared, default=0)
        found.append(Branch(shared.index(most), most) if most else None)
    return found


def common_steps(one: Member, other: Member) -> int:
    """The first optimizer steps of two runs that are the same, to the bit, and measured at the same places.

    The runs have one model, and plans that may differ in all that a run may change on its way
    (`trainer_hooks.plan_resume.MAY_CHANGE`); with other differences they share no step.
    """
    a, b = one.resolved, other.resolved
    same_order = one.order.fingerprint == other.order.fingerprint
    if a.step_tokens != b.step_tokens or (a.plan.hooks and not (same_order and a.steps == b.steps)):
        return 0  # hooks look at visits, and at where a run ends
    steps = min(a.steps, b.steps)
    rates = (step_learning_rates(plan)[:steps] for plan in (a, b))
    steps = _before_first(np.not_equal(*rates), steps)
    evaluated = (np.array([plan.evaluates(step) for step in range(1, steps + 1)], bool) for plan in (a, b))
    steps = _before_first(np.not_equal(*evaluated), steps)
    if not same_order:  # the last target of a step is one token further
        steps = min(steps, max(common_tokens(one.order, other.order) - 1, 0) // a.step_tokens)
    return _acceptable(a, b, steps)


def begin(member: Member, finished: Iterable[Member]) -> int | None:
    """Give a run that has no folder yet one that goes on from the latest checkpoint it shares; its step, or None.

    Damaged ones are passed over; where there is none, nothing is made, and the run begins at its beginning.
    What a kill leaves of a copy is made again.
    """
    if member.folder.exists():
        return None
    places: list[tuple[int, Member]] = []
    for other in finished:
        most = common_steps(other, member)
        places += [(step, other) for step in _own_checkpoints(other) if step <= most]
    for step, other in sorted(places, key=lambda place: -place[0]):
        if damage(checkpoint_path(other.folder / CHECKPOINTS, step)) is None:
            _copy(other.folder, step, member.folder)
            return step
    return None


def change_for(member: Member, members: Iterable[Member]) -> Change:
    """The change of plan, and of order where it is another's, under which a run goes on from where its folder is."""
    plan = member.folder / PLAN_FILE
    began = str(load_yaml(plan)["order"]) if plan.exists() else ""
    return Change(next((other.order for other in members if other.order.fingerprint == began), None))


def _before_first(differs: np.ndarray[tuple[int], np.dtype[np.bool_]], steps: int) -> int:
    return int(differs.argmax()) if differs.any() else steps


def _acceptable(a: ResolvedPlan, b: ResolvedPlan, steps: int) -> int:
    """The most of so many steps after which a run of one plan may go on under the other: if late, then early, too."""
    low, high = 0, steps
    while low < high:
        middle = (low + high + 1) // 2
        if resume_findings(a, b, middle * a.step_tokens).acceptable:
            low = middle
        else:
            high = middle - 1
    return low


def _own_checkpoints(member: Member) -> list[int]:
    """Steps of the checkpoints that a run wrote itself; one it began from is another's, in another order perhaps."""
    found = []
    for step, path in checkpoints_in(member.folder / CHECKPOINTS).items():
        saved = json.loads((path / STATE).read_text(encoding="utf-8"))
        if saved["loader"]["order_fingerprint"] == member.order.fingerprint:
            found.append(step)
    return found


def _copy(run: Path, step: int, folder: Path) -> None:
    """A run's folder as it was after a step: its plan, its metrics (later lines are cut when it goes on), its state."""
    temporary = folder.with_name(folder.name + FORKING)
    shutil.rmtree(temporary, ignore_errors=True)
    checkpoint = checkpoint_path(run / CHECKPOINTS, step)
    shutil.copytree(checkpoint, temporary / CHECKPOINTS / checkpoint.name)
    for name in (PLAN_FILE, METRICS):
        shutil.copyfile(run / name, temporary / name)
    temporary.replace(folder)
