"""A list of points: bullets or numbers, one a line, written again as `- ...` lines.

Lines that continue a point are joined to it; points below points become points. A line before the first point is a
title and is left out.

How it is used:  write_bullets(read_bullets(text))
"""

import re
from collections.abc import Sequence

from rephrase.cleaning import without_markdown

_POINT = re.compile(r"[ \t]*(?:[-*+\u2022\u00b7\u25aa\u2013][ \t]+|\(?\d{1,3}[.)][ \t]+)(?=\S)")


def read_bullets(text: str) -> list[str]:
    """The points of a list in order; a paragraph after a blank line that is no point ends the list."""
    points: list[list[str]] = []
    blank = False
    for line in text.splitlines():
        mark = _POINT.match(line)
        if mark:
            points.append([line[mark.end() :]])
        elif points and line.strip():
            if blank and not line.startswith((" ", "\t")):
                break
            points[-1].append(line)
        blank = not line.strip()
    joined = (" ".join(without_markdown("\n".join(point)).split()) for point in points)
    return [point for point in joined if point]


def write_bullets(points: Sequence[str]) -> str:
    """Points as lines that begin with `- `."""
    return "\n".join(f"- {point}" for point in points)
