"""`gradatim forgetting`: what a sequence of tasks or continued pretraining cost what a model knew before."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from rich.markup import escape

from corpus.errors import ConfigError
from pipelines.commands.evaluation_tables import HIGHER, LOWER, plain_table
from pipelines.commands.workshop import table_console
from trainer_hooks.evals.continual import ContinualMetrics, continual_metrics, read_stage_scores
from trainer_hooks.evals.loss_gaps import NOT_RECOVERED, LossGap, heldout_curve, loss_gap, recovery_tolerance
from trainer_hooks.metrics import METRICS

BASE_CHECKPOINTS = 5
METRICS_OF_A_SEQUENCE = {
    "overall": ("overall (OP)", HIGHER),
    "forgetting": ("forgetting (F)", LOWER),
    "backward_transfer": ("backward transfer (BWT)", HIGHER),
    "backward_transfer_trace": ("backward transfer, over T (TRACE)", HIGHER),
    "forward_transfer": ("forward transfer (FWT)", HIGHER),
    "learning_accuracy": ("learning accuracy (LA)", HIGHER),
}


def sequence_command(path: Path, sequence: str | None, *, as_json: bool) -> None:
    """Metrics of a sequence of tasks: their mean over seeds and the range of the seeds."""
    tasks = [task.strip() for task in (sequence or "").split(",") if task.strip()]
    if not tasks:
        raise ConfigError("the order of the stages is not known", fix="name the tasks: --sequence law,medicine,code")
    found = continual_metrics(read_stage_scores(path), tasks)
    if as_json:
        _write_json({"sequence": tasks, "seeds": {str(seed): asdict(one) for seed, one in found.items()}})
        return
    console = table_console()
    console.print(f"{len(tasks)} stages: {escape(', '.join(tasks))}; seeds: {len(found)}", highlight=False)
    table = plain_table(("after the last stage", "", "mean", "lowest", "highest"), left=2)
    for label, direction, values in _rows(found):
        table.add_row(escape(label), direction.replace("\n", " "), *values)
    console.print(table)
    if not any(one.outside for one in found.values()):
        console.print("nothing was measured outside the sequence, where a collapse would not show", highlight=False)


def _rows(found: Mapping[int, ContinualMetrics]) -> list[tuple[str, str, list[str]]]:
    rows = []
    for field, (label, direction) in METRICS_OF_A_SEQUENCE.items():
        values = [getattr(one, field) for one in found.values() if getattr(one, field) is not None]
        rows.append((label, direction, _spread(values)))
    for name in sorted({name for one in found.values() for name in one.outside}):
        changes = [one.outside[name] for one in found.values() if name in one.outside]
        rows.append((f"{name}: change since the base", HIGHER, _spread(changes)))
    return rows


def _spread(values: Sequence[float]) -> list[str]:
    if not values:
        return ["one stage", "", ""]
    return [f"{value:.4f}" for value in (fmean(values), min(values), max(values))]


def gaps_command(run: Path, old: Sequence[str], base: Path | None, weights: str, *, as_json: bool) -> None:
    """The gap of each old held-out set, against the last checkpoints of the base run."""
    if not old or base is None:
        raise ConfigError(
            "forgetting is measured on what the model knew before",
            expected="--old, a held-out set of old text, and --base, the run that is continued",
        )
    gaps: dict[str, LossGap] = {}
    tolerances: dict[str, float] = {}
    for name in old:
        before = heldout_curve(base / METRICS, name, weights)[1]
        tolerances[name] = recovery_tolerance(before[-BASE_CHECKPOINTS:])
        gaps[name] = loss_gap(*heldout_curve(run / METRICS, name, weights), float(before[-1]), tolerances[name])
    if as_json:
        _write_json(
            {"weights": weights, "gaps": {name: asdict(one) for name, one in gaps.items()}, "tolerance": tolerances}
        )
        return
    below = f"\n{LOWER}"
    table = plain_table(
        (
            "held out",
            f"depth{below}",
            "at tokens",
            f"recovered at{below}",
            f"area{below}",
            f"residual{below}",
            "tolerance",
        )
    )
    for name, one in gaps.items():
        recovery = NOT_RECOVERED if one.recovery is None else f"{one.recovery:,.0f}"
        table.add_row(
            escape(name), f"{one.depth:+.4f}", f"{one.at:,.0f}", recovery, f"{one.area:.4g}", f"{one.residual:+.4f}",
            f"{tolerances[name]:.4f}",
        )  # fmt: skip
    console = table_console()
    console.print(table)
    console.print(
        f"nats a token above the end of {escape(str(base))}, {escape(weights)} weights; area in nats x tokens; "
        f"recovered: within two deviations of its last {BASE_CHECKPOINTS} evaluations",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _write_json(data: object) -> None:
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
