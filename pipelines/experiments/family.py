"""Families of runs that may begin alike, each trained as one task; every run ends as a result and losses by document.

A family is what one seed does with one model and one beginning of the data under several schedules or later phases.
Its first run is trained whole; each further one goes on from where its past stops being that of one before it
(`pipelines.experiments.branching`), which saves time and changes no bit. A run whose loss stops being finite has
failed, and the rest of its family goes on.

    work = [FamilyWork(family) for family in families(runs_of(study, arms), data)]
    list(work[0].run(folder, Tally()))                       # as a task of `pipelines.experiments.runs` does
"""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.errors import EnvironmentProblem, TaskError
from corpus.events import EVENTS, log_event
from corpus.fingerprints import canonical
from corpus.shards import read_table, write_table, write_text
from curriculum.order import Order
from pipelines.experiments.arms import Run
from pipelines.experiments.branching import Branch, Member, begin, branches, change_for
from pipelines.experiments.heldout_nats import weights_of
from pipelines.experiments.item_scores import Questions, open_questions
from pipelines.experiments.measuring import curve_of, measured
from pipelines.experiments.pool import StudyData
from pipelines.experiments.reading import reading_of, write_run_order
from pipelines.experiments.results import RunResult, as_failed, read_run
from pipelines.experiments.teaching import Together, keep_weights, with_measures
from pipelines.experiments.training import Training, trainings_of
from pipelines.proxies import device_of
from pipelines.tally import Tally
from trainer_hooks.lengths import LengthValue
from trainer_hooks.model_size import parameter_count
from trainer_hooks.plan import Keep
from trainer_hooks.plan_resume import MAY_CHANGE
from trainer_hooks.resolution import resolve
from trainer_hooks.trainer import RunResult as Trained
from trainer_hooks.trainer import train


@dataclass(frozen=True)
class Family:
    """Runs that may begin alike; `number` is its place among all families, by which they take turns on GPUs."""

    number: int
    trainings: tuple[Training, ...]


def families(runs: Sequence[Run], data: StudyData, questions: Sequence[Path] = ()) -> list[Family]:
    """Runs by what they may share: seed, model, teachers, the mixture and order they begin with, and the plan but for
    what a run may change on its way. Runs of one identity are in one family.

    Args:
        questions: files that every run is asked when it is trained.
    """
    found: dict[str, list[Training]] = {}
    for training in trainings_of(runs, data, questions).values():
        found.setdefault(_beginning(training), []).append(training)
    return [Family(number, tuple(members)) for number, members in enumerate(found.values())]


