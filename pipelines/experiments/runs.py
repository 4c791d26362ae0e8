"""All runs of a study as one artifact: a task a family, and those first that others learn from or are read with.

runs = train_runs(shop, "experiments/cma-hour/runs", runs_of(study, arms), data, ensembles=study.ensembles)
results_in(runs)
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from corpus.artifacts import Artifact
from pipelines.build import Workshop
from pipelines.experiments.arms import Run
from pipelines.experiments.branching import CHECKPOINTS
from pipelines.experiments.family import Family, FamilyWork, families
from pipelines.experiments.pool import StudyData
from pipelines.experiments.study import Teachers
from pipelines.experiments.teaching import Together, ensembles_of
from pipelines.experiments.training import Training
from pipelines.progress import Watch
from pipelines.tasks import Work
from trainer_hooks.checkpoints import checkpoints_in
from trainer_hooks.resolution import resolve

KIND = "experiment-runs"


def train_runs(
    shop: Workshop,
    name: str,
    runs: Sequence[Run],
    data: StudyData,
    *,
    ensembles: Mapping[str, Teachers] | None = None,
    questions: Sequence[Path] = (),
) -> Artifact:
    """Train and measure runs into the artifact `name`: `<run id>.json` and `<run id>.documents.parquet` of each.

    Tasks of one artifact do not wait for each other, so teachers and members of ensembles are trained before, in
    artifacts of their own that are removed in the end: what they leave for the last tasks are kept results and weights.

    Args:
        ensembles: models read as one, by name, as a study has them. questions: files that every run is asked.

    Raises TaskError naming the first failed task; a run whose loss is not finite is a result, and no failed task.
    """
    made = families(runs, data, questions)
    trainings = {one.run.id: one for family in made for one in family.trainings}
    together = ensembles_of(ensembles or {}, trainings)
    used = {teacher.key: teacher for one in trainings.values() for teacher in one.teachers}
    used |= {member.key: member for several in together.values() for one in several for member in one.members}
    needed = _needed(trainings, together)
    config = {
        "runs": {one: trainings[one].identity for one in sorted(trainings)},
        "ensembles": {one: [several.key for several in together[one]] for one in sorted(together)},
    }
    inputs = [Artifact(data.root / one) for one in (*data.tokens, data.pool, data.heldout, data.curve)]
    stages = {f"{name}-before-{depth}": depth for depth in sorted({one.depth for one in needed.values()})}
    if shop.finished(name, KIND, config=config, inputs=inputs) is None:
        for stage, depth in stages.items():
            early = [one for one in made if any(own.key in needed and own.depth == depth for own in one.trainings)]
            work = _tasks(early, frozenset(needed), {})
            own = {**config, "tasks": sorted(work)}
            shop.build_tasks(stage, KIND, config=own, inputs=inputs, work=work, watch=_steps_taken(early))
    work = _tasks(made, frozenset(needed), together)
    artifact = shop.build_tasks(name, KIND, config=config, inputs=inputs, work=work, watch=_steps_taken(made))
    for folder in (*(data.root / stage for stage in stages), *(one.weights for one in used.values())):
        shutil.rmtree(folder, ignore_errors=True)
    return artifact


def _needed(trainings: Mapping[str, Training], together: Mapping[str, tuple[Together, ...]]) -> dict[str, Training]:
    """The runs whose final weights have to stay for a student or an ensemble that has no result yet."""
    found = {teacher.key: teacher for one in trainings.values() if not one.kept.exists() for teacher in one.teachers}
    several = (one for each in together.values() for one in each if not one.kept.exists() and not one.lost)
    return found | {member.key: member for one in several for member in one.members}


def _steps_taken(made: Sequence[Family]) -> Watch:
    """Says how many optimizer steps are taken, by the newest checkpoints, of how many."""
    steps = [(one, resolve(one.plan).steps) for family in made for one in family.trainings]

    def watch() -> tuple[int, int]:
        taken = (
            count if one.kept.exists() else max(checkpoints_in(one.folder / CHECKPOINTS), default=0)
            for one, count in steps
        )
        return sum(taken), sum(count for _, count in steps)

    return watch


def _tasks(
    made: Sequence[Family], needed: frozenset[str], together: Mapping[str, tuple[Together, ...]]
) -> dict[str, Work]:
    """A task for each family, named after its first run."""
    return {one.trainings[0].run.id: FamilyWork(one, needed, together) for one in made}
