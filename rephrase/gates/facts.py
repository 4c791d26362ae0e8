"""Facts of a text that can be checked against another one: its numbers, months, and names.

A name is a capitalised word inside a sentence, or a short word in capitals; at the begin of a sentence a capital says
nothing, so such words are never asked for, though they back the same name elsewhere. Headings in capitals are no
names. German writes every noun with a capital, so there only two capitalised words in a row are. Scripts without
capitals have numbers only. The rules are the project's own.

How it is used:  fact_precision(Profile(output), Profile(source))
"""

from dataclasses import dataclass
from functools import lru_cache

from rephrase.fidelity import Profile
from rephrase.function_words import FUNCTION_WORDS, function_words
from rephrase.gates.numbers import (
    MONTHS,
    Readings,
    month_reading,
    number_readings,
    number_words,
    spelled_numbers,
    written_numbers,
)

INSIDE = frozenset([" ", ", ", "; ", "-", " (", ") ", "/", " & ", "'", "\u2013", " \u2013 ", ", (", "\u00a0"])
"""What stands between two words of one sentence."""
_CAPITALISED_NOUNS = ("de", "lb")
_LONGEST_ACRONYM = 6


@dataclass(frozen=True)
class Facts:
    """The numbers of a text, each by its readings, and its names in lower case."""

    numbers: frozenset[Readings]
    names: frozenset[str]

    def __len__(self) -> int:
        return len(self.numbers) + len(self.names)


def fact_precision(output: Profile, source: Profile) -> float | None:
    """Share of the output's facts that the source holds anywhere, in [0, 1]; null when the output has none."""
    return _backed(facts(output), source)


def fact_recall(output: Profile, source: Profile) -> float | None:
    """Share of the source's facts that the output holds anywhere, in [0, 1]; null when the source has none."""
    return _backed(facts(source), output)


def new_fact_words(output: Profile, source: Profile) -> set[str]:
    """The lower-cased words of the output's facts that the source does not back, for showing where they stand."""
    known = _readings(source)
    numbers = [word for written, readings in number_words(output) if readings.isdisjoint(known) for word in written]
    return {*numbers, *(name for name in facts(output).names if not _backs(source, name))}


@lru_cache(maxsize=128)
def facts(text: Profile) -> Facts:
    """The facts of a text."""
    names = _names(text)
    months = {name for name in names if name in MONTHS}
    numbers = [*written_numbers(text), *spelled_numbers(text), *(frozenset([month_reading(m)]) for m in months)]
    return Facts(frozenset(numbers), frozenset(names - months))


def _backed(wanted: Facts, other: Profile) -> float | None:
    if not len(wanted):
        return None
    known = _readings(other)
    numbers = sum(not readings.isdisjoint(known) for readings in wanted.numbers)
    names = sum(_backs(other, name) for name in wanted.names)
    return (numbers + names) / len(wanted)


def _backs(other: Profile, name: str) -> bool:
    return other.has(name) or name in _initials(other)


@lru_cache(maxsize=128)
def _readings(text: Profile) -> set[str]:
    return number_readings(text)


@lru_cache(maxsize=128)
def _initials(text: Profile) -> frozenset[str]:
    """First letters of runs of capitalised words, in lower case: `un` where a text says United Nations."""
    found, run = set(), ""
    for before, word in [*text.tokens, ("", "")]:
        if word[:1].isupper() and (not run or before in INSIDE):
            run += word[0].lower()
        elif not (run and word.lower() in ("of", "the", "and", "for")):
            found |= {run[i:] for i in range(max(len(run) - 1, 0))}
            run = word[0].lower() if word[:1].isupper() else ""
    return frozenset(found)


def _names(text: Profile) -> set[str]:
    lang = text.lang or ("de" if {"und", "der", "nicht"} <= text.vocabulary else None)
    common, runs_only = _common(lang), lang in _CAPITALISED_NOUNS
    found: set[str] = set()
    line: list[str] = []  # names of the line so far, which count only if it turns out to be no heading
    n_words = n_shouted = 0
    plain = capital_before = False
    for before, word in [*text.tokens, ("\n", "")]:
        if "\n" in before:
            if (plain or n_words == 1) and n_shouted * 2 <= n_words:
                found.update(line)
            line, n_words, n_shouted, plain, capital_before = [], 0, 0, False, False
        n_words += 1
        if not word[:1].isupper():
            plain = plain or (word[:1].islower() and word not in common)
            capital_before = False
            continue
        inside = before in INSIDE
        shouted = len(word) > 1 and word.isupper()
        n_shouted += shouted
        acronym = shouted and len(word) <= _LONGEST_ACRONYM
        if (acronym or (inside and (capital_before or not runs_only))) and len(word) > 1:
            line.append(word.lower().removesuffix("'s"))
        capital_before = inside
    return found - common - _PRONOUNS


@lru_cache(maxsize=32)
def _common(lang: str | None) -> frozenset[str]:
    return function_words(lang) | FUNCTION_WORDS


_PRONOUNS = frozenset(["i'm", "i've", "i'd", "i'll", "ok", "question", "answer"])
