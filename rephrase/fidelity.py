"""Measures that compare a rephrasing with the text it was made from: copying, drift, and kept facts.

A rephrasing that repeats its source adds nothing; one that shares no words with it is about something else;
one with new numbers and names has invented them. Words are lower-cased runs of letters and digits.
"""

import re
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_NUMBER = re.compile(r"(?<![^\W_])\d+(?:[.,:]\d+)*(?![^\W_])")
_NAME = re.compile(r"(?<=[^\W_])[,;]?[ \t]+([A-Z][^\W\d_]+)")

# The commonest English words carry no topic; shared ones say nothing about drift.
FUNCTION_WORDS = frozenset(
    _WORD.findall("""
    a about after all also an and any are as at be because been but by can could did do does for from had has have
    he her his how i if in into is it its may more most no not of on one only or other our out over she should so some
    such than that the their them then there these they this those to too two up was we were what when where which
    while who will with would you your""")
)


def words(text: str) -> list[str]:
    """The words of a text in order, lower-cased."""
    return [match[0].lower() for match in _WORD.finditer(text)]


def copied_share(output: str, source: str, n: int = 8) -> float:
    """Share of the output's word n-grams that occur in the source, in [0, 1]; 0 for an output below n words."""
    grams = list(_grams(words(output), n))
    known = set(_grams(words(source), n))
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def shared_content(output: str, source: str) -> float | None:
    """Share of the output's distinct content words that occur in the source; null when it has none."""
    content = set(words(output)) - FUNCTION_WORDS
    return len(content & set(words(source))) / len(content) if content else None


def repeated_grams(text: str, n: int = 4) -> float:
    """Share of the word n-grams that repeat an earlier one, in [0, 1); 0 for a text below n words."""
    grams = list(_grams(words(text), n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def facts(text: str) -> set[str]:
    """Numbers (with their inner points, commas and colons) and names: words with a capital inside a sentence."""
    return {match[0] for match in _NUMBER.finditer(text)} | {match[1].lower() for match in _NAME.finditer(text)}


def fact_precision(output: str, source: str) -> float | None:
    """Share of the output's facts whose words occur anywhere in the source; null when the output has none."""
    found = facts(output)
    known = facts(source) | set(words(source))
    return len(found & known) / len(found) if found else None


def fact_recall(output: str, source: str) -> float | None:
    """Share of the source's facts whose words occur anywhere in the output; null when the source has none."""
    wanted = facts(source)
    return len(wanted & (facts(output) | set(words(output)))) / len(wanted) if wanted else None


def _grams(sequence: list[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(sequence[i:] for i in range(n)), strict=False)
