"""Take off what a chat model wraps around an answer: an agreed lead-in, pleasantries, fences, quotes, Markdown.

Cleaning comes before every gate and is small on purpose: it takes off wrapping and never edits what is inside. What
cannot be taken off safely is counted, and a gate decides. Pleasantries are known in the languages of `chatter.py`.

How it is used:  cleaned = clean(generation.text, style)
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rephrase.chatter import CLOSING, OPENING
from rephrase.fence import FENCE_MARK

if TYPE_CHECKING:
    from rephrase.style import Style

PROSE_PARSERS = ("text", "sections")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An answer without its wrapping.

    Args:
        text: what is left.
        chatter: pleasantries that still open or end it, >= 0.
        lead_in_missing: whether the style demands a lead-in and the answer did not begin with it.
    """

    text: str
    chatter: int
    lead_in_missing: bool


def clean(text: str, style: "Style") -> Cleaned:
    """Take an answer out of its wrapping, as far as the style allows: Markdown goes for prose styles only.

    Order: fences around everything, the agreed lead-in (or one chatty opening where none is agreed), one chatty
    closing, quotes around everything, Markdown. Linear in the length of the text.
    """
    text = unwrapped(text)
    missing = False
    if style.lead_in:
        text, missing = _without_lead_in(text, style.lead_in)
    else:
        text = without_opening(text)
    text = unquoted(unwrapped(without_closing(text)))
    chatter = int(OPENING.match(text) is not None) + int(without_closing(text) != text)
    if style.parser in PROSE_PARSERS:
        text = without_markdown(text)
    return Cleaned(text, chatter, missing)


def unwrapped(text: str) -> str:
    """A text without a code fence around it, and without the passage's own markers before and after it."""
    text = text.strip()
    if (block := _CODE_BLOCK.match(text)) and "```" not in block[1]:
        text = block[1].strip()
    marks = list(FENCE_MARK.finditer(text))
    if marks and marks[-1].end() == len(text) and "/" in marks[-1][0]:
        text = text[: marks[-1].start()].rstrip()
    if marks and marks[0].start() == 0 and "/" not in marks[0][0]:
        text = text[marks[0].end() :].lstrip()
    return text


def without_opening(text: str) -> str:
    """A text without one chatty opening, such as `Sure! Here is the rewritten text:`."""
    opening = OPENING.match(text)
    return text[opening.end() :].lstrip() if opening else text


def without_closing(text: str) -> str:
    """A text without one chatty last line, such as `Let me know if you need anything else.`"""
    text = text.rstrip()
    last = text.rfind("\n")
    return text[:last].rstrip() if last >= 0 and CLOSING.match(text, last) else text


def unquoted(text: str) -> str:
    """A text without quotation marks around all of it."""
    closing = _QUOTES.get(text[:1])
    if closing and len(text) > 2 and text.endswith(closing) and not set(text[1:-1]) & {text[0], closing}:
        return text[1:-1].strip()
    return text


def without_markdown(text: str) -> str:
    """The words of a Markdown text: no heading marks, emphasis, rules, quote bars or code ticks; links by their text.

    Lists, tables and code blocks keep their form.
    """
    for pattern, kept in _MARKDOWN:
        text = pattern.sub(kept, text)
    return text.strip()


def _without_lead_in(text: str, agreed: str) -> tuple[str, bool]:
    """The text after the agreed phrase, and whether it was missing; emphasis around the phrase does not matter."""
    phrase = r"\s+".join(re.escape(word) for word in agreed.rstrip(":").split())
    found = re.match(rf"[\s*_#\"]*{phrase}[*_\"]*\s*:?[*_\"]*\s*", text, re.IGNORECASE)
    return (text[found.end() :], False) if found else (text, True)


_CODE_BLOCK = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "\u300c": "\u300d"}
_MARKDOWN = [
    (re.compile(r"^[ \t]*+(?:#{1,6}[ \t]++|>[ \t]?)(?=\S)", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*+(?:-{3,}+|\*{3,}+|_{3,}+|={3,}+)[ \t]*+$\n?", re.MULTILINE), ""),
    (re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]{1,500}\)"), r"\1"),
    (re.compile(r"(\*\*|__)(?=[^\s*_])([^\n]{1,600}?)(?<=[^\s])\1"), r"\2"),
    (re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]{1,300}?)(?<=[^\s*])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w_\\$])_(?=[^\s_])([^_\n]{1,300}?)(?<=[^\s_])_(?![\w_])"), r"\1"),
    (re.compile(r"(?<!`)`([^`\n]{1,300})`(?!`)"), r"\1"),
]
