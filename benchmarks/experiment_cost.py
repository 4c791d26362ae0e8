"""What a study costs over the bare training of its runs: orders, results, held-out losses, curves.

The peer is `trainer_hooks.trainer.train` on the same order under the same plan, measuring nothing. Ours is the task of
a study (`FamilyWork`) with one run, its result not kept before: order, training with its curve, the losses of every
held-out document under raw weights and each average, results. Both in this process, in turns.

Run it:  python -m benchmarks.experiment_cost WORKSPACE STUDY SIZE [--rounds 2] [--set ...]    after a run of that study
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.filters import machine
from corpus.artifacts import Artifact
from pipelines.build import Workshop
from pipelines.experiments.arms import Run
from pipelines.experiments.experiment import Experiment, StudyRequest
from pipelines.experiments.family import FamilyWork, families
from pipelines.experiments.pool import StudyData
from pipelines.experiments.reading import write_run_order
from pipelines.experiments.study import load_study
from pipelines.runtime import LocalRuntime
from pipelines.tally import Tally
from trainer_hooks.trainer import train

SEED = 999
"""Of the runs that are timed: none of a study's, so that no result is kept."""


def main() -> None:
    """Time both sides in turns, and print the ratio."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("workspace", type=Path)
    options.add_argument("study")
    options.add_argument("size")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--set", action="append", default=[])
    asked = options.parse_args()
    study = load_study(asked.study, tuple(asked.set))
    shop = Workshop(asked.workspace, LocalRuntime(1))
    experiment = Experiment(shop, StudyRequest(study, asked.size, (Artifact(asked.workspace / "documents"),)))
    run = Run(next(iter(experiment.arms.values())), SEED)
    sides: dict[str, Callable[[], float]] = {
        "bare": lambda: bare(experiment.data, run), "study": lambda: in_study(experiment.data, run)
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(asked.rounds):
        for name in sorted(sides, reverse=turn % 2 == 1):
            seconds[name].append(sides[name]())
    print(f"machine  {machine()}")
    print(f"{study.name} {asked.size}, arm {run.arm.name}, {run.arm.tokens:,} tokens, {asked.rounds} rounds in turns")
    for name, each in seconds.items():
        print(f"   {name:<6} {', '.join(f'{one:.1f}' for one in each)} s")
    print(f"   a run of the study over bare training: {median(seconds['study']) / median(seconds['bare']):.3f}")


def bare(data: StudyData, run: Run) -> float:
    """Seconds of training alone, with no held-out set; the order is made before."""
    plan = run.arm.settings.plan.model_copy(update={"seed": run.seed})
    with tempfile.TemporaryDirectory() as scratch:
        order = write_run_order(data, run, Path(scratch) / "order")
        started = time.monotonic()
        train(order, data.token_arrays(), {}, run.arm.settings.model, plan, Path(scratch) / "run", device="cpu")
        return time.monotonic() - started


def in_study(data: StudyData, run: Run) -> float:
    """Seconds of the whole task: order, training with its curve, final losses by document, results."""
    (family,) = families([run], data)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        FamilyWork(family).run(Path(folder), Tally())
        seconds = time.monotonic() - started
    for training in family.trainings:
        for path in (training.kept, training.documents):
            path.unlink()
        shutil.rmtree(training.scratch, ignore_errors=True)
    return seconds


if __name__ == "__main__":
    main()
