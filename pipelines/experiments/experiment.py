"""A study at work in a workspace: what it would cost, its runs, what they say, and the page.

    asked = StudyRequest(load_study("cma"), "hour", (Artifact(work / "documents"),), columns={"score": "edu"})
    experiment = Experiment(shop, asked)
    experiment.run()                        # experiments/cma-hour/runs, /findings and /page

Everything is an artifact: a rerun skips what is done, and a killed one goes on in the run it was in. Results are kept
by what decides them, so that another study, or more seeds, trains only what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from corpus.artifacts import Artifact
from corpus.fingerprints import file_checksum
from corpus.version import VERSION
from pipelines.build import Workshop
from pipelines.experiments.analysis.finding import findings_of
from pipelines.experiments.analysis.findings import FILE, Findings, Provenance, read_findings, write_findings
from pipelines.experiments.arms import Arm, Run, arms_of, runs_of
from pipelines.experiments.pool import StudyData, prepare
from pipelines.experiments.results import results_in
from pipelines.experiments.study import Study


@dataclass(frozen=True)
class StudyRequest:
    """A study with all that a command line may say of it.

    Attributes:
        documents: artifacts to draw from; columns: the study's scores by their columns here; roles: sources by role.
        questions: files of questions that every trained model is asked.
        command: what was typed, which the page repeats.
    """

    study: Study
    size: str
    documents: tuple[Artifact, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    questions: tuple[Path, ...] = ()
    command: str = ""

    @property
    def name(self) -> str:
        """The folder of its artifacts in a workspace."""
        return f"experiments/{self.study.name}-{self.size}"


class Experiment:
    """A study at one size in a workshop. Raises ConfigError where the study cannot be trained so."""

    def __init__(self, shop: Workshop, asked: StudyRequest) -> None:
        self.shop, self.asked = shop, asked
        self.arms: dict[str, Arm] = arms_of(asked.study, asked.size)
        self.runs: list[Run] = runs_of(asked.study, self.arms)

    @cached_property
    def data(self) -> StudyData:
        """What its runs read and are measured on; made where it is missing."""
        asked = self.asked
        return prepare(
            self.shop, asked.documents, asked.study, asked.size, columns=asked.columns, roles=asked.roles
        )  # fmt: skip

    def run(self) -> Findings:
        """Train what is missing, and make findings and page out of all results."""
        return self.conclude(self.train())

    def train(self) -> Artifact:
        """The artifact of all runs."""
        from pipelines.experiments.runs import train_runs

        return train_runs(
            self.shop, f"{self.asked.name}/runs", self.runs, self.data,
            ensembles=self.asked.study.ensembles, questions=self.asked.questions,
        )  # fmt: skip

    def conclude(self, runs: Artifact) -> Findings:
        """Findings and page of the runs of this study, wherever they were trained."""
        findings = self._findings(runs)
        self._page(findings)
        return read_findings(findings.folder / FILE)

    def _findings(self, runs: Artifact) -> Artifact:
        def make(folder: Path) -> dict[str, Any]:
            documents = {path.name.removesuffix(".documents.parquet"): path for path in runs.files(".parquet")}
            found = findings_of(
                self.asked.study, self.asked.size, self.arms, results_in(runs), documents, provenance=self._provenance()
            )
            write_findings(found, folder / FILE)
            return {"runs": found.planned, "lost": len(found.lost)}

        config = {"study": self.asked.study.model_dump(mode="json"), "size": self.asked.size, "version": VERSION}
        return self.shop.build_here(f"{self.asked.name}/findings", "findings", config=config, inputs=[runs], make=make)

    def _page(self, findings: Artifact) -> Artifact:
        from pipelines.report.experiment import write_study_page

        def make(folder: Path) -> dict[str, Any]:
            write_study_page(folder, read_findings(findings.folder / FILE), self.asked.study)
            return {}

        config = {"version": VERSION}
        return self.shop.build_here(f"{self.asked.name}/page", "report", config=config, inputs=[findings], make=make)

    def _provenance(self) -> Provenance:
        asked = self.asked
        held = Artifact(self.shop.root / self.data.pool).manifest.totals
        model = next(iter(self.arms.values())).settings.model
        facts = {
            "documents": [f"{one.name} {one.manifest.fingerprint}" for one in asked.documents],
            "columns": [
                f"{name} = {column}" for name, column in sorted({**asked.study.bound, **asked.columns}.items())
            ],
            "roles": [f"{role} = {' + '.join(names)}" for role, names in sorted(asked.roles.items())],
            "pool": [f"{value:,} {key}" for key, value in held.items() if isinstance(value, int)],
            "vocabulary": [f"{self.data.vocabulary:,} tokens"],
            "model": [f"{model.layers} layers, {model.hidden} wide"],
            "questions": [f"{path.name} {file_checksum(path)}" for path in asked.questions],
        }
        return Provenance(
            fingerprint=self.data.fingerprint, command=self.asked.command, version=VERSION,
            facts={name: ", ".join(told) for name, told in facts.items() if told},
        )  # fmt: skip


def findings_here(root: Path, name: str) -> Findings | None:
    """What a study came to in a workspace, by the folder of its artifacts; None where it has not ended there."""
    path = root / name / "findings" / FILE
    return read_findings(path) if (path.parent / "manifest.json").is_file() else None