@dataclass(frozen=True)
class FamilyWork:
    """Train and measure a family, unless the workspace keeps its results already.

    Args:
        needed: keys of the trainings whose final weights have to stay.
        ensembles: what is measured beside runs, by run id; nothing while members are still to be trained.
    """

    family: Family
    needed: frozenset[str] = frozenset()
    ensembles: Mapping[str, tuple[Together, ...]] = field(default_factory=dict)

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write each run's result and losses by document. Training goes on where a kill left it."""
        started, trainings = time.monotonic(), self.family.trainings
        members: list[Member] = []
        if len(trainings) > 1 or not self._done(trainings[0]):
            members = self._members()
        branched = branches(members) if len(members) > 1 else [None] * len(trainings)
        seconds = self._train_missing(members)
        paths: list[Path] = []
        for training, branch in zip(trainings, branched, strict=True):
            paths += self._write(training, branch, folder, tally)
        for training in trainings:
            shutil.rmtree(training.scratch, ignore_errors=True)
        if seconds:
            self._note("family", family=self.family.number, runs=len(trainings), training=round(sum(seconds), 3),
                       seconds=round(time.monotonic() - started, 3))  # fmt: skip
        return paths

    def _done(self, training: Training) -> bool:
        return training.kept.exists() and (training.key not in self.needed or training.weights.exists()
                                           or read_run(training.kept).status == "failed")  # fmt: skip

    def _members(self) -> list[Member]:
        """All runs with their orders; those that read the same share one."""
        orders: dict[str, Order] = {}
        members = []
        for training in self.family.trainings:
            settings, resolved = training.run.arm.settings, resolve(training.plan)
            reading = canonical([settings.mixture, training.identity["order"], resolved.tokens])
            if reading not in orders:
                orders[reading] = write_run_order(training.data, training.run, training.scratch / "order")
            members.append(Member(resolved, orders[reading], training.folder))
        return members

    def _train_missing(self, members: Sequence[Member]) -> list[float]:
        """Train what has no result yet; seconds of training alone, one for each run trained."""
        trainings = self.family.trainings
        done = {i for i in range(len(members)) if self._done(trainings[i])}
        there = [i for i in range(len(members)) if i not in done or members[i].folder.exists()]
        places: dict[int, list[int]] = {}
        for branch in branches([members[i] for i in there]):
            if branch is not None:
                places.setdefault(there[branch.parent], []).append(branch.step)
        seconds = []
        for at, i in enumerate(there):
            if i not in done and not self._done(trainings[i]):
                member = _keeping(members[i], trainings[i], places.get(i, []))
                seconds.append(self._train(trainings[i], member, [members[j] for j in there[:at]]))
        return seconds

    def _train(self, training: Training, member: Member, finished: Sequence[Member]) -> float:
        """Train and measure one run and keep its result; returns the seconds of training alone."""
        started = time.monotonic()
        begun = begin(member, finished)
        trained, steps, facts = 0.0, 0, self._facts(training, member)
        try:
            _check_teachers(training)
            done = self._trainer(training, member, finished)
            trained, steps = done.seconds, done.step - (done.resumed_from or 0)
            result = self._measured(training, facts)
        except TaskError as error:
            result = as_failed(facts, f"{error.what}: {error.found}")
        write_text(training.kept, result.model_dump_json(indent=1) + "\n")
        self._note("run", run=training.run.id, key=training.key, status=result.status, begun_at=begun, steps=steps,
                   training=round(trained, 3), seconds=round(time.monotonic() - started, 3))  # fmt: skip
        return trained

    def _trainer(self, training: Training, member: Member, members: Sequence[Member]) -> Trained:
        done = train(
            member.order, training.data.token_arrays(), training.data.curve_sets(), training.run.arm.settings.model,
            member.resolved.plan, member.folder, device=device_of(self.family.number),
            change=change_for(member, members),
        )  # fmt: skip
        if done.stopped is not None:
            raise EnvironmentProblem(
                f"the run {training.run.id} was asked to stop", found=done.stopped,
                fix="run the same command again: it goes on where it stopped",
            )  # fmt: skip
        return done

    def _measured(self, training: Training, result: RunResult) -> RunResult:
        """A finished run measured, its losses by document written and, where others need them, its weights."""
        measures = measured(
            weights_of(training.folder, device_of(self.family.number)), training.data, training.plan,
            self._questions(training),
        )  # fmt: skip
        write_table(training.documents, measures.documents)
        if training.key in self.needed:
            keep_weights(training.folder, training.weights)
        return with_measures(result.model_copy(update={"curve": curve_of(training.folder)}), measures)

    def _facts(self, training: Training, member: Member) -> RunResult:
        """What is known of a run without training it."""
        run, arm = training.run, training.run.arm
        return RunResult(
            run_id=run.id, arm=arm.name, seed=run.seed, identity=training.key, status="finished",
            steps=member.resolved.steps, tokens=member.resolved.tokens, flops=arm.flops,
            parameters=parameter_count(arm.settings.model), reading=reading_of(training.data, run, member.order),
        )  # fmt: skip

    def _questions(self, training: Training) -> tuple[Questions, ...]:
        files = [path for path, _ in training.questions]
        if not files:
            return ()
        return open_questions(files, training.data.tokenizer_file, training.run.arm.settings.model.context)

    def _write(self, training: Training, branch: Branch | None, folder: Path, tally: Tally) -> list[Path]:
        """A run's result under its own name, with its ensembles and with where it branches off in this family."""
        run, result = training.run, read_run(training.kept)
        shared = None if branch is None else branch.step * resolve(training.plan).step_tokens
        own = {"run_id": run.id, "arm": run.arm.name, "branched_at": shared}
        result = result.model_copy(update=own)
        paths = [folder / f"{run.id}.json"]
        if result.status == "finished":
            tables = [read_table(training.documents)]
            for together in self.ensembles.get(run.id, ()):
                more = together.measures(device_of(self.family.number), self._questions(training))
                if more is not None:
                    result, tables = with_measures(result, more), [*tables, more.documents]
            paths.append(folder / f"{run.id}.documents.parquet")
            write_table(paths[-1], pa.concat_tables(tables))
        write_text(paths[0], result.model_dump_json(indent=1) + "\n")
        tally.totals[result.status] += 1
        tally.totals["tokens"] += result.tokens
        return paths

    def _note(self, event: str, **facts: Any) -> None:
        log_event(self.family.trainings[0].data.root / EVENTS, experiment=event, **facts)


def _beginning(training: Training) -> str:
    """What decides how a run begins, and may be the same in another one."""
    settings, plan = training.run.arm.settings, training.plan.model_dump()
    mixture, order = settings.mixture.model_dump(), settings.order
    if phases := mixture["phases"]:
        mixture["phases"] = phases[:1]
    first = order.get(phases[0]["name"] if phases else next(iter(order))) if isinstance(order, Mapping) else order
    return canonical([
        training.run.seed, settings.model, training.plan.tokens, mixture, first,
        [teacher.key for teacher in training.teachers],
        {name: value for name, value in plan.items() if name not in MAY_CHANGE},
    ])  # fmt: skip


def _keeping(member: Member, training: Training, steps: Sequence[int]) -> Member:
    """A run that leaves a checkpoint where others branch off."""
    at = tuple(LengthValue(tokens=step * member.resolved.step_tokens) for step in sorted(set(steps)))
    plan = training.plan.model_copy(update={"keep": Keep(last=training.plan.keep.last, at=at)})
    return Member(resolve(plan), member.order, member.folder)


def _check_teachers(training: Training) -> None:
    for teacher in training.teachers:
        if (taught := read_run(teacher.kept)).status == "failed":
            raise TaskError(f"its teacher {teacher.run.id} failed", found=taught.reason)
