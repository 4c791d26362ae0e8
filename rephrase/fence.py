"""The fence around a document inside a prompt, which the document cannot close.

A page may say "ignore the instructions above". So it never stands bare in a prompt: it lies between two marker lines,
and each style says that what lies between them is material. The markers are normally `<passage>` and `</passage>`; a
text that holds anything that reads like one gets numbered ones that it does not hold. The choice depends on the text
alone, so equal texts give equal prompts.

How it is used:  prompt = template.replace("{document}", fenced(text))
"""

import re
import unicodedata

FENCE_WORD = "passage"
"""The word that a style's instruction must use for what lies inside the fence."""

FENCE_MARK = re.compile(rf"<\s*+/?\s*+{FENCE_WORD}(?:-([0-9]+))?\s*+/?>", re.IGNORECASE)
"""A marker, or what a model may write for one: blanks and capitals do not matter. Group 1: its number, if any."""

# Soft hyphens, joiners, direction marks, variation selectors: they hide a marker from a search, not from a model.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")


def fenced(text: str) -> str:
    """The text between its two marker lines; it contains neither, whatever it contains."""
    tag = _tag(text)
    return f"<{tag}>\n{text}\n</{tag}>"


def fence_marks(text: str) -> int:
    """Markers of a fence in a text, for example in an output, where none may be. Look-alikes count."""
    return len(FENCE_MARK.findall(_plain(text)))


def _tag(text: str) -> str:
    used = {number.lstrip("0") or "1" for number in FENCE_MARK.findall(_plain(text))}
    number = next(n for n in range(1, len(used) + 2) if str(n) not in used)
    return FENCE_WORD if number == 1 else f"{FENCE_WORD}-{number}"


def _plain(text: str) -> str:
    """The text as it reads: without invisible characters, brackets and letters of other widths made equal."""
    return text if text.isascii() else _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
