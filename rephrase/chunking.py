"""Cut a text into pieces that fit a model's prompt, at sentence ends.

A text is a row of units: sentences, each with the blanks that follow it. Units fill a chunk until the token
budget is reached. Only a sentence longer than the whole budget is cut inside (`hard_split`). Nothing is lost
in silence: chunks and recorded drops, put together in order, are the text (arXiv 2401.16380 uses about 300
tokens, because longer inputs lose information).
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corpus.errors import ConfigError

MIN_BUDGET_TOKENS = 8

# A sentence ends after a mark, optional closing quotes, and blanks; or after a CJK mark; or at a line's end.
_END = re.compile(
    r"""[.!?\u2026\u061F\u06D4]+["'\u2019\u201D\u00BB)\]]*[ \t\u00A0]+|[\u3002\uFF01\uFF1F][\u300D\u300F]*|\s*\n\s*"""
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|etc|vs|approx|no|fig|dr|mr|mrs|ms|prof|st|jr|sr)|\b[A-Za-z])\.\s*$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: text[start:end] in characters, and whether one of its edges cuts a sentence."""

    start: int
    end: int
    hard_split: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """A piece that no chunk holds: text[start:end] in characters, and the reason."""

    start: int
    end: int
    reason: str


def sentences(text: str) -> list[int]:
    """Offsets where units end, ascending; the last one is len(text). An empty text has none."""
    ends = []
    for match in _END.finditer(text):
        period = match[0].startswith(".") and "\n" not in match[0]
        abbreviation = period and _ABBREVIATION.search(text, max(0, match.start() - 12), match.end())
        if match.end() < len(text) and not abbreviation:
            ends.append(match.end())
    return [*ends, len(text)] if text else []


def split(
    text: str, *, budget_tokens: int, min_tokens: int, count: Callable[[str], int]
) -> tuple[list[Chunk], list[Drop]]:
    """Cut a text into chunks of at most `budget_tokens`, counted on the stripped piece by `count`.

    A last piece below `min_tokens` joins its neighbour if that still fits the budget; otherwise it is a
    drop with reason `short_segment`. Pieces without a visible character are drops with reason `blank`.
    Raises ConfigError for a budget below 8 tokens, which no sentence fits.
    """
    if budget_tokens < MIN_BUDGET_TOKENS:
        raise ConfigError(
            "the prompt leaves no room for a text",
            expected=f"a budget of at least {MIN_BUDGET_TOKENS} tokens",
            found=f"{budget_tokens} tokens after the style's own words",
            fix="raise limits.max_in of the style, or shorten its template",
        )
    pieces = list(_fill(text, budget_tokens, count))
    if len(pieces) > 1 and count(_stripped(text, pieces[-1])) < min_tokens:
        joined = Chunk(pieces[-2].start, pieces[-1].end, pieces[-2].hard_split or pieces[-1].hard_split)
        if count(_stripped(text, joined)) <= budget_tokens:
            pieces[-2:] = [joined]
    chunks: list[Chunk] = []
    drops: list[Drop] = []
    for piece in pieces:
        body = _stripped(text, piece)
        if not body:
            drops.append(Drop(piece.start, piece.end, "blank"))
        elif count(body) < min_tokens:
            drops.append(Drop(piece.start, piece.end, "short_segment"))
        else:
            chunks.append(piece)
    return chunks, drops


def _stripped(text: str, piece: Chunk) -> str:
    return text[piece.start : piece.end].strip()


def _fill(text: str, budget: int, count: Callable[[str], int]) -> Iterator[Chunk]:
    """Greedy pieces that cover the text. Unit counts only guide the first guess; the joined piece is what must fit."""
    ends = sentences(text)
    sizes = [count(text[a:b].strip()) for a, b in zip([0, *ends], ends, strict=False)]
    start, first = 0, 0
    while first < len(ends):
        last, total = first, 0
        while last < len(ends) and total + sizes[last] <= budget:
            total += sizes[last]
            last += 1
        while last > first + 1 and count(text[start : ends[last - 1]].strip()) > budget:
            last -= 1
        if last > first and count(text[start : ends[last - 1]].strip()) <= budget:
            yield Chunk(start, ends[last - 1])
        else:
            last = first + 1
            yield from _cut(text, start, ends[first], budget, count)
        start, first = ends[last - 1], last


def _cut(text: str, start: int, end: int, budget: int, count: Callable[[str], int]) -> Iterator[Chunk]:
    """Pieces of one sentence that is longer than the budget, cut at blanks where the second half of a piece has one."""
    while start < end:
        lengths = range(1, end - start + 1)
        fits = bisect_right(lengths, budget, key=lambda n: count(text[start : start + n].strip()))
        stop = start + max(1, fits)
        if stop < end:
            blank = max(text.rfind(mark, start + (stop - start) // 2, stop) for mark in " \t\u00a0")
            stop = blank + 1 if blank >= 0 else stop
        yield Chunk(start, stop, hard_split=True)
        start = stop
