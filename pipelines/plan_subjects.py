"""What `gradatim plan` looks at: the plans of run files and recipes, each with what the workspace has for it.

A run file is one plan, a recipe one for each arm. The order, the mixture's caps and the tokenizer are looked up in the
workspace; what is not there yet is said, and the plan is looked at without it.

    for subject in plan_subjects([Path("run.yaml")], workspace):
        subject.findings()
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.artifacts import Artifact, artifacts_in
from corpus.config import load_yaml, nearest
from corpus.errors import ConfigError
from corpus.tokenizer import load_encoder
from curriculum.order import Order
from pipelines.candidates import direction_of
from pipelines.commands.order import ordered
from pipelines.commands.workshop import RuntimeOptions, open_workshop
from pipelines.mixing import ALLOCATION, read_allocation
from pipelines.recipe import load_recipe, recipe_file
from pipelines.run_file import OrderOf, load_run_file, run_file
from pipelines.token_source import TokenSource
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.plan_checks import findings
from trainer_hooks.plan_findings import Finding
from trainer_hooks.plan_order_checks import PlannedData
from trainer_hooks.resolution import resolve


@dataclass(frozen=True)
class PlanSubject:
    """A plan with what there is for it.

    Args:
        name: of the run or arm; resolved: its plan.
        model: its shape; tokenizer_size: ids of the tokenizer, None where it is not made yet.
        order: that the plan reads, None where it is not made yet; absent: why.
        known: the artifacts of the workspace by name.
    """

    name: str
    resolved: ResolvedPlan
    model: ModelConfig
    tokenizer_size: int | None
    order: Artifact | None
    absent: str
    known: dict[str, Artifact]

    @cached_property
    def table(self) -> pa.Table | None:
        """The visits of the order."""
        return None if self.order is None else Order(self.order).table()

    @cached_property
    def data(self) -> PlannedData | None:
        """The visits as the checks take them: scores turned so that higher is better, with the mixture's caps."""
        if self.order is None or self.table is None:
            return None
        inputs = [self.known[ref.name] for ref in self.order.manifest.inputs if ref.name in self.known]
        return PlannedData.of(self.table, caps=_caps(inputs), lower_is_better=_lower_is_better(self.order, inputs))

    def findings(self, processes: int = 1) -> list[Finding]:
        """All that is found, errors first; a note where the order is not there."""
        found = findings(
            self.resolved,
            order=self.data,
            model=self.model,
            tokenizer_size=self.tokenizer_size,
            processes=processes,
        )
        if self.absent:
            found.append(Finding("note", "no-order", self.absent, "order"))
        return found


def plan_subjects(files: Sequence[Path], workspace: Path, overrides: tuple[str, ...] = ()) -> list[PlanSubject]:
    """The plans of run files and recipes, with what the workspace has for each.

    Names that two files share are told apart by the files' names. Raises ConfigError for a file that cannot be used or
    a plan that cannot be followed.
    """
    known = {artifact.name: artifact for artifact in artifacts_in(workspace)} if workspace.is_dir() else {}
    found: list[tuple[Path, PlanSubject]] = []
    for path in files:
        of_file = _of_recipe if _is_recipe(path) else _of_run
        found += [(path, subject) for subject in of_file(path, workspace, known, overrides)]
    names = [subject.name for _, subject in found]
    return [
        replace(subject, name=f"{path.stem}: {subject.name}") if names.count(subject.name) > 1 else subject
        for path, subject in found
    ]


def _is_recipe(path: Path) -> bool:
    return "inputs" in load_yaml(recipe_file(run_file(path)))


def _of_recipe(
    path: Path, workspace: Path, known: dict[str, Artifact], overrides: tuple[str, ...]
) -> list[PlanSubject]:
    recipe = load_recipe(path, overrides)
    if recipe.train is None:
        raise ConfigError("this recipe trains nothing, so it has no plans", where=str(path), fix="add train.arms")
    size = _tokenizer_size(known.get("tokenizer"))
    absent = f"the orders are not made yet: gradatim run {path} -w {workspace}"
    return [
        _subject(name, arm.plan, recipe.train.model, size, known.get(f"orders/{name}"), absent, known)
        for name, arm in recipe.train.arms.items()
    ]


def _of_run(path: Path, workspace: Path, known: dict[str, Artifact], overrides: tuple[str, ...]) -> list[PlanSubject]:
    run = load_run_file(path, overrides, workspace)
    size = _tokenizer_size(known.get(run.tokenizer))
    if isinstance(run.order, str):
        order = known.get(run.order)
        absent = f"there is no order {run.order} in {workspace}{nearest(run.order, known) if known else ''}"
    else:
        order, absent = _made(run.name, run.order, workspace, known)
    if order is not None and order.manifest.kind != "order":
        raise ConfigError(
            f"{order.name} is not an order", found=f"kind {order.manifest.kind}", where=f"{path}: order",
            fix="name one of orders/, or write {visits: ..., policy: ...}",
        )  # fmt: skip
    return [_subject(run.name, run.plan, run.model, size, order, absent, known)]


def _made(name: str, order: OrderOf, workspace: Path, known: dict[str, Artifact]) -> tuple[Artifact | None, str]:
    """The order that a run file describes: made here, as the run would, since an order costs little to look at."""
    if order.visits not in known:
        like = nearest(order.visits, known) if known else ""
        return None, f"the order is not made yet, and there is no {order.visits} in {workspace} to make it of{like}"
    with open_workshop(workspace, RuntimeOptions()) as shop:
        made = ordered(shop, f"orders/{name}", known[order.visits], order.policy)
    return made, ""


def _subject(
    name: str, plan: Plan, model: ModelConfig, size: int | None, order: Artifact | None, absent: str,
    known: dict[str, Artifact],
) -> PlanSubject:  # fmt: skip
    return PlanSubject(name, resolve(plan), model, size, order, "" if order else absent, known)


def _tokenizer_size(artifact: Artifact | None) -> int | None:
    paths = artifact.files(".json") if artifact else []
    return load_encoder(paths[0]).vocabulary if paths else None


def _caps(inputs: Sequence[Artifact]) -> dict[str, float]:
    """How often a document of each source may be read, by the mixture that the order was made from."""
    files = [path for artifact in inputs for path in artifact.files(".json") if artifact.manifest.kind == "mixture"]
    allocations = [read_allocation(path) for path in files if path.name == ALLOCATION]
    return {source: one.max_visits for made in allocations for one in made.components for source in one.sources}


def _lower_is_better(order: Artifact, inputs: Sequence[Artifact]) -> bool:
    """Whether low values of the score that the order kept are the good ones, as its rater says."""
    by = _score_of(order.manifest.config.get("policy", {}))
    sources = [TokenSource.of(artifact) for artifact in inputs if artifact.manifest.kind == "tokens"]
    return by is not None and direction_of(sources, by.removeprefix("-")) == "low"


def _score_of(policy: Any) -> str | None:
    """The score a policy orders by, also one of several phases; None where it needs none."""
    if not isinstance(policy, dict):
        return None
    by = policy.get("by")
    if isinstance(by, str):
        return by
    if isinstance(by, list | tuple) and by:
        return str(by[0])
    return next((found for value in policy.values() if (found := _score_of(value))), None)
