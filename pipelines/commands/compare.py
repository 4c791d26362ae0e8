"""`gradatim compare`: two sets of answers, or two models and their weights, question by question."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from corpus.errors import ArtifactError, ConfigError
from pipelines.commands.evaluate import Asked, read_all
from pipelines.commands.evaluation_tables import HIGHER, LOWER, plain_table, points, print_problems, print_too_long
from pipelines.commands.workshop import table_console
from trainer_hooks.evals.answers import read_answers
from trainer_hooks.evals.choices import Answer
from trainer_hooks.evals.comparison import Changes, Comparison, Matched, compare, match
from trainer_hooks.evals.flips import Interval
from trainer_hooks.evals.item_files import ItemFile
from trainer_hooks.evals.subjects import open_subject
from trainer_hooks.evals.weights_moved import Moved, by_layer, together, weights_moved
from trainer_hooks.loading import RAW, weights_in
from trainer_hooks.stored_weights import open_weights

SHOWN = 10


@dataclass(frozen=True)
class Side:
    """One of the two: where its answers come from."""

    path: Path
    weights: str

    @property
    def answered(self) -> bool:
        """Whether this is a file of answers; else it is a model."""
        return self.path.is_file() and self.path.suffix == ".jsonl"

    def __str__(self) -> str:
        return str(self.path) if self.answered else f"{self.path} ({self.weights})"


@dataclass(frozen=True)
class Compared:
    """All that is known of two sides.

    Args:
        too_long: by side, questions that do not fit its context.
        moved: by tensor, of two models; `unmoved` says why there are none.
    """

    sides: tuple[Side, Side]
    items: ItemFile
    too_long: Mapping[str, Sequence[str]]
    matched: Matched | None
    rows: Sequence[Comparison]
    moved: Sequence[Moved]
    unmoved: str


def compare_command(
    old: Path,
    new: Path,
    files: Sequence[Path],
    asked: Asked,
    *,
    weights: Sequence[str],
    rule: str,
    tolerance: float,
    seed: int,
    as_json: bool,
) -> None:
    """Compare and print; of two models the weights are compared too."""
    names = list(weights) or [RAW]
    if len(names) > 2:
        raise ConfigError("--weights is given once, or once for each of two sides", found=", ".join(names))
    sides = Side(old, names[0]), Side(new, names[-1])
    models = [side for side in sides if not side.answered]
    if len(models) == 1 and not files:
        raise ConfigError(f"{models[0]} has to be asked what the other side answered", fix="name it: --items FILE")
    items, too_long, matched = read_all(files, asked.strict), {}, None
    if items.items or not models:
        (first, long), (second, longer) = (_answers(side, items, asked) for side in sides)
        matched, too_long = match(first, second), {str(sides[0]): long, str(sides[1]): longer}
    rows = compare(matched.pairs, rule, seed=seed) if matched else []
    moved, unmoved = _moved(sides, tolerance) if len(models) == 2 else ([], "")
    found = Compared(sides, items, too_long, matched, rows, moved, unmoved)
    if as_json:
        sys.stdout.write(json.dumps(_data(found), indent=1, ensure_ascii=False) + "\n")
    else:
        _print(found, tolerance)


def _answers(side: Side, items: ItemFile, asked: Asked) -> tuple[Sequence[Answer], Sequence[str]]:
    """A side's answers, and the questions that do not fit its context."""
    if side.answered:
        return read_answers(side.path), ()
    found = asked.answers(open_subject(side.path, side.weights, asked.on), items)
    return found.answers, found.too_long


def _moved(sides: tuple[Side, Side], tolerance: float) -> tuple[list[Moved], str]:
    """Moved weights by tensor, or the reason why there are none."""
    paths = [weights_in(side.path).get(side.weights, side.path) for side in sides]
    with open_weights(paths[0]) as old, open_weights(paths[1]) as new:
        try:
            return list(weights_moved(old, new, tolerance)), ""
        except ArtifactError as error:
            return [], " ".join(str(error).split())


