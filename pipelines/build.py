"""Building artifacts: the one place that decides what is done already, what is missing, and when something is finished.

`Workshop` holds a workspace folder, a runtime and the progress display. `build_tasks` makes an artifact from
tasks (map stages), `build_here` from a function run in this process (global steps, training). Both skip an
artifact whose fingerprint has not changed, and go on with one that was interrupted.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.artifacts import Artifact, InputRef, Part, begin, describe_part, finish, is_finished, own_files
from corpus.errors import TaskError
from corpus.events import EVENTS, log_event
from corpus.fingerprints import fingerprint
from pipelines.progress import Progress, Watch
from pipelines.runtime import Runtime
from pipelines.tally import add_totals
from pipelines.tasks import Completion, Task, Work, completed, noted_progress

if TYPE_CHECKING:
    from curriculum.arrangement import Engine


class Workshop:
    """A workspace being worked on.

    Args:
        root: the workspace folder.
        runtime: what runs tasks and SQL.
        strict: stop at the first malformed input instead of counting it.
        progress: where long work is shown.
    """

    def __init__(self, root: Path, runtime: Runtime, *, strict: bool = False, progress: Progress | None = None) -> None:
        self.root, self.runtime, self.strict = root, runtime, strict
        self.progress = progress or Progress(quiet=True)
        root.mkdir(parents=True, exist_ok=True)

    def build_tasks(
        self,
        name: str,
        kind: str,
        *,
        config: dict[str, Any],
        inputs: Sequence[Artifact | InputRef],
        work: dict[str, Work],
        runtime: Runtime | None = None,
        deaths: int = 3,
        watch: Watch | None = None,
        totals: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Make an artifact by running one task for each entry of `work` (task name -> work).

        `runtime` replaces the workshop's for this artifact, and is closed afterwards. `deaths`: how often a task's
        process may die. `watch` tells how far the work is, where tasks are too long to be counted; a single one is
        asked for its own note. `totals` stand beside those of the tasks in the manifest. Raises TaskError naming the
        first failed task after all others have ended.
        """
        refs, identity, folder = self._identify(name, kind, config, inputs)
        if is_finished(folder, identity):
            self.progress.skip(name)
            return Artifact(folder)
        started = time.monotonic()
        begin(folder, identity)
        tasks = [Task(task, folder, item, strict=self.strict, deaths=deaths) for task, item in sorted(work.items())]
        done = completed(tasks)
        watch = watch or (partial(noted_progress, folder) if len(tasks) == 1 else None)
        with self.progress.stage(name, total=len(tasks), done=len(done), watch=watch) as advance:

            def on_done(completion: Completion) -> None:
                done[completion.name] = completion
                advance(completion.totals.get("kept", 0))

            missing = [task for task in tasks if task.name not in done]
            if missing and runtime is None:
                self.runtime.map(missing, on_done)
            elif missing and runtime is not None:
                with closing(runtime):
                    runtime.map(missing, on_done)
        self._check(name, tasks, done)
        ordered = [done[task.name] for task in tasks]
        parts = [part for completion in ordered for part in completion.parts]
        counted = {**add_totals([completion.totals for completion in ordered]), **(totals or {})}
        log_event(
            self.root / EVENTS,
            artifact=name,
            tasks=len(tasks),
            ran=len(missing),
            seconds=round(time.monotonic() - started, 2),
        )
        return finish(
            folder, kind=kind, name=name, fingerprint=identity, config=config, inputs=refs, parts=parts, totals=counted
        )

    def build_here(
        self,
        name: str,
        kind: str,
        *,
        config: dict[str, Any],
        inputs: Sequence[Artifact | InputRef],
        make: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        """Make an artifact by calling `make(folder)`, which writes files there and returns the totals."""
        refs, identity, folder = self._identify(name, kind, config, inputs)
        if is_finished(folder, identity):
            self.progress.skip(name)
            return Artifact(folder)
        started = time.monotonic()
        begin(folder, identity)
        with self.progress.stage(name, total=None, done=0):
            totals = make(folder)
        log_event(self.root / EVENTS, artifact=name, seconds=round(time.monotonic() - started, 2))
        return finish(
            folder, kind=kind, name=name, fingerprint=identity, config=config, inputs=refs, parts=_parts(folder),
            totals=totals,
        )  # fmt: skip

    def finished(
        self, name: str, kind: str, *, config: dict[str, Any], inputs: Sequence[Artifact | InputRef]
    ) -> Artifact | None:
        """The artifact that building with these arguments would find done; None where there is work left."""
        _, identity, folder = self._identify(name, kind, config, inputs)
        return Artifact(folder) if is_finished(folder, identity) else None

    def order_engine(self) -> "Engine":
        """The runtime's engine for orders. Its scratch lies in the workspace, which a cluster's executors reach too."""
        scratch = self.root / "cache" / "sorting"
        scratch.mkdir(parents=True, exist_ok=True)
        return self.runtime.order_engine(scratch)

    def _identify(
        self, name: str, kind: str, config: dict[str, Any], inputs: Iterable[Artifact | InputRef]
    ) -> tuple[list[InputRef], str, Path]:
        refs = [item.ref if isinstance(item, Artifact) else item for item in inputs]
        identity = fingerprint({"kind": kind, "config": config, "inputs": refs})
        return refs, identity, self.root / name

    def _check(self, name: str, tasks: Sequence[Task], done: dict[str, Completion]) -> None:
        failed = [done[task.name] for task in tasks if task.name in done and done[task.name].error]
        lost = [task.name for task in tasks if task.name not in done]
        for completion in failed:
            log_event(
                self.root / EVENTS,
                artifact=name,
                failed=completion.name,
                error=completion.error,
                trace=completion.trace,
            )
        if not failed and not lost:
            return
        first = failed[0].name if failed else lost[0]
        raise TaskError(
            f"{name}: {len(failed) + len(lost)} of {len(tasks)} tasks failed, the first is {first}",
            found=(failed[0].error or "") if failed else "the runtime gave no answer for it",
            where=str(self.root / EVENTS),
            fix="mend the cause and run the same command again: finished tasks are kept",
        )


def _parts(folder: Path) -> list[Part]:
    return [describe_part(folder, path) for path in own_files(folder)]
