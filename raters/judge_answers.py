"""From a judge's answer to a score: strict, so that no failure to parse ever becomes a score.

A free answer counts only where the dimension's name and a colon stand before a whole number of the rubric's range and
the line ends there; the last place with the name and a colon decides. What else may stand there is decoration: bold
marks, `score`, `(0-5)`, `/5`. Words, fractions, ranges and other scales are no score, and neither is a number that text
follows: a weak model repeats the rubric ("Professionalism: 1: it has ...") or begins a list. A closed answer is a
distribution over the levels; its expectation is the score, if the levels hold enough of the model's probability at all.

How it is used: `parse(answer.text, rubric)`; `expected_level(answer.choices, rubric, least_mass=0.5)`
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from raters.judge_prompt import Rubric
from rephrase.gates.refusals import refusals
from rephrase.generator import Generation

Failure = Literal["refused", "truncated", "out_of_range", "unparsed"]
_MARKS = r"[*_`\t ]*"
_VALUE = re.compile(
    r"[*_`\"'<(\[\t ]*(?P<number>[-+]?\d{1,9})(?:\s*(?:/|out of)\s*(?P<scale>\d{1,9}))?(?:\s*points?)?[*_`\"'>)\].\s]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A score, or the reason why there is none: exactly one of both."""

    score: int | None
    failure: Failure | None


def parse(answer: Generation, rubric: Rubric) -> Parsed:
    """Read the score of a free answer.

    An answer without one is `refused` when it apologises or speaks of itself, `truncated` when it was cut, else
    `unparsed`; `out_of_range` is a whole number outside the rubric's.
    """
    heads = list(_head(rubric.name).finditer(answer.text))
    line, newline, _ = answer.text[heads[-1].end() :].partition("\n") if heads else ("", "", "")
    if not newline and answer.finish_reason == "length":
        return Parsed(None, "refused" if refusals(answer.text, "") else "truncated")  # a score might have been cut, too
    value = _VALUE.fullmatch(line)
    if value is None or (value["scale"] and int(value["scale"]) != rubric.high):
        return Parsed(None, "refused" if refusals(answer.text, "") else "unparsed")
    score = int(value["number"])
    return Parsed(score, None) if rubric.low <= score <= rubric.high else Parsed(None, "out_of_range")


@cache
def _head(name: str) -> re.Pattern[str]:
    words = r"[\s_]+".join(map(re.escape, name.split("_")))
    return re.compile(
        rf"(?<![^\W_]){words}{_MARKS}(?:score|rating)?{_MARKS}(?:\([^()\n]{{0,20}}\))?{_MARKS}[:：]", re.IGNORECASE
    )


def mass_of(choices: Mapping[str, float]) -> float:
    """The probability that all levels hold together, in [0, 1]."""
    return min(1.0, math.fsum(math.exp(value) for value in choices.values()))


def expected_level(choices: Mapping[str, float], rubric: Rubric, *, least_mass: float) -> float | None:
    """The expected score, in [low, high], of a distribution over the levels; null below `least_mass`.

    Args:
        choices: natural log-probability of each level's numeral.
        least_mass: the probability that the levels must hold together before they are scaled to sum to 1.
    """
    if mass_of(choices) < least_mass:
        return None
    best = max(choices.values())
    if best == -math.inf:
        return None
    weights = {level: math.exp(choices[str(level)] - best) for level in rubric.levels}
    value = math.fsum(level * weight for level, weight in weights.items()) / math.fsum(weights.values())
    return min(max(value, float(rubric.low)), float(rubric.high))
