"""What a model keeps and forgets while it learns one task after another, from scores by stage and task.

a[t, i] is the score on task i after stage t, higher is better; row 0 is the base model, before the first stage, and
without it nothing here is computed. Forgetting is printed positive: lower is better. Sequence metrics do not see a
collapse elsewhere, so evaluations outside the sequence are reported as differences from the base, beside them.

    scores = read_stage_scores(Path("stages.csv"))           # stage,evaluation,score[,n][,seed]
    continual_metrics(scores, sequence=["law", "medicine", "code"])
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpus.config import nearest
from corpus.errors import InputError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StageScore:
    """A score after a stage; stage 0 is the base model, `n` the questions behind it."""

    stage: int
    evaluation: str
    score: float
    n: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ContinualMetrics:
    """After the last of T stages. None where T is 1 and nothing could be forgotten.

    Args:
        overall: mean score over the sequence (OP), up; also TRACE's.
        forgetting: mean fall from each task's best earlier score (F), down; may be negative.
        backward_transfer: mean change since each task was learnt (BWT), up, over T - 1 tasks.
        backward_transfer_trace: the same sum over T, as TRACE has it (2310.06762).
        forward_transfer: mean of the score just before a task's own stage, less the base's (FWT), up.
        learning_accuracy: mean score right after each task's own stage (LA), up.
        outside: by evaluation outside the sequence, score at the end less the base's (TRACE deltas), up.
    """

    overall: float
    forgetting: float | None
    backward_transfer: float | None
    backward_transfer_trace: float
    forward_transfer: float | None
    learning_accuracy: float
    outside: Mapping[str, float]


def sequence_metrics(a: Matrix, outside: Mapping[str, float] | None = None) -> ContinualMetrics:
    """The metrics of a matrix (T + 1, T): row 0 the base, column i the task of stage i + 1.

    Raises InputError for another shape or a score that is no number.
    """
    stages = a.shape[1] if a.ndim == 2 else 0
    if not stages or a.shape[0] != stages + 1 or not np.isfinite(a).all():
        raise InputError(
            "scores by stage do not make a sequence",
            expected="a number for each of T tasks before the first stage and after each of T stages",
            found=f"shape {a.shape}" if np.isfinite(a).all() else "a score that is no number",
        )
    own, last = a[1:].diagonal(), a[-1]
    changes = last - own
    several = stages > 1
    best = [a[i + 1 : stages, i].max() for i in range(stages - 1)]
    return ContinualMetrics(
        overall=float(last.mean()),
        forgetting=float((np.array(best) - last[:-1]).mean()) if several else None,
        backward_transfer=float(changes[:-1].mean()) if several else None,
        backward_transfer_trace=float(changes[:-1].sum() / stages),
        forward_transfer=float(np.mean([a[i, i] - a[0, i] for i in range(1, stages)])) if several else None,
        learning_accuracy=float(own.mean()),
        outside=dict(outside or {}),
    )


def continual_metrics(scores: Sequence[StageScore], sequence: Sequence[str]) -> dict[int, ContinualMetrics]:
    """The metrics of each seed; stage i trains `sequence[i - 1]`. Every evaluation not in the sequence is outside.

    Raises InputError where the base row, or another score of the sequence, is missing.
    """
    found = {}
    for seed in sorted({one.seed for one in scores}):
        table = {(one.stage, one.evaluation): one.score for one in scores if one.seed == seed}
        a = np.array([[_score(table, t, task, seed) for task in sequence] for t in range(len(sequence) + 1)])
        last = len(sequence)
        others = sorted({name for _, name in table} - set(sequence))
        outside = {name: _score(table, last, name, seed) - _score(table, 0, name, seed) for name in others}
        found[seed] = sequence_metrics(a, outside)
    return found


def _score(table: Mapping[tuple[int, str], float], stage: int, evaluation: str, seed: int) -> float:
    if (stage, evaluation) not in table:
        known = {name for _, name in table}
        hint = "" if evaluation in known else nearest(evaluation, known)
        base = "; without the base row nothing can be said about forgetting" if stage == 0 else ""
        raise InputError(
            f"the score of {evaluation!r} at stage {stage} is missing{hint}{base}",
            expected="every evaluation at stage 0, the base model, and at each stage after it",
            found=f"seed {seed}: stages {sorted({t for t, name in table if name == evaluation})} of {evaluation}",
        )
    return table[stage, evaluation]


def intransigence(joint: Sequence[float], own: Sequence[float]) -> list[float]:
    """By task: the score of joint training less that right after the task's own stage; down."""
    return [best - score for best, score in zip(joint, own, strict=True)]


Change = tuple[float, float]
"""A score before and after."""


def fuar(forgotten: Sequence[Change], updated: Sequence[Change], acquired: Change) -> float | None:
    """Forgotten over (updated + acquired), down, below 1 is good; None where nothing was gained.

    sum max(0, before - after) over what was to be kept, divided by sum max(0, after - before) over what was to be
    updated and acquired. After 2110.03215; the paper's own formula was not checked.
    """
    lost = sum(max(0.0, before - after) for before, after in forgotten)
    gained = sum(max(0.0, after - before) for before, after in [*updated, acquired])
    return lost / gained if gained else None


def read_stage_scores(path: Path) -> list[StageScore]:
    """Read a CSV file with the columns stage, evaluation, score and, where known, n and seed.

    Raises InputError, naming the line, for a file that is missing, lacks a column, or holds no numbers in one, or a
    stage, evaluation and seed twice.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"stage", "evaluation", "score"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"there is no column {', '.join(sorted(missing))}", where=str(path))
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("cannot read these scores", found=str(error), where=str(path)) from error
    found: dict[tuple[int, str, int], StageScore] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        try:
            n = int(row["n"]) if row.get("n") else None
            one = StageScore(int(row["stage"]), row["evaluation"], float(row["score"]), n, int(row.get("seed") or 0))
        except (TypeError, ValueError) as error:
            raise InputError("this row is no score", found=str(error), where=where) from None
        key = one.stage, one.evaluation, one.seed
        if not isfinite(one.score) or one.stage < 0 or key in found:
            why = "this score is there twice" if key in found else "a stage is at least 0 and a score a number"
            raise InputError(why, found=str(row), where=where)
        found[key] = one
    return list(found.values())
