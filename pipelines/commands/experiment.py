"""`gradatim experiment`: list, show, train and pack studies, and collect what a bundle trained."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import ConfigError
from pipelines.build import Workshop
from pipelines.commands.inspect import open_by_name
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.experiments.arms import Arm, Run, arms_of, runs_of, unbound_arms
from pipelines.experiments.cost import StudyCost, cost_of
from pipelines.experiments.study import SCORE, SIZES, Study, bundled_studies, load_study

if TYPE_CHECKING:
    from pipelines.experiments.experiment import Experiment

PAGE = "page.html"


@dataclass(frozen=True)
class Asked:
    """What a command line says of a study, as written."""

    study: str
    size: str
    documents: tuple[str, ...]
    columns: dict[str, str]
    roles: dict[str, tuple[str, ...]]
    questions: tuple[Path, ...]
    overrides: tuple[str, ...]

    @classmethod
    def of(
        cls, study: str, size: str, documents: Sequence[str] | None, score: str | None, columns: Sequence[str] | None,
        roles: Sequence[str] | None, questions: Sequence[Path] | None, overrides: Sequence[str] | None,
    ) -> "Asked":  # fmt: skip
        """Raises ConfigError for a size, a column or a role that cannot be read."""
        if size not in SIZES:
            raise ConfigError(f"there is no size {size!r}{nearest(size, SIZES)}", expected=", ".join(SIZES))
        held = _bindings([*([f"{SCORE}={score}"] if score else []), *(columns or [])], "--column")
        played = {role: tuple(names.split(",")) for role, names in _bindings(roles or [], "--role").items()}
        given = tuple(dict.fromkeys(documents or ("documents",)))
        return cls(study, size, given, held, played, tuple(questions or ()), tuple(overrides or ()))

    def loaded(self) -> Study:
        """The study with its columns bound."""
        return load_study(self.study, self.overrides, self.columns)


def list_command() -> None:
    """Print one row a bundled study."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("study", "asks", "arms", "runs", "tokens"):
        table.add_column(heading, justify="left" if heading in ("study", "asks") else "right")
    for name in bundled_studies():
        study = load_study(name)
        runs = runs_of(study, arms := arms_of(study, "hour"))
        tokens = f"{cost_of(runs).trained / 1e6:.0f}M"
        table.add_row(name, escape(study.question), str(len(arms)), str(len(runs)), tokens)
    console = table_console()
    console.print(table)
    console.print("Arms, runs and trained tokens of size [b]hour[/].  gradatim experiment show STUDY", highlight=False)


def show_command(name: str, size: str, overrides: tuple[str, ...], workspace: Path) -> None:
    """Print a study and its arms at a size; and its findings, where the workspace holds them."""
    from pipelines.experiments.experiment import findings_here
    from pipelines.report.experiment_terminal import print_findings

    study = load_study(name, overrides)
    console = table_console()
    _print_study(console, study)
    arms = arms_of(study, size)
    _print_arms(console, study, size, arms)
    _print_cost(console, cost_of(runs_of(study, arms)))
    found = findings_here(workspace, f"experiments/{study.name}-{size}")
    if found is not None:
        console.print(f"\n[bold]In {escape(str(workspace))}[/]", highlight=False)
        print_findings(console, found)


def run_command(asked: Asked, workspace: Path, workers: int | None, *, dry_run: bool) -> None:
    """Print what a study takes; train it, print what it found, and say where the page is."""
    from pipelines.experiments.experiment import findings_here
    from pipelines.report.experiment_terminal import print_findings

    study, options = asked.loaded(), RuntimeOptions("local", workers)
    console = table_console()
    arms = arms_of(study, asked.size)
    runs = runs_of(study, arms)
    if dry_run:
        _print_study(console, study)
        _print_arms(console, study, asked.size, arms)
    ended = findings_here(workspace, f"experiments/{study.name}-{asked.size}") is not None
    timed = dry_run or not ended  # a finished study is not made to wait for what it would take
    _print_cost(console, cost_of(runs), *(_speed(runs, options.n_workers) if timed else ()))
    if dry_run:
        return
    with open_workshop(workspace, options) as shop:
        experiment = _experiment(shop, asked, study)
        findings = experiment.run()
    print_findings(console, findings)
    _say_page(console, workspace / experiment.asked.name / "page" / PAGE)


