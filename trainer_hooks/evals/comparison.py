"""Two models' answers to the same questions, matched one by one: what changed, with intervals, task by task.

for row in compare(old, new, rule="raw", seed=0):
    print(row.task, row.score.verdict, row.changes and row.changes.broken[:5])
"""

from collections.abc import Sequence
from dataclasses import dataclass

from corpus.errors import InputError
from trainer_hooks.evals.choices import Answer
from trainer_hooks.evals.flips import ContinuousFlips, Flips, Interval, bootstrap, compare_choices, compare_scores

ALL = "all"
Pair = tuple[Answer, Answer]


@dataclass(frozen=True)
class Matched:
    """Pairs of answers to one question each, old and new, and the names of questions that only one side answered."""

    pairs: tuple[Pair, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """Answers that changed, over questions with at least two options.

    Args:
        accuracy: new less old, with its interval; negative, positive: the shares of flips, with theirs.
        broken, mended: names of the questions behind negative and positive flips.
    """

    flips: Flips
    accuracy: Interval
    negative: Interval
    positive: Interval
    broken: tuple[str, ...]
    mended: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Old and new on one task.

    Args:
        changes: of answers; None where no question has two options.
        scores: of the right answers, in nats (raw, pmi) or nats a token or byte; higher is better.
        score: the mean change of those scores, with its interval.
    """

    task: str
    rule: str
    changes: Changes | None
    scores: ContinuousFlips
    score: Interval


def match(old: Sequence[Answer], new: Sequence[Answer]) -> Matched:
    """Pair answers by task and name, in the old order.

    Raises InputError where a question of one name is another question on the other side, or none is on both.
    """
    mine, theirs = ({(one.task, one.name): one for one in side} for side in (old, new))
    for key in mine.keys() & theirs.keys():
        if mine[key].key != theirs[key].key:
            raise InputError(
                f"question {key[1]!r} of {key[0]} is not the same on both sides",
                expected="answers to the same file of questions",
                found="other options, or another right answer",
            )
    pairs = tuple((one, theirs[key]) for key, one in mine.items() if key in theirs)
    if not pairs:
        raise InputError(
            "no question was answered by both",
            expected="answers to the same files of questions",
            found=f"tasks {', '.join(sorted({k[0] for k in mine}))} and {', '.join(sorted({k[0] for k in theirs}))}",
        )
    left = tuple(f"{task} {name}" for task, name in mine if (task, name) not in theirs)
    return Matched(pairs, left, tuple(f"{task} {name}" for task, name in theirs if (task, name) not in mine))


def compare(pairs: Sequence[Pair], rule: str, *, draws: int = 10_000, seed: int = 0) -> list[Comparison]:
    """One row a task, and one over all where there are several. Raises ConfigError for a rule that a side has not."""
    tasks: dict[str, list[Pair]] = {}
    for pair in pairs:
        tasks.setdefault(pair[0].task, []).append(pair)
    if len(tasks) > 1:
        tasks[ALL] = list(pairs)
    return [_compared(task, found, rule, draws, seed) for task, found in tasks.items()]


def _compared(task: str, pairs: Sequence[Pair], rule: str, draws: int, seed: int) -> Comparison:
    before, after = ([pair[side].scores(rule)[pair[side].gold] for pair in pairs] for side in (0, 1))
    gains = [b - a for a, b in zip(before, after, strict=True)]
    choices = [pair for pair in pairs if len(pair[0].options) > 1]
    return Comparison(
        task=task,
        rule=rule,
        changes=_changes(choices, rule, draws, seed) if choices else None,
        scores=compare_scores(before, after),
        score=bootstrap(gains, _clusters(pairs), draws=draws, seed=seed),
    )


def _changes(pairs: Sequence[Pair], rule: str, draws: int, seed: int) -> Changes:
    truth, old, new = zip(*((a.gold, a.chosen(rule), b.chosen(rule)) for a, b in pairs), strict=True)
    won = [int(b == y) - int(a == y) for y, a, b in zip(truth, old, new, strict=True)]

    def interval(values: Sequence[float]) -> Interval:
        return bootstrap(values, _clusters(pairs), draws=draws, seed=seed)

    def named(change: int) -> tuple[str, ...]:
        return tuple(f"{one.task} {one.name}" for (one, _), w in zip(pairs, won, strict=True) if w == change)

    return Changes(
        flips=compare_choices(truth, old, new),
        accuracy=interval(won),
        negative=interval([float(one < 0) for one in won]),
        positive=interval([float(one > 0) for one in won]),
        broken=named(-1),
        mended=named(1),
    )


def _clusters(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """The source document of each question; one that names none stands alone."""
    return [("", one.document) if one.document is not None else (one.task, one.name) for one, _ in pairs]
