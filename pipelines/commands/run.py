"""`gradatim run` and `gradatim report`."""

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from corpus.artifacts import artifacts_in
from corpus.errors import ArtifactError
from corpus.fingerprints import fingerprint
from corpus.shards import write_text
from pipelines.commands.workshop import RuntimeOptions, open_workshop
from pipelines.flow import Flow
from pipelines.progress import Progress
from pipelines.recipe import load_recipe

REPORT = "report.html"
REPORT_MARK = ".report.fingerprint"


def run_command(
    path: Path,
    workspace: Path,
    *,
    runtime: str | None,
    workers: int | None,
    master: str | None,
    overrides: tuple[str, ...],
    strict: bool,
) -> None:
    """Run a recipe in a workspace and write its report."""
    started = time.monotonic()
    recipe = load_recipe(path, overrides)
    options = RuntimeOptions(runtime or recipe.runtime, workers, master, strict)
    with open_workshop(workspace, options) as shop:
        progress = shop.progress
        progress.say(f"[bold]{recipe.name}[/] in {workspace}/ on {shop.runtime.name}, {options.n_workers} workers")
        Flow(recipe, shop, path).run()
    report = update_report(workspace, recipe.name, progress)
    done = f"{progress.ran} made" if progress.ran else "nothing to do"
    skipped = f", {progress.skipped} finished before" if progress.skipped else ""
    progress.say(f"  {done}{skipped}; {time.monotonic() - started:.1f} s. Open {report}")


def report_command(workspace: Path) -> None:
    """Write the report of a workspace, whether or not it has changed."""
    (workspace / REPORT_MARK).unlink(missing_ok=True)
    progress = Progress()
    progress.say(f"Open {update_report(workspace, workspace.resolve().name, progress)}")


def update_report(workspace: Path, title: str, progress: Progress) -> Path:
    """Write report.html unless the one that is there was made from the same artifacts. Returns its path."""
    artifacts = artifacts_in(workspace)
    if not artifacts:
        raise ArtifactError(f"{workspace} holds no finished artifact", fix="gradatim run demo --workspace demo")
    identity = fingerprint([title, [artifact.ref for artifact in artifacts]])
    mark, page = workspace / REPORT_MARK, workspace / REPORT
    if page.exists() and mark.exists() and mark.read_text() == identity:
        return page
    from pipelines.report.build import write_report

    with progress.stage("report", total=None, done=0):
        write_report(workspace, title=title)
    write_text(mark, identity)
    return page


def explain_recipe(path: Path, overrides: tuple[str, ...]) -> None:
    """Print every setting of a recipe as resolved, with its description."""
    for line in settings_lines(load_recipe(path, overrides)):
        Console().print(line, highlight=False)


def settings_lines(settings: BaseModel) -> Iterator[str]:
    """Every setting as resolved, in console markup: its dotted path and value, and its description below it."""
    for dotted, value, description in _settings("", settings):
        yield f"[bold]{dotted}[/] = {escape(repr(value))}"
        if description:
            yield f"    [dim]{escape(description)}[/]"


def _settings(prefix: str, model: object) -> list[tuple[str, object, str]]:
    found: list[tuple[str, object, str]] = []
    if isinstance(model, BaseModel):
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            shown = field.alias or name
            inner = _settings(f"{prefix}{shown}.", value)
            found += inner or [(f"{prefix}{shown}", value, field.description or "")]
    elif isinstance(model, dict):
        for name, value in model.items():
            found += _settings(f"{prefix}{name}.", value)
    elif isinstance(model, tuple):
        for i, value in enumerate(model):
            found += _settings(f"{prefix}{getattr(value, 'name', i)}.", value)
    return found
