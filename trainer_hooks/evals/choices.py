"""Multiple choice by log-likelihood: which continuation a model finds likeliest, under four rules.

`raw` takes the sum of log-probabilities, `per_token` and `per_byte` divide it by the continuation's length, `pmi`
subtracts log p(continuation | a neutral context) (only where such a context is given). A question counts as right
if its right continuation is likelier than every other: a tie is no answer. Beside accuracy stands the likelihood of
the right answer in bits a byte, which moves long before a small model leaves chance.

    results = answer(likelihoods, items)
    summary = summarise(results.answers, CHANCE_OF_ITEMS)    # a row a task
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from statistics import fmean, stdev

from pydantic import Field

from corpus.config import Config, load_yaml, nearest, validated
from corpus.errors import ConfigError
from trainer_hooks.evals.items import Item
from trainer_hooks.evals.likelihood import Likelihood, Likelihoods

RULES = ("raw", "per_token", "per_byte", "pmi")
LN2 = log(2)


@dataclass(frozen=True)
class Answer:
    """What a model makes of one question.

    Args:
        task, name, key, document: the question's identity, content and origin.
        gold: the number of the right option.
        options: the likelihood of each option.
        neutral: log p of each continuation after the neutral context; None where none was given.
    """

    task: str
    name: str
    key: str
    gold: int
    options: tuple[Likelihood, ...]
    neutral: tuple[float, ...] | None = None
    document: str | None = None

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that this answer can be judged by."""
        return RULES if self.neutral else RULES[:-1]

    def scores(self, rule: str) -> tuple[float, ...]:
        """The score of each option; higher is likelier."""
        if rule == "per_token":
            return tuple(one.log_p / one.tokens for one in self.options)
        if rule == "per_byte":
            return tuple(one.log_p / one.n_bytes for one in self.options)
        if rule == "pmi" and self.neutral:
            return tuple(one.log_p - other for one, other in zip(self.options, self.neutral, strict=True))
        if rule == "raw":
            return tuple(one.log_p for one in self.options)
        raise ConfigError(f"these answers have no rule {rule!r}{nearest(rule, self.rules)}")

    def chosen(self, rule: str) -> int:
        """The likeliest option; among equals not the right one."""
        scores = self.scores(rule)
        return max(range(len(scores)), key=lambda i: (scores[i], i != self.gold, -i))

    def right(self, rule: str) -> bool:
        """Whether the right option is likelier than every other."""
        return self.chosen(rule) == self.gold

    @property
    def bits_per_byte(self) -> float:
        """Of the right continuation; lower is better."""
        one = self.options[self.gold]
        return -one.log_p / (one.n_bytes * LN2)


@dataclass(frozen=True)
class Answers:
    """Answers in the order of the questions, and the questions that do not fit the model's context."""

    answers: tuple[Answer, ...]
    too_long: tuple[str, ...]


def answer(likelihoods: Likelihoods, items: Sequence[Item], neutral: str | None = None) -> Answers:
    """Ask a model every question.

    Args:
        neutral: a context that says nothing, such as "Answer:", to judge by `pmi` too.
    """
    texts = [option for item in items for option in item.options]
    found = iter(likelihoods.of(texts))
    plain = iter(likelihoods.of([(neutral, continuation) for _, continuation in texts])) if neutral else None
    answers, too_long = [], []
    for item in items:
        options = [next(found) for _ in item.options]
        bare = [next(plain) for _ in item.options] if plain else None
        if None in options or (bare and None in bare):
            too_long.append(f"{item.task} {item.name}")
            continue
        known = tuple(one for one in options if one)
        neutral_log_ps = tuple(one.log_p for one in bare if one) if bare else None
        answers.append(Answer(item.task, item.name, item.key(), item.gold, known, neutral_log_ps, item.document))
    return Answers(tuple(answers), tuple(too_long))


class ChanceTable(Config):
    """Accuracies of a guess by task, with the version that is stored beside every centred score."""

    version: str
    chance: dict[str, float] = Field(description="by task, each from 0 to below 1")

    def of(self, task: str, answers: Sequence[Answer]) -> float:
        """The chance of a task. Raises ConfigError for a task that the table does not have."""
        if task not in self.chance:
            raise ConfigError(f"the chance table {self.version} has no task {task!r}{nearest(task, self.chance)}")
        return self.chance[task]


class ChanceOfItems(ChanceTable):
    """One over the number of options, averaged over a task's questions."""

    def of(self, task: str, answers: Sequence[Answer]) -> float:
        """The mean of 1 / options."""
        return fmean(1 / len(one.options) for one in answers)


CHANCE_OF_ITEMS = ChanceOfItems(version="items-1", chance={})


def chance_table(name: str) -> ChanceTable:
    """The table `items`, or that of a YAML file with `version` and `chance`. Raises ConfigError for any other."""
    if name == "items":
        return CHANCE_OF_ITEMS
    if not Path(name).is_file():
        raise ConfigError(
            f"there is no chance table {name!r}",
            expected="items, or a YAML file such as {version: mine-1, chance: {arc_easy: 0.25}}",
        )
    return validated(ChanceTable, load_yaml(Path(name)), name)


def centred(accuracy: float, chance: float) -> float:
    """(accuracy - chance) / (1 - chance): 0 for a guess, 1 for all right, negative below chance (DCLM, 2406.11794).

    Raises ConfigError for a chance outside [0, 1).
    """
    if not 0 <= chance < 1:
        raise ConfigError("a chance is at least 0 and below 1", found=str(chance))
    return (accuracy - chance) / (1 - chance)


@dataclass(frozen=True)
class TaskScore:
    """A task's scores.

    Args:
        questions: all that were answered; choices: those with at least two options, which accuracies are over.
        accuracy, centred_accuracy, standard_error: by rule, higher is better; empty where there are no choices.
        bits_per_byte: of the right answers, the mean over questions, lower is better; with its standard error,
            None for one question.
    """

    task: str
    questions: int
    choices: int
    accuracy: Mapping[str, float]
    standard_error: Mapping[str, float]
    centred_accuracy: Mapping[str, float]
    chance: float | None
    chance_version: str
    bits_per_byte: float
    bits_per_byte_error: float | None


def summarise(answers: Sequence[Answer], chance: ChanceTable) -> list[TaskScore]:
    """Scores by task, in the order in which tasks first appear. Raises as `ChanceTable.of`."""
    tasks: dict[str, list[Answer]] = {}
    for one in answers:
        tasks.setdefault(one.task, []).append(one)
    return [_score(task, found, chance) for task, found in tasks.items()]


def _score(task: str, answers: list[Answer], table: ChanceTable) -> TaskScore:
    choices = [one for one in answers if len(one.options) > 1]
    rules = choices[0].rules if choices else ()
    accuracy = {rule: fmean(one.right(rule) for one in choices) for rule in rules}
    chance = table.of(task, choices) if choices else None
    bits = [one.bits_per_byte for one in answers]
    return TaskScore(
        task=task,
        questions=len(answers),
        choices=len(choices),
        accuracy=accuracy,
        standard_error={rule: standard_error(value, len(choices)) for rule, value in accuracy.items()},
        centred_accuracy={rule: centred(value, chance) for rule, value in accuracy.items() if chance is not None},
        chance=chance,
        chance_version=table.version,
        bits_per_byte=fmean(bits),
        bits_per_byte_error=stdev(bits) / sqrt(len(bits)) if len(bits) > 1 else None,
    )


def standard_error(accuracy: float, n: int) -> float:
    """Of an accuracy over n independent questions: sqrt(p (1 - p) / n)."""
    return sqrt(accuracy * (1 - accuracy) / n)
