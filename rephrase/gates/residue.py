"""Marks of Markdown and HTML that cleaning could not take off, and that the form of the output does not need.

How it is used:  n = residue(text, source_text, style.parser)
"""

import re

_MARKS = {
    "fence": re.compile(r"```|~~~"),
    "heading": re.compile(r"^#{1,6} ", re.MULTILINE),
    "bold": re.compile(r"\*\*\w|\b__\w"),
    "html": re.compile(
        r"</?(?:p|br|div|span|b|i|em|strong|ul|ol|li|a|h[1-6]|table|tr|td|th|body|html)(?:\s[^<>\n]{0,200})?/?>",
        re.IGNORECASE,
    ),
}
_NEEDED = {"steps": ("fence", "heading", "bold"), "sections": ("heading", "bold"), "table": ("heading", "bold"),
           "bullets": ("heading", "bold"), "pairs": ("bold",)}  # fmt: skip
_MARK_CHARACTERS = re.compile(r"[`~#*<]|__")
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c\u201d", "\u00ab": "\u00bb"}


def residue(text: str, source: str, parser: str) -> int:
    """Marks left in a text, of kinds that its source lacks and its form does without, and an outer quote left open."""
    closing = _QUOTES.get(text[:1])
    left_open = int(closing is not None and not any(mark in text[1:] for mark in closing))
    if not _MARK_CHARACTERS.search(text):
        return left_open
    kinds = [mark for kind, mark in _MARKS.items() if kind not in _NEEDED.get(parser, ())]
    return left_open + sum(len(found) for mark in kinds if (found := mark.findall(text)) and not mark.search(source))
