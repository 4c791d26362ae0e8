"""Numbered steps, `1.` or `Step 1:`, written again as `1. ...` with the text before them.

Steps are numbered 1, 2, 3 ... at the begin of a line; a list inside a step that counts anew stays part of its step.

How it is used:  title, steps = read_steps(text)
"""

import re
from collections.abc import Sequence

from rephrase.cleaning import without_markdown

_STEP = r"(?:step|schritt|\u00e9tape|paso|passo|stap|krok|шаг)[ \t]*(\d{1,3})[*_]*[ \t]*[:.)\u2013-]?"
_NUMBER = re.compile(
    rf"^[ ]{{0,3}}(?:#{{1,6}}[ \t]*)?[*_]*(?:{_STEP}|(\d{{1,3}})[.)][*_]*(?=\s))[*_]*[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)


def read_steps(text: str) -> tuple[str, list[str]]:
    """The text before the first step, and the steps in order; blank ones and those out of turn are no steps."""
    starts: list[re.Match[str]] = []
    for match in _NUMBER.finditer(text):
        if int(match[1] or match[2]) == len(starts) + 1:
            starts.append(match)
    if not starts:
        return text.strip(), []
    ends = [match.start() for match in starts[1:]] + [len(text)]
    steps = [_body(text[match.end() : end]) for match, end in zip(starts, ends, strict=True)]
    return without_markdown(text[: starts[0].start()]), [step for step in steps if step]


def write_steps(title: str, steps: Sequence[str]) -> str:
    """The text before, a blank line, and the steps numbered from 1, one after the other."""
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
    return f"{title}\n\n{numbered}" if title else numbered


def _body(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", without_markdown(text).strip("*_ \n"))
