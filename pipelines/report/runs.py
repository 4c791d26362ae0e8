"""Runs as the report reads them: the metrics of each arm, and the held-out sets all arms were measured on."""

import json
from dataclasses import dataclass
from typing import Any

from corpus.config import load_yaml
from pipelines.report.workspace import Arm, Workspace, json_lines, table_of
from trainer_hooks.run_identity import PLAN_FILE

METRICS = "metrics.jsonl"
RESULT = "result.json"
RAW = "raw"


@dataclass(frozen=True)
class RunFacts:
    """The metrics of a finished run.

    Attributes:
        steps: one mapping an optimizer step; evaluations: held-out set -> weights -> mappings, in step order.
        parameters: size of the model, None where the run does not say.
        averages: names of the plan's averages, in its order.
    """

    arm: Arm
    steps: list[dict[str, Any]]
    evaluations: dict[str, dict[str, list[dict[str, Any]]]]
    parameters: int | None
    averages: tuple[str, ...] = ()

    def final(self, heldout: str) -> dict[str, Any]:
        """The last evaluation of the weights the run ends with: its first average where it has one."""
        return self.evaluations[heldout][self.ends_with(heldout)][-1]

    def ends_with(self, heldout: str) -> str:
        """Which weights `final` measures: the name of an average, or raw."""
        return next((name for name in self.weights if name != RAW and name in self.evaluations[heldout]), RAW)

    @property
    def weights(self) -> list[str]:
        """What was measured: raw, then the averages in the order of the plan."""
        found = dict.fromkeys(name for kinds in self.evaluations.values() for name in kinds)
        planned = [name for name in self.averages if name in found]
        return [RAW, *planned, *(name for name in found if name != RAW and name not in planned)]


def run_facts(workspace: Workspace) -> list[RunFacts]:
    """Read the metrics of every finished run."""
    found = []
    for arm in workspace.arms:
        if arm.run is None:
            continue
        steps: list[dict[str, Any]] = []
        evaluations: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for line in json_lines(arm.run.folder / METRICS):
            if "heldout" in line:
                evaluations.setdefault(line["heldout"], {}).setdefault(line["weights"], []).append(line)
            elif "loss" in line:
                steps.append(line)
        if steps:
            found.append(RunFacts(arm, steps, evaluations, _parameters(arm), _averages(arm)))
    return found


def heldout_sets(workspace: Workspace, runs: list[RunFacts]) -> list[tuple[str, int]]:
    """Held-out sets that every run was measured on, with their tokens, largest first; 0 where unknown."""
    shared = set.intersection(*(set(run.evaluations) for run in runs)) if runs else set()
    artifact = workspace.get("heldout_tokens")
    table = table_of(artifact, ["source", "length"]) if artifact else None
    sizes = dict.fromkeys(shared, 0)
    for row in table.to_pylist() if table is not None else []:
        if row["source"] in sizes:
            sizes[row["source"]] += row["length"]
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def _parameters(arm: Arm) -> int | None:
    assert arm.run is not None
    path = arm.run.folder / RESULT
    if path.exists():
        return int(json.loads(path.read_text(encoding="utf-8"))["parameters"])
    value = arm.run.manifest.totals.get("parameters")
    return int(value) if value is not None else None


def _averages(arm: Arm) -> tuple[str, ...]:
    assert arm.run is not None
    path = arm.run.folder / PLAN_FILE
    return tuple(load_yaml(path).get("resolved", {}).get("averages", {})) if path.exists() else ()