def _data(found: Compared) -> dict[str, Any]:
    def task(row: Comparison) -> dict[str, Any]:
        verdicts = {"score": row.score.verdict}
        if row.changes:
            verdicts["accuracy"] = row.changes.accuracy.verdict
        return {**asdict(row), "verdict": verdicts}

    return {
        "old": str(found.sides[0]),
        "new": str(found.sides[1]),
        "unusable_lines": found.items.problems,
        "too_long": found.too_long,
        "only_old": found.matched.only_old if found.matched else [],
        "only_new": found.matched.only_new if found.matched else [],
        "tasks": [task(row) for row in found.rows],
        "weights_moved": [{**asdict(row), "sparsity": row.sparsity} for row in found.moved],
    }


def _print(found: Compared, tolerance: float) -> None:
    console = table_console()
    for which, side in zip(("old", "new"), found.sides, strict=True):
        console.print(f"{which}: {escape(str(side))}", highlight=False, soft_wrap=True)
    print_problems(console, found.items)
    for whose, names in found.too_long.items():
        print_too_long(console, names, whose)
    if found.matched:
        for whose, only in (("the old", found.matched.only_old), ("the new", found.matched.only_new)):
            if only:
                console.print(f"questions left out that {whose} alone answered: {len(only)}", highlight=False)
        _print_answers(console, found.rows)
    if found.moved:
        _print_moved(console, found.moved, tolerance)
    elif found.unmoved:
        console.print(f"weights are not compared: {escape(found.unmoved)}", highlight=False, soft_wrap=True)


def _print_answers(console: Console, rows: Sequence[Comparison]) -> None:
    if any(row.changes for row in rows):
        table = plain_table(
            ("task", "n", "old\n% right", "new\n% right", f"new - old\n95 % interval\n{HIGHER}", "McNemar's\np",
             f"negative flips\n%\n{LOWER}", f"positive flips\n%\n{HIGHER}", f"still right\n%\n{HIGHER}")
        )  # fmt: skip
        for row in rows:
            if row.changes:
                table.add_row(escape(row.task), *_cells(row.changes))
        console.print(table)
    about = f"score of right answers\n{rows[0].rule}, new - old\n95 % interval\n{HIGHER}"
    scores = plain_table(("task", about, "rose\n%", "by\non average", "fell\n%", "by\non average", "documents"))
    for row in rows:
        one = row.scores
        scores.add_row(
            escape(row.task), _interval(row.score, "{:+.4f}", 1), points(one.gained), f"{one.mean_gain:.4f}",
            points(one.lost), f"{one.mean_loss:.4f}", f"{row.score.clusters:,}",
        )  # fmt: skip
    console.print(scores)
    changes = rows[-1].changes
    for heading, names in (("no longer right", changes.broken), ("right now", changes.mended)) if changes else ():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            console.print(f"{heading}: {escape(', '.join(names[:SHOWN]))}{more}", highlight=False, soft_wrap=True)


def _cells(changes: Changes) -> list[str]:
    flips = changes.flips
    return [
        f"{flips.questions:,}",
        points(flips.old_accuracy),
        points(flips.new_accuracy),
        _interval(changes.accuracy, "{:+.2f}", 100),
        f"{flips.mcnemar:.3g}",
        _interval(changes.negative, "{:.2f}", 100, verdict=False),
        _interval(changes.positive, "{:.2f}", 100, verdict=False),
        points(flips.trust) if flips.trust is not None else "",
    ]


def _interval(one: Interval, form: str, scale: float, verdict: bool = True) -> str:
    """The mean, its interval and, where 0 has a meaning, the verdict: a line each."""
    lines = [form.format(scale * one.mean)]
    if one.low is not None and one.high is not None:
        lines.append(f"{form.format(scale * one.low)} to {form.format(scale * one.high)}")
    return "\n".join([*lines, one.verdict] if verdict else lines)


def _print_moved(console: Console, moved: Sequence[Moved], tolerance: float) -> None:
    within = f"within {tolerance:g}" if tolerance else "unchanged"
    table = plain_table(("weights", "parameters", f"% {within}", "|change| / |old|", "effective rank, %"))
    whole = together("all", moved)
    for row in [*by_layer(moved), whole]:
        rank = f"{100 * row.rank_share:.1f}" if row.rank_share is not None else ""
        table.add_row(row.name, f"{row.parameters:,}", points(row.sparsity), f"{row.relative_norm:.4g}", rank)
    console.print(table)
    console.print(
        f"stored as {whole.dtype}: part of what is unchanged is rounding, so compare one type only; "
        "ranks are shares of the shorter side, means over matrices",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
