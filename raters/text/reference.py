"""The natural-language signals in plain Python: the definition that the compiled kernels must equal.

Written from RedPajama's definitions (togethercomputer/RedPajama-Data) with `re`, `str` and `Counter`, one document
at a time, no cleverness. Tests compare the kernels with it on arbitrary text, and benchmarks/signals.py measures
against it, because it is what a user would otherwise run.

Values of a document are rounded to 8 digits; line signals are rounded per line and then averaged, unweighted.
"""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

DIGITS = 8
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WHITESPACE = re.compile(r"\s+")
_RAW_TOKEN = re.compile(r"\w+|[^\w\s]+")
_LINE = re.compile(r"([^\n]*\n|[^\n]+$)")
_SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")
_LETTER = re.compile(r"[a-zA-Z]")
_TERMINAL = (".", "!", "?", "”")


def normalise(text: str) -> str:
    """Delete ASCII punctuation, lower, strip, collapse whitespace to one blank, then NFD."""
    text = text.translate(_NO_PUNCTUATION).lower().strip()
    return unicodedata.normalize("NFD", _WHITESPACE.sub(" ", text))


def normalised_words(text: str) -> list[str]:
    """The words of the signals."""
    return normalise(text).split()


def signals(text: str) -> tuple[float | None, ...]:
    """The eleven signals of one text, in the order of `raters.signals.SIGNALS`; None where undefined."""
    words = normalised_words(text)
    counts = Counter(words)
    raw = _RAW_TOKEN.findall(text)
    lines = [match.group() for match in _LINE.finditer(text)]
    n_chars = sum(map(len, words))
    return (
        round(_entropy(counts, len(words)), DIGITS) if words else None,
        round(1.0 - sum(_LETTER.search(token) is not None for token in raw) / len(raw), DIGITS) if raw else None,
        _mean(sum(map(str.isupper, line)) / len(line) for line in lines),
        round(n_chars / len(words), DIGITS) if words else None,
        round(top_ngram_share(words, 2, n_chars), DIGITS),
        float(len(words)),
        round(top_ngram_share(words, 3, n_chars), DIGITS),
        float(sum(1 for _ in _SENTENCE.finditer(text))),
        _mean(_numeric_share(normalise(line)) for line in lines),
        round(len(counts) / len(words), DIGITS) if words else None,
        _mean(float(line.rstrip().endswith(_TERMINAL)) for line in lines),
    )


def _entropy(counts: Counter[str], total: int) -> float:
    entropy = 0.0
    for count in counts.values():
        entropy += -count / total * math.log(count / total)
    return entropy


def top_ngram_share(words: list[str], n: int, n_chars: int) -> float:
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    ngram, count = counts.most_common(1)[0] if counts else ((), 0)
    return sum(map(len, ngram)) * count / n_chars if count > 1 else 0.0


def _numeric_share(line: str) -> float:
    return sum(map(str.isnumeric, line)) / len(line) if line else 0.0


def _mean(values: Iterable[float]) -> float | None:
    """Mean of the values, each rounded first; a plain running sum, so that every implementation can add alike."""
    total, n = 0.0, 0
    for value in values:
        total += round(value, DIGITS)
        n += 1
    return total / n if n else None
