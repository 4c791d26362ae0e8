"""Measures that compare a rephrasing with the text it was made from: copying, drift, repetition.

A rephrasing that repeats its source adds nothing; one that shares no words with it is about something else. Words are
lower-cased runs of letters and digits; in scripts without blanks (Chinese, Japanese, Thai ...) each character is one.
A `Profile` makes each view of a text once, whatever number of measures looks at it.

How it is used:  copied_share(Profile(output), Profile(source))
"""

import re
import unicodedata
from functools import cached_property, lru_cache

from corpus.unspaced_scripts import UNSPACED
from rephrase.function_words import FUNCTION_WORDS, function_words

__all__ = ["FUNCTION_WORDS", "Profile", "copied_share", "jaccard", "repeated_share", "shared_content", "stem", "words"]

Gram = tuple[str, ...]
SHINGLE = 5
"""Words of a gram by which texts are called near-duplicates, as in FineWeb (arXiv 2406.17557)."""
LONG_RUN = 24


def words(text: str) -> list[str]:
    """The words of a text in order, lower-cased."""
    return [word.lower() for _, word in _tokens(text)]


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A lower-cased word without accents and most of its ending, so that inflected forms meet: 6 letters or fewer.

    Words outside the Latin script, whose endings are longer, keep 5.
    """
    word = word.removesuffix("'s")
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    return word[:6] if word.isascii() else word[:5]


class Profile:
    """A text as the measures see it.

    Args:
        text: the text.
        lang: its ISO 639-1 code, where it is known: it decides which words are function words, and what a name is.
    """

    def __init__(self, text: str, lang: str | None = None) -> None:
        self.text, self.lang = text, lang
        self._grams: dict[int, list[Gram]] = {}

    @cached_property
    def tokens(self) -> list[tuple[str, str]]:
        """The words as they are written, each after what stands between it and the word before."""
        return _tokens(self.text)

    @cached_property
    def words(self) -> list[str]:
        """The words in order, lower-cased."""
        return [word.lower() for _, word in self.tokens]

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The distinct words."""
        return frozenset(self.words)

    @cached_property
    def stems(self) -> frozenset[str]:
        """The distinct stems of the words."""
        return frozenset(map(stem, self.vocabulary))

    @cached_property
    def content(self) -> frozenset[str]:
        """The distinct words that are no function words of the language (of English where it is not known)."""
        return self.vocabulary - function_words(self.lang)

    def grams(self, n: int) -> list[Gram]:
        """The word n-grams in order; none for a text below n words."""
        if n not in self._grams:
            found = self.words
            self._grams[n] = list(zip(*(found[i:] for i in range(n)), strict=False))
        return self._grams[n]

    @cached_property
    def shingles(self) -> frozenset[Gram]:
        """The distinct 5-grams; of a shorter text the whole of it, if it has a word."""
        return frozenset(self.grams(SHINGLE)) or (frozenset([tuple(self.words)]) if self.words else frozenset())

    def has(self, word: str) -> bool:
        """Whether the text has a lower-cased word, or another form of it."""
        return word in self.vocabulary or stem(word) in self.stems


def copied_share(output: Profile, source: Profile, n: int = 8) -> float | None:
    """Share of the output's word n-grams that occur in the source, in [0, 1]; null for an output below n words."""
    grams, known = output.grams(n), _known_grams(source, n)
    return sum(map(known.__contains__, grams)) / len(grams) if grams else None


def shared_content(output: Profile, source: Profile) -> float | None:
    """Share of the output's distinct content words that the source has in some form; null when it has none."""
    content, known = output.content, source.vocabulary
    if not content:
        return None
    return sum(word in known or stem(word) in source.stems for word in content) / len(content)


def repeated_share(text: Profile, n: int = 4) -> float:
    """Share of a text that repeats itself, in [0, 1]: the larger of two, both 0 for a text that is short and varied.

    The share of the word n-grams that repeat an earlier one; and the share of the characters in runs of one piece of
    1 to 4 characters that goes on for 24 characters or more without a blank, such as `hahaha...` and `......`.
    """
    grams = text.grams(n)
    repeated = 1 - len(set(grams)) / len(grams) if grams else 0.0
    lengths = [len(before) + len(word) for before, word in text.tokens]
    if max([len(text.text) - sum(lengths), *lengths]) < LONG_RUN:
        return repeated  # no room for a run: saves the search, which is the dear part
    runs = sum(len(run[0]) for run in _RUN.finditer(text.text) if len(run[0]) >= LONG_RUN)
    return max(repeated, runs / len(text.text))


def jaccard(first: Profile, second: Profile) -> float:
    """Jaccard similarity of the 5-grams of two texts, in [0, 1]; 0 where neither has a word."""
    a, b = first.shingles, second.shingles
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


@lru_cache(maxsize=64)
def _known_grams(source: Profile, n: int) -> frozenset[Gram]:
    return frozenset(source.grams(n))


def _tokens(text: str) -> list[tuple[str, str]]:
    if text.isascii():
        return _ASCII.findall(text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    text = _INVISIBLE.sub("", text).replace("\u2019", "'")
    return (_ANY if _RARE.search(text) else _SPACED).findall(text)


_RUN = re.compile(r"(\S{1,4}?)\1{5,}")
_MARKS = "".join(chr(c) for c in range(0x300, 0x1100) if unicodedata.category(chr(c)).startswith("M"))
"""Combining marks, which `\\w` leaves out, though they are part of words in many scripts of Asia."""
_LETTER = rf"(?:(?![{UNSPACED}])[^\W_]|[{_MARKS}])"
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_RARE = re.compile(rf"[{_MARKS}{UNSPACED}]")
_ASCII = re.compile(r"([^A-Za-z0-9]*)([A-Za-z0-9]+(?:'[A-Za-z0-9]+)*)")
_SPACED = re.compile(r"([\W_]*)([^\W_]+(?:'[^\W_]+)*)")
_ANY = re.compile(rf"((?:[^\w{_MARKS}]|_)*)((?![{_MARKS}])[{UNSPACED}][{_MARKS}]*|{_LETTER}+(?:'{_LETTER}+)*)")
