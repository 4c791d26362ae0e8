"""The further measures of a text in plain Python: the definition that the compiled kernels must equal.

One document at a time with `re`, `str` and `Counter`, as `reference` does it for the eleven signals; words are its
normalised words (lower case, no ASCII punctuation, NFD). Tests compare the kernels with this file on arbitrary
text, and benchmarks/signals.py measures against it.
"""

import re
import zlib
from collections.abc import Callable, Sequence

from raters.text.reference import normalised_words, top_ngram_share

WINDOW_BYTES = 4096
"""Bytes compressed at once: zlib's two bytes of header and four of checksum weigh .15 % of a full window."""
LEVEL = 6
FACTOR_BELOW = 0.72
"""The type-token ratio below which a factor of MTLD is complete (McCarthy and Jarvis)."""

_SENTENCE_END = re.compile(r"""[.!?]["'”’)\]»]*(?=\s)|\n\s*\n""")
_VOWELS = "aeiouy"


def measures(text: str) -> tuple[float | None, ...]:
    """The measures of one text, in the order of `raters.text_measures.MEASURES`; None where undefined."""
    words = normalised_words(text)
    return (
        compression_ratio(text),
        mtld(words) if words else None,
        reading_ease(text, words),
        top_ngram_share(words, 4, sum(map(len, words))) if words else None,
        *duplicate_lines(text),
    )


def compression_ratio(text: str) -> float | None:
    """Bytes after zlib over bytes before, in windows of WINDOW_BYTES; None for an empty text.

    Windows follow one another; the last one ends with the text, so it is full as well and overlaps the one before.
    A text shorter than a window is compressed whole, so the header weighs more there.
    """
    data = text.encode()
    if not data:
        return None
    last = max(len(data) - WINDOW_BYTES, 0)
    windows = [data[start : start + WINDOW_BYTES] for start in (*range(0, last, WINDOW_BYTES), last)]
    return sum(len(zlib.compress(window, LEVEL)) for window in windows) / sum(map(len, windows))


def mtld(words: Sequence[str]) -> float:
    """Mean of both directions of the measure of textual lexical diversity: words per factor.

    Where all words are distinct there is no factor, not even a part of one, and the value is the number of words.
    """
    return (_words_per_factor(words) + _words_per_factor(words[::-1])) / 2


def _words_per_factor(words: Sequence[str]) -> float:
    factors, seen, n = 0, set[str](), 0
    for word in words:
        seen.add(word)
        n += 1
        if len(seen) / n < FACTOR_BELOW:
            factors += 1
            seen, n = set(), 0
    rest = (1 - len(seen) / n) / (1 - FACTOR_BELOW) if n else 0.0
    return len(words) / (factors + rest) if factors + rest > 0 else float(len(words))


def reading_ease(text: str, words: Sequence[str]) -> float | None:
    """Flesch's reading ease of an English text, over its words with a letter a to z; None without any."""
    spelled = [letters for word in words if (letters := re.sub("[^a-z]", "", word))]
    if not spelled:
        return None
    return flesch(len(spelled), sentences(text), sum(map(syllables, spelled)))


def flesch(n_words: int, n_sentences: int, n_syllables: int) -> float:
    """206.835 - 1.015 words/sentences - 84.6 syllables/words, not below -100; at most 121.22 by the formula."""
    return max(206.835 - 1.015 * (n_words / n_sentences) - 84.6 * (n_syllables / n_words), -100.0)


def sentences(text: str) -> int:
    """Pieces with a letter, cut behind . ! ? (and closing quotes or brackets) before whitespace, and at blank lines.

    So a point inside a number or a name ends nothing, and a heading does not run into its paragraph.
    """
    return sum(any(map(str.isalpha, piece)) for piece in _SENTENCE_END.split(text))


def syllables(letters: str) -> int:
    """Syllables of an English word, given by its letters a to z (at least one).

    Runs of the vowels aeiouy, with these corrections:
    * a second vowel begins a syllable of its own in i + a, o or u (me-di-a) unless a vowel or one of c g s t x
      stands before the i (na-tion), in u + a (u-su-al) unless q or g stands before the u, and in a final -ing or
      -ings (be-ing);
    * a final -e, -es or -ed after a consonant is silent, except: after an l that follows a consonant other than l,
      r and w (ta-ble), -es after c g h s x z (box-es), -ed after d and t (want-ed);
    * no word has less than one.
    """
    count = 0
    for i, letter in enumerate(letters):
        if letter in _VOWELS:
            count += i == 0 or letters[i - 1] not in _VOWELS or _hiatus(letters, i)
    return max(count - _silent_ending(letters), 1)


def _hiatus(letters: str, i: int) -> bool:
    pair, before = letters[i - 1 : i + 1], letters[max(i - 2, 0) : i - 1]
    if pair in ("ia", "io", "iu"):
        return before not in (*"cgstx", *_VOWELS)
    if pair == "ua":
        return before not in ("q", "g")
    return letters[i:] in ("ing", "ings")


def _silent_ending(letters: str) -> bool:
    found = re.search(r"([^aeiouy]?)([^aeiouy])e([sd]?)$", letters)
    if not found:
        return False
    earlier, before, ending = found.groups()
    if before == "l" and earlier and earlier not in "lrw":
        return False
    return before not in {"": "", "s": "cghsxz", "d": "dt"}[ending]


def duplicate_lines(text: str) -> tuple[float | None, float | None]:
    """Share of lines that equal an earlier one, and of characters in them; None for a blank text.

    Lines are what stands between runs of newlines in the text without the whitespace at its ends (Gopher,
    arXiv 2112.11446, table A1). Characters are counted over the whole of that text, newlines included.
    """
    text = text.strip()
    if not text:
        return None, None
    seen, lines, again, characters = set[str](), 0, 0, 0
    for line in re.split(r"\n+", text):
        lines += 1
        if line in seen:
            again += 1
            characters += len(line)
        seen.add(line)
    return again / lines, characters / len(text)


def rarity(words: Sequence[str], surprisal: Callable[[str], float]) -> float | None:
    """-(1/n) sum of ln p(word) in nats, given -ln p as `surprisal`; None without words."""
    total = 0.0
    for word in words:
        total += surprisal(word)
    return total / len(words) if words else None
