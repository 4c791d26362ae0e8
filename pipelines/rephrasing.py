"""Rephrasing in a workspace: a plan, a trial of its first outputs, and then the tasks that do the rest.

Shared by recipes and by `gradatim rephrase`. The plan is made first and is an artifact of its own, so nothing about who
does what can change on a resume. A large run is tried on some documents of each style before the rest is paid for; what
the trial generated is in the cache, so it is paid once.

An offline engine runs in worker processes of its own on this machine, one an engine; tasks that ask servers run on the
workshop's runtime, all sharing the servers.

How it is used:  made = Rephraser(shop, base, settings, documents).run()
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import load_yaml, validated
from corpus.errors import ConfigError, TaskError
from corpus.events import EVENTS
from corpus.fingerprints import fingerprint
from corpus.shards import read_table
from pipelines.aligned_scores import ScoreColumn, find_column, score_columns
from pipelines.build import Workshop
from pipelines.recipe import Rephrasing
from pipelines.rephrase_duplicates import without_duplicates
from pipelines.rephrase_instruments import open_instruments
from pipelines.rephrase_notes import noted_rate, seen
from pipelines.rephrase_plan import PLAN, TRIAL, TRIAL_OUTPUTS, Plan
from pipelines.rephrase_trial import look_over, measure, read_measured
from pipelines.runtime import LocalRuntime, Runtime
from pipelines.stages.naming import source_of
from pipelines.stages.rephrase_work import RephraseWork, loaded
from pipelines.tasks import Work
from rephrase.budget import Budget
from rephrase.generators import AnyGenerator, generator_identity
from rephrase.routing import QUALITY_BANDS, Buckets, styles_of_bands, table_of
from rephrase.style import Style, load_style
from rephrase.vllm_settings import VllmSettings

DEFAULT_STYLES = ("medium",)
DEATHS = 20  # of a task's process: a request that kills the engine is found in seven, by asking ever fewer together


class Rephraser:
    """Rephrases documents of a workshop.

    Args:
        shop: the workspace and what runs tasks; where it is strict, an alarming trial stops the run.
        base: the folder that relative paths of the settings start from.
        settings: what is rephrased, how and by whom.
        documents: what may be rephrased.
        name: of the artifact; `<name>_plan`, `<name>_trial` and `<name>_rate` stand beside it.

    Raises ConfigError for a style, a score, or a generator that cannot be used, EnvironmentProblem for one that is not
    there: before anything runs.
    """

    def __init__(
        self, shop: Workshop, base: Path, settings: Rephrasing, documents: Artifact, *, name: str = "rephrased"
    ) -> None:
        self.shop, self.base, self.settings, self.documents, self.name = shop, base, settings, documents, name
        self.styles = styles_of(settings, base)
        table_of(settings.route, [style.name for style in self.styles])
        self.shards = _shards(documents, settings.sources)
        self.generator = in_full(settings.generator, base)
        self.generator_identity = generator_identity(self.generator)
        self.instruments_identity = dict(open_instruments(settings.instruments, base).identity)
        self.column = self._column()
        self.frozen = self._frozen()
        self.log = shop.root / "logs" / "generator.log"

    # ---- the plan

    def plan(self) -> Artifact:
        """Which documents in which styles, in which task; GPU-hours become tokens at the rate given or measured."""
        budget = self.settings.budget
        if budget.gpu_hours is None:
            return self._planned(budget)
        rate = self.settings.rate
        if rate is None and self.settings.measure:
            rate = self.measured_rate() / self.gpus
        return self._planned(budget.in_tokens(rate))

    def _planned(self, budget: Budget, name: str = "plan") -> Artifact:
        settings = self.settings
        plan = Plan(
            self.shards, self.styles, settings.route, budget, settings.pick, self.column, self.frozen, settings.seed,
            settings.task_requests,
        )  # fmt: skip
        config = {
            **self._identity(),
            "route": settings.route.model_dump(mode="json", exclude={"buckets"}),
            "buckets": self.frozen.model_dump(mode="json") if self.frozen else None,
            "budget": budget.model_dump(), "pick": settings.pick, "sources": list(settings.sources),
            "by": self.column.name if self.column else None, "task_requests": settings.task_requests,
        }  # fmt: skip
        inputs = [self.documents, *([Artifact(self.column.folder)] if self.column else [])]
        return self.shop.build_here(
            f"{self.name}_{name}", "rephrase_plan", config=config, inputs=inputs,
            make=lambda folder: plan.write(folder, loaded(self.generator, self.log)),
        )  # fmt: skip

    def measured_rate(self) -> float:
        """Generated tokens per second of all engines together, as the trial shows; measured once and then frozen."""
        draft = self._planned(self.settings.budget.model_copy(update={"gpu_hours": None}), "draft")
        trial = self.trial(draft)
        generator = fingerprint(self.generator_identity)
        made = self.shop.build_here(
            f"{self.name}_rate", "rephrase_rate", config={"generator": self.generator_identity}, inputs=[trial],
            make=partial(measure, self.shop.root / EVENTS, generator),
        )  # fmt: skip
        return read_measured(made)

    # ---- the work

    def run(self) -> Artifact:
        """Make the rephrasings: `<name>`, and `<name>_unique` where near-duplicates are to be left out.

        Returns the documents to go on with. Raises ConfigError when nothing is chosen, TaskError where strict and
        alarmed.
        """
        plan = self.plan()
        totals = plan.manifest.totals
        if not totals["rephrasings"]:
            raise ConfigError(
                "no document can be rephrased", expected="at least one that a style takes and the budget reaches",
                found=", ".join(f"{reason}: {n:,}" for reason, n in totals["passed_over"].items()) or "no documents",
                fix="widen the budget or the route, or lower the styles' limits",
            )  # fmt: skip
        large = totals["requests"] > 4 * TRIAL_OUTPUTS * len(self.styles)
        if large:
            self.trial(plan)
        made = self._built(self.name, plan, PLAN)
        if not large:
            self._look_over(made, "the outputs")
        if self.settings.dedup is None:
            return made
        return without_duplicates(self.shop, made, self.settings.dedup)

    def trial(self, plan: Artifact) -> Artifact:
        """Some outputs of each style, looked over before the rest is made."""
        made = self._built(f"{self.name}_trial", plan, TRIAL)
        self._look_over(made, "the first outputs")
        return made

    def _look_over(self, made: Artifact, which: str) -> None:
        alarms = look_over(made, [style.name for style in self.styles])
        for alarm in alarms:
            self.shop.progress.say(f"  [bold red]warning[/] {alarm}")
        if alarms and self.shop.strict:
            raise TaskError(
                f"{which} are alarming", found="; ".join(alarms), where=str(made.folder / "attempts"),
                fix="look at the attempts, mend the style or its limits, or run without --strict",
            )  # fmt: skip

    def _built(self, name: str, plan: Artifact, file: str) -> Artifact:
        settings = self.settings
        rows = read_table(plan.folder / file, ["task", "requests", "n_out"])
        total = pc.sum(rows.column("requests")).as_py() or 0
        work: dict[str, Work] = {}
        for task, first, stop in _spans(rows.column("task")):
            mine = rows.slice(first, stop - first)
            work[f"{task:05d}"] = RephraseWork(
                task, plan.folder / file, first, stop, self.documents.folder, self.styles, self.generator,
                settings.instruments, self.base, settings.batch_size, settings.seed, settings.rollout,
                self._share("requests", mine, rows, plan), self._share("n_out", mine, rows, plan), self.shop.root,
            )  # fmt: skip
        config = {**self._identity(), "rows": file, "rollout": settings.rollout}
        folder = self.shop.root / name
        return self.shop.build_tasks(
            name, "documents", config=config, inputs=[self.documents, plan], work=work, runtime=self._runtime(),
            deaths=DEATHS, watch=partial(seen, folder, total),
            totals={"passed_over": plan.manifest.totals["passed_over"]},
        )  # fmt: skip

    def _share(self, column: str, mine: pa.Table, rows: pa.Table, plan: Artifact) -> int | None:
        """A task's share of the plan's budget, in requests or tokens; null where that is not limited."""
        limit: int | None = plan.manifest.config["budget"]["requests" if column == "requests" else "tokens"]
        if limit is None:
            return None
        part, whole = (float(pc.sum(table.column(column)).as_py()) for table in (mine, rows))
        return max(1, round(limit * part / max(1.0, whole)))

    def _runtime(self) -> Runtime | None:
        """Worker processes of its own for an offline engine, one each; null: tasks run on the workshop's runtime."""
        if not isinstance(self.generator, VllmSettings):
            return None
        if self.shop.runtime.name != "local":
            self.shop.progress.say("  note: the offline engine runs on this machine; to use a cluster, ask servers")
        return LocalRuntime(self.generator.data_parallel, own_process=True)

    # ---- what is known before

    @property
    def gpus(self) -> int:
        """Devices that work side by side; a machine without a GPU, and each server's URL, counts as one."""
        if isinstance(self.generator, VllmSettings):
            return self.generator.data_parallel * self.generator.tensor_parallel
        return len(self.generator.urls)

    def known_rate(self) -> tuple[float | None, str]:
        """Generated tokens per second and GPU, and where that is known from; null where it is not."""
        if self.settings.rate is not None:
            return self.settings.rate, "as given"
        if self.settings.measure:
            return self.measured_rate() / self.gpus, "measured now"
        noted = noted_rate(self.shop.root / EVENTS, fingerprint(self.generator_identity))
        return (None, "") if noted is None else (noted / self.gpus, "earlier runs in this workspace")

    def _identity(self) -> dict[str, Any]:
        """What decides texts, whichever documents are chosen."""
        return {
            "styles": [style.model_dump(mode="json") for style in self.styles], "generator": self.generator_identity,
            "instruments": self.instruments_identity, "seed": self.settings.seed,
        }  # fmt: skip

    def _column(self) -> ScoreColumn | None:
        if not self.settings.route.by_score and self.settings.pick == "random":
            return None
        return find_column(score_columns(self.shop.root, self.documents), self.settings.by, self.documents)

    def _frozen(self) -> Buckets | None:
        given = self.settings.route.buckets
        if given is None or not self.settings.route.by_score:
            return None
        path = self.base / given.expanduser()
        return validated(Buckets, load_yaml(path), str(path))


