"""Runs that others need when they are finished: teachers of a student, and members of an ensemble.

Their final weights stay, one safetensors file each, until the study is done. An ensemble is measured beside the run
whose seed it has: its losses and scores stand there as one more kind of weights, under the ensemble's name.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from corpus.config import Config
from corpus.fingerprints import fingerprint
from corpus.shards import read_table, write_table, write_text
from pipelines.experiments.arms import Run
from pipelines.experiments.item_scores import Questions
from pipelines.experiments.measuring import Measures, measured
from pipelines.experiments.results import VERSION, ItemScore, RunResult, SetLoss, read_run
from pipelines.experiments.study import RAW, Teachers
from pipelines.experiments.training import KEPT, Training, members_of
from trainer_hooks.loading import load_model, weights_in
from trainer_hooks.objectives.ensemble import Ensemble
from trainer_hooks.run_identity import PLAN_FILE
from trainer_hooks.stored_weights import open_weights
from trainer_hooks.tensor_file import write_tensor_file


class _Kept(Config):
    """An ensemble's losses by held-out set, and its scores on questions."""

    losses: dict[str, SetLoss]
    items: tuple[ItemScore, ...]


@dataclass(frozen=True)
class Together:
    """An ensemble of finished runs, by the mean of their log-probabilities; `name` is that of its weights."""

    name: str
    members: tuple[Training, ...]

    def measures(self, device: str | torch.device, questions: Sequence[Questions]) -> Measures | None:
        """What it comes to, from the workspace where it is kept; None where a member failed."""
        if self.lost:
            return None
        if not self.kept.exists():
            first, models = self.members[0], [load_model(one.weights, RAW, device).model for one in self.members]
            self.keep(measured([(self.name, Ensemble(models))], first.data, first.plan, questions))
        kept = _Kept.model_validate_json(self.kept.read_bytes())
        items = {self.name: kept.items} if kept.items else {}
        return Measures({name: {self.name: loss} for name, loss in kept.losses.items()},
                        read_table(self.documents), items)  # fmt: skip

    def keep(self, found: Measures) -> None:
        """Write what it comes to, wherever it was measured, to where it is looked for."""
        write_table(self.documents, found.documents)
        losses = {name: kinds[self.name] for name, kinds in found.losses.items()}
        kept = _Kept(losses=losses, items=found.items.get(self.name, ()))
        write_text(self.kept, kept.model_dump_json(indent=1) + "\n")

    @property
    def lost(self) -> bool:
        """Whether a member has failed, so that there is nothing to read as one."""
        return any(one.kept.exists() and read_run(one.kept).status == "failed" for one in self.members)

    @property
    def kept(self) -> Path:
        """What it comes to, which is written last."""
        return self.members[0].data.root / KEPT / f"{self.key}.json"

    @property
    def documents(self) -> Path:
        """Its losses by document."""
        return self.kept.with_suffix(".documents.parquet")

    @property
    def key(self) -> str:
        """A fingerprint of the members and of the name, which its losses by document bear."""
        return fingerprint([VERSION, self.name, [member.key for member in self.members]])


def ensembles_of(
    ensembles: Mapping[str, Teachers], trainings: Mapping[str, Training]
) -> dict[str, tuple[Together, ...]]:
    """The ensembles measured beside each run of the study, by run id. Raises ConfigError as `members_of`."""
    runs: dict[tuple[str, int], Run] = {(one.run.arm.name, one.run.seed): one.run for one in trainings.values()}
    found: dict[str, tuple[Together, ...]] = {}
    for name, asked in ensembles.items():
        for run in runs.values():
            if run.arm.name == asked.arm and run.seed in run.arm.seeds:
                members = tuple(trainings[one.id] for one in members_of(asked, run, runs))
                found[run.id] = (*found.get(run.id, ()), Together(name, members))
    return found


def with_measures(result: RunResult, more: Measures) -> RunResult:
    """A run's result with further kinds of weights in it."""
    losses = {name: {**result.losses.get(name, {}), **kinds} for name, kinds in more.losses.items()}
    return result.model_copy(update={"losses": losses, "items": {**result.items, **more.items}})


def keep_weights(run: Path, folder: Path) -> None:
    """Write the raw weights of a finished run into a folder of their own, as `load_model(folder, "raw")` reads them."""
    temporary = folder.with_name(folder.name + ".writing")
    for leftover in (temporary, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    (temporary / "averages").mkdir(parents=True)
    with open_weights(weights_in(run)[RAW]) as stored:
        write_tensor_file(temporary / "averages" / f"{RAW}.safetensors", stored.facts, stored.items())
    shutil.copyfile(run / PLAN_FILE, temporary / PLAN_FILE)
    temporary.replace(folder)
