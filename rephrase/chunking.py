"""Cut a text into pieces that fit a model's prompt, at paragraph and sentence ends.

A text is a row of units: sentences, each with the blanks that follow it. Units fill a chunk until the token budget is
reached; a chunk that is full enough then ends at its last paragraph border. Only a sentence longer than the whole
budget is cut inside (`hard_split`). Nothing is lost in silence: chunks and recorded drops, put together in order, are
the text (arXiv 2401.16380 uses about 300 tokens, because longer inputs lose information). The work is linear in the
length of the text.

How it is used:  chunks, drops = split(text, budget_tokens=300, min_tokens=30, count=generator.count_tokens)
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from corpus.errors import ConfigError

MIN_BUDGET_TOKENS = 8
PARAGRAPH_SHARE = 0.5
"""A chunk ends at a paragraph border rather than at a later sentence if it has this share of the budget by then."""

# A sentence ends after a mark, optional closing quotes, and blanks; or after a CJK mark; or at a line's end.
_END = re.compile(
    r"(?<![.!?\u2026\u061F\u06D4])[.!?\u2026\u061F\u06D4]++[\"'\u2019\u201D\u00BB)\]]*+\s++"
    r"|[\u3002\uFF01\uFF1F\uFF0E]++[\u300D\u300F\u201D\u2019\uFF09]*+\s*+|[\n\r]\s*+"
)
_LINE_BREAK = re.compile(r"[\n\r]")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|etc|vs|approx|no|fig|dr|mr|mrs|ms|prof|st|jr|sr|z\.\s?b|d\.\s?h|bzw|ca|usw|nr)|\b[^\W\d_])\.\s*$",
    re.IGNORECASE,
)
_LONGEST_ABBREVIATION = 12

Count = Callable[[str], int]
CountMany = Callable[[Sequence[str]], Sequence[int]]


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
    """Offsets where units end, ascending; the last one is len(text). An empty text has none.

    A line's end inside a sentence, as in a text wrapped to a width, is no unit's end.
    """
    ends = []
    for match in _END.finditer(text):
        if match.end() < len(text) and not _inside_sentence(text, match):
            ends.append(match.end())
    return [*ends, len(text)] if text else []


def split(
    text: str, *, budget_tokens: int, min_tokens: int, count: Count, count_many: CountMany | None = None
) -> tuple[list[Chunk], list[Drop]]:
    """Cut a text into chunks of at most `budget_tokens`, counted on the stripped piece by `count`.

    A last piece below `min_tokens` joins its neighbour if that still fits the budget; otherwise it is a
    drop with reason `short_segment`. Pieces without a visible character are drops with reason `blank`.

    Args:
        count: a text's tokens; a longer text never has fewer by much.
        count_many: the same for many texts at once, where that is faster.

    Raises ConfigError for a budget below 8 tokens, which no sentence fits.
    """
    if budget_tokens < MIN_BUDGET_TOKENS:
        raise ConfigError(
            "the prompt leaves no room for a text",
            expected=f"a budget of at least {MIN_BUDGET_TOKENS} tokens",
            found=f"{budget_tokens} tokens",
            fix="raise limits.chunk of the style, or shorten its template",
        )
    pieces = list(_fill(text, budget_tokens, count, count_many))
    sizes = [size for _, size in pieces]
    chunks = [chunk for chunk, _ in pieces]
    if len(chunks) > 1 and sizes[-1] < min_tokens:
        joined = Chunk(chunks[-2].start, chunks[-1].end, chunks[-2].hard_split or chunks[-1].hard_split)
        size = count(text[joined.start : joined.end].strip())
        if size <= budget_tokens:
            chunks[-2:], sizes[-2:] = [joined], [size]
    kept: list[Chunk] = []
    drops: list[Drop] = []
    for chunk, size in zip(chunks, sizes, strict=True):
        if not text[chunk.start : chunk.end].strip():
            drops.append(Drop(chunk.start, chunk.end, "blank"))
        elif size < min_tokens:
            drops.append(Drop(chunk.start, chunk.end, "short_segment"))
        else:
            kept.append(chunk)
    return kept, drops


def _inside_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether what looks like an end is an abbreviation's point or the break of a wrapped line."""
    mark = match[0]
    if mark[0] == ".":
        before = max(0, match.start() - _LONGEST_ABBREVIATION)
        return _line_breaks(mark) < 2 and _ABBREVIATION.search(text, before, match.end()) is not None
    if mark[0] not in "\n\r" or _line_breaks(mark) > 1 or not text[match.end()].islower():
        return False
    last_seen = text[max(0, match.start() - 8) : match.start()].rstrip()[-1:]
    return last_seen.isalpha() or last_seen == ","