def pack_command(asked: Asked, workspace: Path, output: Path, workers: int | None) -> None:
    """Write the bundle of a study, and say how large it is and how it is run."""
    from pipelines.experiments.bundle import pack

    with open_workshop(workspace, RuntimeOptions("local", workers)) as shop:
        experiment = _experiment(shop, asked, asked.loaded())
        one = experiment.asked
        roles = {role: list(names) for role, names in one.roles.items()}
        request = {
            "documents": [item.name for item in one.documents], "columns": dict(one.columns), "roles": roles,
            "command": one.command,
        }  # fmt: skip
        packed = pack(experiment.data, one.study, one.size, experiment.runs, output, request=request)
    console = Console()
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in packed.parts.items())
    console.print(
        f"{packed.runs:,} runs in {output}: {packed.bytes / 1e6:.1f} MB ({parts}).\n"
        f"On the machine that trains, in that folder:\n  python run.py --check\n  python run.py\n"
        f"and here, when it is back:\n  gradatim experiment collect {output} -w {workspace}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def collect_command(bundle: Path, workspace: Path) -> None:
    """Check and take in the results of a bundle, print what the study found, and say where the page is."""
    from pipelines.experiments.bundle_collect import collect
    from pipelines.experiments.experiment import Experiment, StudyRequest
    from pipelines.report.experiment_terminal import print_findings

    with open_workshop(workspace, RuntimeOptions("local", 1)) as shop:
        found = collect(bundle, shop)
        packed = found.request
        documents = tuple(open_by_name(shop.root, name) for name in packed["documents"])
        roles = {role: tuple(names) for role, names in packed["roles"].items()}
        request = StudyRequest(
            found.study, found.size, documents, packed["columns"], roles, command=packed["command"]
        )  # fmt: skip
        findings = Experiment(shop, request).conclude(found.runs)
    console = table_console()
    for line in found.warnings:
        console.print(f"warning: {escape(line)}", highlight=False)
    if found.missing:
        console.print(f"not trained yet, and in no average: {escape(', '.join(found.missing))}", highlight=False)
    print_findings(console, findings)
    _say_page(console, workspace / request.name / "page" / PAGE)


def _experiment(shop: Workshop, asked: Asked, study: Study) -> "Experiment":
    from pipelines.experiments.experiment import Experiment, StudyRequest

    documents: tuple[Artifact, ...] = tuple(open_by_name(shop.root, name) for name in asked.documents)
    typed = shlex.join(["gradatim", *sys.argv[1:]])
    request = StudyRequest(study, asked.size, documents, asked.columns, asked.roles, asked.questions, typed)
    return Experiment(shop, request)


def _bindings(given: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts by name. Raises ConfigError for one without name or value, or a name given twice."""
    found: dict[str, str] = {}
    for text in given:
        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise ConfigError(f"cannot read {option} {text}", expected=f"{option} NAME=VALUE")
        if name in found:
            raise ConfigError(f"{option} {name} is given twice", found=f"{found[name]} and {value}")
        found[name] = value
    return found


# ---- what is printed


def _print_study(console: Console, study: Study) -> None:
    console.print(f"[bold]{escape(study.title)}[/]  ({study.name})\n{escape(study.question)}", highlight=False)
    console.print(f"Expected: {escape(study.expected.strip())}", highlight=False)
    for source in study.source:
        console.print(f"  {escape(source)}", highlight=False)
    for role, meaning in study.roles.items():
        console.print(f"  --role {role}=SOURCE,...  {escape(meaning)}", highlight=False)
    for column, bound in study.columns.items():
        told = f"default {bound}" if bound else "arms that read it are left out where it is not given"
        console.print(f"  --column {column}=SCORE  {escape(told)}", highlight=False)


def _print_arms(console: Console, study: Study, size: str, arms: dict[str, Arm]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("arm", "control", "runs", "tokens", "weights"):
        table.add_column(
            heading, justify="right" if heading in ("runs", "tokens") else "left", no_wrap=heading == "arm"
        )
    for arm in arms.values():
        table.add_row(arm.name, arm.control or "is one", str(len(arm.seeds)), f"{arm.tokens:,}", ", ".join(arm.weights))
    console.print(table)
    for name, why in unbound_arms(study, size).items():
        console.print(f"  [yellow]left out[/] {name}: {escape(why)}", highlight=False)


def _print_cost(console: Console, cost: StudyCost, speed: float | None = None, workers: int = 1) -> None:
    told = (
        f"[bold]{cost.runs} runs[/] of {cost.tokens / 1e6:,.1f} M tokens; as runs share what they have in common, "
        f"{cost.trained / 1e6:,.1f} M are trained; {cost.flops:.2g} FLOPs"
    )
    if speed:
        seconds = max(cost.trained / workers, cost.longest) / speed
        told += f"; about {_duration(seconds)} with {workers} workers at {speed:,.0f} tokens/s each, measured now"
    console.print(told, highlight=False)


def _speed(runs: Sequence[Run], workers: int) -> tuple[float, int]:
    """Tokens a second of one run, and how many runs are trained at once: one a GPU where there are GPUs."""
    import torch

    from pipelines.experiments.cost import tokens_per_second

    arm = max((run.arm for run in runs), key=lambda arm: arm.flops / arm.tokens)
    return tokens_per_second(arm), torch.cuda.device_count() or workers


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"


def _say_page(console: Console, page: Path) -> None:
    console.print(f"Page: {page}", highlight=False, soft_wrap=True)
