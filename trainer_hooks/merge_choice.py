"""Which checkpoints are merged, and with which coefficients: those named, or the marks of an average in a run's plan.

What must not be averaged is refused here: checkpoints on both sides of a point at which the optimizer starts anew or
the rate jumps, as the plan of their run says.

    chosen([Path("a"), Path("b")], ExplicitAverage(kind="weights", weights=(0.5, 0.5)))
    checkpoints_of(Path("runs/climb"), LastCheckpoints(kind="wma"))
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from corpus.config import load_yaml, validated
from corpus.errors import ConfigError
from trainer_hooks.average_kinds import (
    AnyAverage,
    CurveAverage,
    ExplicitAverage,
    SlidingAverage,
    StepEma,
    WindowAverage,
)
from trainer_hooks.average_marks import mark_coefficients
from trainer_hooks.average_resolution import breaks, resolve_average
from trainer_hooks.checkpoints import STATE, checkpoints_in
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.run_identity import PLAN_FILE


@dataclass(frozen=True)
class Chosen:
    """Checkpoints to merge, oldest first, and how.

    Attributes:
        tokens: seen at each checkpoint; None where that is not known. warnings: what speaks against this merge.
    """

    paths: tuple[Path, ...]
    tokens: tuple[int, ...] | None
    coefficients: tuple[float, ...]
    average: WindowAverage | SlidingAverage
    warnings: tuple[str, ...] = ()


def chosen(
    paths: Sequence[Path], average: WindowAverage | SlidingAverage, tokens: Sequence[int] | None = None
) -> Chosen:
    """Merge exactly these, oldest first; what an average says about the number of checkpoints follows from them.

    Args:
        tokens: seen at each, for a curve; None: as the checkpoints of a run say.

    Raises ConfigError where the average does not fit their number, a curve has no positions, or the checkpoints lie
    on both sides of a point of their run's plan at which the optimizer starts anew or the rate jumps.
    """
    _check_number(paths, average)
    positions = tuple(tokens) if tokens is not None else _recorded_tokens(paths)
    if positions is not None and (len(positions) != len(paths) or any(a >= b for a, b in pairwise(positions))):
        raise ConfigError(
            "checkpoints are merged oldest first, each at a position of its own",
            expected=f"{len(paths)} rising token positions",
            found=", ".join(f"{position:,}" for position in positions),
        )
    if positions is None and isinstance(average, CurveAverage):
        raise ConfigError(
            "a curve needs the token positions of the checkpoints, and these do not record theirs",
            fix="give them, oldest first: --tokens 10B,12B,14B",
        )
    weights = mark_coefficients(average, positions or range(len(paths)))
    warnings = _against(paths, positions)
    return Chosen(tuple(paths), positions, tuple(weights.tolist()), average, warnings)


def checkpoints_of(run: Path, average: AnyAverage) -> Chosen:
    """Choose among a run's checkpoints: the marks that the average has in the run's plan.

    Where the settings say nothing about positions, the newest `last` checkpoints are taken, which must then lie at
    equal distances (a curve and explicit weights need not). Raises ConfigError where checkpoints are missing, and for
    a mean of every step, which no checkpoints hold; else as `chosen`.
    """
    if isinstance(average, StepEma):
        raise ConfigError(
            "a mean of every optimizer step cannot be taken from checkpoints",
            fix="follow it during training with plan.average, or merge with ema_debiased",
        )
    plan = _plan_of(run)
    if plan is None:
        raise ConfigError(f"{run} is no run", expected=f"a folder with {PLAN_FILE}")
    found = {step * plan.step_tokens: path for step, path in checkpoints_in(run / "checkpoints").items()}
    if average.model_fields_set & {"window", "end", "every", "start", "until"}:
        asked = resolve_average("merge", average, plan.phases, plan.plan.tokens, plan.step_tokens, plan.steps)
        marks = [int(mark) for mark in asked.final().marks]
    else:
        marks = _newest(list(found), average)
    missing = [mark for mark in marks if mark not in found]
    if missing or len(found) < len(marks):
        raise ConfigError(
            f"the run has no checkpoint at {len(missing)} of the {len(marks)} marks",
            expected="checkpoints after " + ", ".join(f"{mark:,}" for mark in missing[:3]) + " tokens",
            found=", ".join(f"{position:,}" for position in found) or "none",
            where=str(run),
            fix="choose marks that exist with window, end or every, or train with this average in plan.average",
        )
    return chosen([found[mark] for mark in marks], average, marks)


def _check_number(paths: Sequence[Path], average: WindowAverage | SlidingAverage) -> None:
    stated = isinstance(average, ExplicitAverage) or "last" in average.model_fields_set
    if not paths or (stated and average.last != len(paths)):
        raise ConfigError(
            "each checkpoint needs one coefficient",
            expected=f"{average.last} checkpoints, as the average says" if stated else "at least one checkpoint",
            found=str(len(paths)),
        )


def _newest(positions: list[int], average: WindowAverage | SlidingAverage) -> list[int]:
    marks = positions[-average.last :]
    gaps = np.diff(marks)
    needs_equal = not isinstance(average, CurveAverage | ExplicitAverage)
    if len(marks) < average.last or (needs_equal and len(set(gaps.tolist())) > 1):
        raise ConfigError(
            f"the newest {average.last} checkpoints do not make a window",
            expected=f"{average.last} checkpoints at equal distances",
            found=", ".join(f"{position:,}" for position in positions) or "none",
            fix="say where the window lies, with window and end, or average fewer with last",
        )
    return marks


def _recorded_tokens(paths: Sequence[Path]) -> tuple[int, ...] | None:
    states = [path / STATE for path in paths]
    if not all(state.exists() for state in states):
        return None
    return tuple(int(json.loads(state.read_text(encoding="utf-8"))["tokens"]) for state in states)


def _plan_of(run: Path) -> ResolvedPlan | None:
    path = run / PLAN_FILE
    return validated(ResolvedPlan, load_yaml(path)["resolved"], str(path)) if path.exists() else None


def _against(paths: Sequence[Path], positions: tuple[int, ...] | None) -> tuple[str, ...]:
    """What speaks against a merge, by the plan of the run that the checkpoints are of."""
    runs = {path.resolve().parent.parent for path in paths}
    if len(runs) > 1:
        return ("these checkpoints are not of one run; weights trained apart rarely have a good mean",)
    plan = _plan_of(runs.pop())
    if plan is None or positions is None:
        return ()
    for position in breaks(plan.phases):
        if positions[0] < position < positions[-1]:
            raise ConfigError(
                "these checkpoints lie on both sides of an optimizer that starts anew or a rate that jumps",
                expected=f"checkpoints up to {position:,} tokens, or from there on",
                found=", ".join(f"{tokens:,}" for tokens in positions),
            )
    borders = [phase.start for phase in plan.phases if positions[0] < phase.start < positions[-1]]
    return tuple(f"the window spans a change of phase at {border:,} tokens" for border in borders)
