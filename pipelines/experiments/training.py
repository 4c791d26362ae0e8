"""A run as it is trained in a workspace: the plan it follows, what decides its result, and where that is kept.

A result is kept under the identity of its run, whatever the arm is called: a killed or enlarged study trains what is
missing, and another study that asks for the same run finds it.

    training = trainings_of(runs, data)["ascending.constant.s0"]
    training.plan, training.key, training.kept
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from corpus.errors import ConfigError
from corpus.fingerprints import file_checksum, fingerprint
from pipelines.experiments.arms import Run, member_seed
from pipelines.experiments.pool import StudyData
from pipelines.experiments.results import VERSION
from pipelines.experiments.study import RAW, Teachers
from trainer_hooks.lengths import LengthValue, half_up
from trainer_hooks.objectives.kinds import Distill, Teacher
from trainer_hooks.plan import Plan

KEPT = "cache/experiments"


@dataclass(frozen=True)
class Training:
    """A run with all that its training and measuring need.

    Args:
        teachers: the runs that it learns from. questions: files that it is asked, with their checksums.
    """

    run: Run
    data: StudyData
    teachers: tuple["Training", ...] = ()
    questions: tuple[tuple[Path, str], ...] = ()

    @cached_property
    def plan(self) -> Plan:
        """The arm's plan under the run's seed, with its teachers' places, and measured densely after each switch.

        Checkpoints that averages are made of are not kept: a run follows its averages itself.
        """
        plan = self.run.arm.settings.plan
        averages = {
            name: one.model_copy(update={"saved": False}) if hasattr(one, "saved") else one
            for name, one in plan.average.items()
        }
        changes: dict[str, Any] = {"seed": self.run.seed, "average": averages}
        changes["eval_at"] = (*plan.eval_at, *self._after_switches(plan))
        if self.teachers:
            told = plan.objective.model_dump() if isinstance(plan.objective, Distill) else {}
            paths = tuple(Teacher(path=str(teacher.weights), weights=RAW) for teacher in self.teachers)
            changes["objective"] = Distill(**{**told, "teachers": paths})
        return plan.model_copy(update=changes)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the run's result; the arm's name, and which checkpoints are made and stay, do not."""
        settings, plan = self.run.arm.settings, self.plan.model_dump()
        for name in ("keep", "checkpoint_every"):
            del plan[name]
        plan["objective"].pop("teachers", None)
        order = settings.order
        return {
            "version": VERSION, "data": self.data.fingerprint, "seed": self.run.seed,
            "mixture": settings.mixture.model_dump(), "model": settings.model.model_dump(), "plan": plan,
            "order": {name: policy.model_dump() for name, policy in order.items()} if isinstance(order, Mapping)
            else order.model_dump(),
            "teachers": [teacher.key for teacher in self.teachers],
            "questions": [[path.name, checksum] for path, checksum in self.questions],
        }  # fmt: skip

    @cached_property
    def key(self) -> str:
        """The fingerprint of the identity."""
        return fingerprint(self.identity)

    @property
    def scratch(self) -> Path:
        """The folder for what is needed while its family is trained."""
        return self.data.root / KEPT / self.key

    @property
    def folder(self) -> Path:
        """The trainer's folder of the run."""
        return self.scratch / "run"

    @property
    def kept(self) -> Path:
        """Its result, which is written last."""
        return self.data.root / KEPT / f"{self.key}.json"

    @property
    def documents(self) -> Path:
        """Its losses by document."""
        return self.data.root / KEPT / f"{self.key}.documents.parquet"

    @property
    def weights(self) -> Path:
        """Its final raw weights, as a folder that models are loaded from; there while others need them."""
        return self.data.root / KEPT / f"{self.key}.weights"

    @property
    def depth(self) -> int:
        """How many runs have to be trained before it, one after the other."""
        return max((1 + teacher.depth for teacher in self.teachers), default=0)

    def _after_switches(self, plan: Plan) -> tuple[LengthValue, ...]:
        """Where each phase of the mixture but the first begins, and 1, 2, 4, ... steps later, up to one eval_every.

        A gap of a few steps in the losses of old text would be missed by the plan's even grid.
        """
        step = plan.sequence_length * plan.batch_sequences
        steps, every = half_up(Fraction(plan.tokens, step)), plan.eval_every.of(plan.tokens) / step
        later = [0, *(1 << k for k in range(steps.bit_length()) if 1 << k < every)]
        ends, places = 0, set[int]()
        for phase in self.run.arm.settings.mixture.phases[:-1]:
            ends += half_up(LengthValue(**phase.tokens.model_dump()).of(plan.tokens) / step)
            places |= {ends + more for more in later}
        return tuple(LengthValue(tokens=place * step) for place in sorted(places) if 0 < place <= steps)


def trainings_of(runs: Sequence[Run], data: StudyData, questions: Sequence[Path] = ()) -> dict[str, Training]:
    """What to train, by run id. Raises ConfigError for a teacher that is not among the runs, or teaches itself."""
    asked = tuple((path, file_checksum(path)) for path in questions)
    by_place = {(run.arm.name, run.seed): run for run in runs}
    made: dict[str, Training] = {}

    def training(run: Run, pupils: tuple[str, ...] = ()) -> Training:
        if run.id in pupils:
            raise ConfigError(f"the run {run.id} learns from itself", found=" from ".join((*pupils, run.id)))
        if run.id not in made:
            teachers = members_of(run.arm.settings.teachers, run, by_place)
            made[run.id] = Training(run, data, tuple(training(one, (*pupils, run.id)) for one in teachers), asked)
        return made[run.id]

    return {run.id: training(run) for run in runs}


def members_of(teachers: Teachers | None, run: Run, by_place: Mapping[tuple[str, int], Run]) -> list[Run]:
    """The runs that a run learns from, or that are read as one with it, by arm and seed; none without teachers.

    Raises ConfigError where one is not among the runs.
    """
    if teachers is None:
        return []
    places = [(teachers.arm, member_seed(run.seed, k)) for k in range(teachers.members)]
    for arm, seed in places:
        if (arm, seed) not in by_place:
            raise ConfigError(f"{run.id} needs a run of the arm {arm} with the seed {seed}, which is not trained")
    return [by_place[place] for place in places]