def check_settings(settings: Rephrasing, base: Path) -> None:
    """Raise what `Rephraser` would for styles, generator and instruments, before there are documents."""
    table_of(settings.route, [style.name for style in styles_of(settings, base)])
    generator_identity(in_full(settings.generator, base))
    open_instruments(settings.instruments, base)


def styles_of(settings: Rephrasing, base: Path) -> tuple[Style, ...]:
    """The styles that settings name, or those of the route's bands, or `medium`.

    A path of a style file starts from `base`. Raises ConfigError for an unknown style, and for two of one name.
    """
    names: Sequence[str] = settings.styles
    if not names:
        bands = styles_of_bands(settings.route.bands or QUALITY_BANDS)
        names = bands if settings.route.by_score else DEFAULT_STYLES
    styles = tuple(load_style(str(base / name) if name.endswith(".md") else name) for name in names)
    for at, style in enumerate(styles):
        if style.name in (other.name for other in styles[:at]):
            raise ConfigError(f"two styles are called {style.name!r}", found=", ".join(names), fix="rename one of them")
    return styles


def in_full(generator: AnyGenerator, base: Path) -> AnyGenerator:
    """Generator settings whose model or tokenizer folder, if relative to `base`, is named in full."""
    held = generator.model if isinstance(generator, VllmSettings) else generator.tokenizer or ""
    if not held or not (base / held / "tokenizer.json").is_file():
        return generator
    key = "model" if isinstance(generator, VllmSettings) else "tokenizer"
    return generator.model_copy(update={key: str((base / held).resolve())})


def _shards(documents: Artifact, sources: Sequence[str]) -> tuple[Path, ...]:
    """The shards of some sources, or all. Raises ConfigError where a source has none."""
    files = documents.files()
    known = sorted({source_of(path) for path in files})
    for source in sources:
        if source not in known:
            raise ConfigError(f"{documents.name} has no source {source!r}", found=", ".join(known) or "no documents")
    return tuple(path for path in files if not sources or source_of(path) in sources)


def _spans(tasks: pa.ChunkedArray) -> list[tuple[int, int, int]]:
    """Each task with its first row and the row after its last; a task's rows lie together."""
    counted = pc.value_counts(tasks.combine_chunks()).to_pylist()
    spans, first = [], 0
    for item in counted:
        spans.append((item["values"], first, first + item["counts"]))
        first += item["counts"]
    return spans
