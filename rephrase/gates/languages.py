"""Whether an output is in the language it should be in.

How it is used:  value = language_probability(text, "de", instruments.language)
"""

import re
from collections.abc import Callable

MIN_LETTERS = 40
"""Below this an identifier of languages guesses."""

_LETTERS = re.compile(r"[^\W\d_]")
_LABELS = re.compile(r"^\W*(?:question|answer)\W*:", re.IGNORECASE | re.MULTILINE)
_ONE = {"bs": "hr", "sr": "hr", "sh": "hr", "nb": "no", "nn": "no", "da": "no", "ms": "id", "cmn": "zh", "yue": "zh"}
"""Languages that identifiers of short texts take for each other, by one that stands for them."""
_TWO_LETTERS = {"eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt",
                "nld": "nl", "dut": "nl", "pol": "pl", "rus": "ru", "zho": "zh", "chi": "zh", "jpn": "ja"}  # fmt: skip


def plain_code(lang: str | None) -> str | None:
    """A language's two letters: `en` for `en-GB`, `EN`, `eng_Latn`; another code as its first part, null for none."""
    if not lang:
        return None
    first = re.split(r"[-_]", lang.strip().lower(), maxsplit=1)[0]
    return _TWO_LETTERS.get(first, first) or None


def language_probability(
    text: str, expected: str | None, identify: Callable[[str], tuple[str, float]] | None
) -> float | None:
    """The probability that a text is in the expected language, in [0, 1]; 0 when another language is likelier.

    Null without an instrument, for an unknown expectation, and for a text of fewer than 40 letters. Labels of the
    form (`Question:`) are not part of what is judged. Languages that identifiers mix up (Bosnian, Croatian, Serbian;
    Danish, Norwegian; Malay, Indonesian) count as one.
    """
    if identify is None or expected is None:
        return None
    plain = _LABELS.sub("", text)
    if len(_LETTERS.findall(plain)) < MIN_LETTERS:
        return None
    found, probability = identify(plain)
    code = plain_code(found) or ""
    return probability if _ONE.get(code, code) == _ONE.get(expected, expected) else 0.0