def _line_breaks(blanks: str) -> int:
    return len(_LINE_BREAK.findall(blanks.replace("\r\n", "\n")))


def _fill(text: str, budget: int, count: Count, count_many: CountMany | None) -> Iterator[tuple[Chunk, int]]:
    """Greedy pieces that cover the text, with their tokens.

    Unit counts only guide the first guess; the joined piece is what must fit. A unit keeps its line breaks when it is
    counted, for they are tokens as well once units are joined.
    """
    ends = sentences(text)
    units = [text[a:b].rstrip(" \t\u00a0") for a, b in zip([0, *ends], ends, strict=False)]
    sizes = list(count_many(units)) if count_many else [count(unit) for unit in units]
    start, first = 0, 0
    while first < len(ends):
        last, total = first, 0
        while last < len(ends) and total + sizes[last] <= budget:
            total += sizes[last]
            last += 1
        last = max(last, first + 1)
        if last < len(ends):
            last = _paragraph(text, ends, sizes, first, last, budget)
        size = count(text[start : ends[last - 1]].strip())
        if size > budget and last > first + 1:
            lengths = range(first + 1, last)
            fits = bisect_right(lengths, budget, key=lambda n: count(text[start : ends[n - 1]].strip()))
            last = first + max(1, fits)
            size = count(text[start : ends[last - 1]].strip())
        if size <= budget:
            yield Chunk(start, ends[last - 1]), size
        else:
            yield from _cut(text, start, ends[first], budget, count)
        start, first = ends[last - 1], last


def _paragraph(text: str, ends: Sequence[int], sizes: Sequence[int], first: int, last: int, budget: int) -> int:
    """The last unit in (first, last] that ends a paragraph, with enough of the budget before it; else `last`.

    An empty line is a better border than the end of a line.
    """
    at_line, total = 0, sum(sizes[first:last])
    for n in range(last, first, -1):
        if total < PARAGRAPH_SHARE * budget:
            break
        piece = text[ends[n - 2] if n > 1 else 0 : ends[n - 1]]
        breaks = _line_breaks(piece[len(piece.rstrip()) :])
        if breaks > 1:
            return n
        at_line = at_line or (n if breaks else 0)
        total -= sizes[n - 1]
    return at_line or last


def _cut(text: str, start: int, end: int, budget: int, count: Count) -> Iterator[tuple[Chunk, int]]:
    """Pieces of one sentence that is longer than the budget, cut at blanks where the second half of a piece has one.

    The length of a piece is found by doubling the length of the one before, then by bisection to a 64th: few counts,
    each of a text about as long as a piece.
    """
    guess = budget
    while start < end:
        high = min(guess, end - start)
        while high < end - start and count(text[start : start + high].strip()) <= budget:
            high = min(2 * high, end - start)
        stop = start + _most_characters(text[start : start + high], budget, count)
        if stop < end:
            blank = max(text.rfind(mark, start + (stop - start) // 2, stop) for mark in " \t\u00a0\n")
            stop = blank + 1 if blank >= 0 else stop
        guess = max(1, stop - start)
        yield Chunk(start, stop, hard_split=True), count(text[start:stop].strip())
        start = stop


def _most_characters(text: str, budget: int, count: Count) -> int:
    """About the most characters of a text's begin that fit the budget, at least one."""
    step = max(1, len(text) // 64)
    for lengths in (range(step, len(text) + 1, step), range(1, step)):
        if fits := bisect_right(lengths, budget, key=lambda n: count(text[:n].strip())):
            return lengths[fits - 1]
    return 1
