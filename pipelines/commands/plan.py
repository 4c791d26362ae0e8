"""`gradatim plan`: what a plan will do, before anything is spent."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from corpus.config import load_yaml, validated
from corpus.errors import ArtifactError, ConfigError
from pipelines.commands.workshop import table_console
from pipelines.plan_subjects import PlanSubject, plan_subjects
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_findings import Finding, by_severity
from trainer_hooks.plan_order_checks import masses, scored
from trainer_hooks.plan_resume import resume_findings
from trainer_hooks.run_identity import PLAN_FILE

PAGES = "plans"
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def show_command(files: Sequence[Path], workspace: Path, overrides: tuple[str, ...], *, page: Path | None) -> None:
    """Draw plans in the terminal and as a page; `page` is where it goes, default `plans/NAME.html`."""
    from pipelines.commands.plan_terminal import print_comparison, print_plan
    from pipelines.report.plan_page import write_plan_page

    subjects = plan_subjects(files, workspace, overrides)
    console = table_console()
    for subject in subjects:
        print_plan(subject, console)
        _print_findings(console, [found for found in subject.findings() if found.severity != "note"])
        if subject.absent:
            console.print(f"  {_not_shown(subject)}", highlight=False, soft_wrap=True)
        console.print()
    if len(subjects) > 1:
        print_comparison(subjects, console)
    name = "-".join(dict.fromkeys(path.stem for path in files))
    path = page or workspace / PAGES / f"{name}.html"
    write_plan_page(path, subjects, title=name)
    console.print(f"Open {path}", highlight=False, soft_wrap=True)


def check_command(
    files: Sequence[Path],
    workspace: Path,
    overrides: tuple[str, ...],
    *,
    run: str | None = None,
    processes: int = 1,
    as_json: bool = False,
) -> int:
    """Print all that is found in plans; returns 1 where something is an error, else 0.

    `run` names a run of the workspace: whether it may go on under the plan is found, too.
    """
    try:
        subjects = plan_subjects(files, workspace, overrides)
    except ConfigError as error:
        refused = Finding("error", "refused", " ".join(filter(None, (error.what, error.found))), error.where, error.fix)
        found: dict[str, list[Finding]] = {", ".join(map(str, files)): [refused]}
        subjects = []
    else:
        if run is not None and len(subjects) != 1:
            raise ConfigError("--run goes with one plan", found=f"{len(subjects)} plans")
        found = {subject.name: subject.findings(processes) for subject in subjects}
        if run is not None:
            found[subjects[0].name] += _resume(subjects[0], workspace, run)
    if as_json:
        print(json.dumps({name: _plain(name, each, subjects) for name, each in found.items()}, indent=1))
    else:
        _print_checks(found)
    return int(any(finding.severity == "error" for each in found.values() for finding in each))


def _resume(subject: PlanSubject, workspace: Path, run: str) -> list[Finding]:
    """What the plan changes for a run that has begun, from its newest checkpoint."""
    from trainer_hooks.checkpoints import checkpoints_in

    folder = workspace / "runs" / run.removeprefix("runs/")
    if not (folder / PLAN_FILE).is_file():
        raise ArtifactError(
            f"{run} is not a run of {workspace}", expected=f"a folder with {PLAN_FILE}", where=str(folder),
            fix="gradatim plan check without --run looks at the plan alone",
        )  # fmt: skip
    kept = load_yaml(folder / PLAN_FILE)
    old = validated(ResolvedPlan, kept.get("resolved"), str(folder / PLAN_FILE))
    position = max(checkpoints_in(folder / "checkpoints"), default=0) * old.step_tokens
    changes = resume_findings(old, subject.resolved, position)
    found = list(changes.findings)
    if kept.get("model") != subject.model.model_dump(mode="json"):
        found.append(Finding("error", "another-model", f"{run} trains a model of another shape", "model"))
    if subject.order is not None and kept.get("order") != subject.order.manifest.fingerprint:
        what = f"{run} reads the order {kept.get('order')}; this is {subject.order.manifest.fingerprint}"
        fix = "name the order it began with, or accept the change if both are the same so far"
        found.append(Finding("warning", "another-order", what, "order", fix))
    at = f"from {position:,} tokens, where {run} is"
    if not found:
        found.append(Finding("note", "same-plan", f"{at}, it goes on under the plan it has"))
    elif all(finding.severity != "error" for finding in found):
        found.append(Finding("note", "acceptable", f"{at}, it may go on under this plan: --accept-changes"))
    return by_severity(found)


def _print_checks(found: dict[str, list[Finding]]) -> None:
    console = table_console()
    for name, each in found.items():
        console.print(f"[bold]{escape(name)}[/]", highlight=False)
        _print_findings(console, by_severity(each))
        errors, warnings = (sum(one.severity == kind for one in each) for kind in ("error", "warning"))
        if errors:
            console.print("  [bold red]not to be trained[/] as it is written", highlight=False)
        else:
            said = f", {warnings} to think about" if warnings else ""
            console.print(f"  [green]ok[/] the plan can be followed{said}", highlight=False)


def _print_findings(console: Console, found: Sequence[Finding]) -> None:
    for one in found:
        place = f"  [dim]({escape(one.where)})[/]" if one.where else ""
        style = STYLES[one.severity]
        console.print(f"  [{style}]{one.severity:<7}[/]  {escape(one.what)}{place}", highlight=False, soft_wrap=True)
        if one.fix:
            console.print(f"  {'':<7}  [bold]to change[/]  {escape(one.fix)}", highlight=False, soft_wrap=True)


def _not_shown(subject: PlanSubject) -> str:
    return f"Mixture, quality and deciles are not shown: {escape(subject.absent)}"


def _plain(name: str, found: Sequence[Finding], subjects: Sequence[PlanSubject]) -> dict[str, object]:
    """One plan's result as plain values: findings, and the mass by decile where there are scores."""
    subject = next((one for one in subjects if one.name == name), None)
    mass = {}
    if subject is not None and subject.data is not None and scored(subject.data, subject.resolved):
        mass = {weights: shares.tolist() for weights, shares in masses(subject.resolved, subject.data).items()}
    return {"findings": [asdict(one) for one in by_severity(found)], "mass_by_decile": mass}
