"""A table: Markdown pipes or tab-separated cells, written again as a Markdown table with the text around it.

A header and at least two rows with as many cells as the header, at least two, make a table. What stands before and
after the table, a title or a sentence about it, is kept as it is.

How it is used:  table = read_table(text); n_rows = len(table.rows) if table else 0
"""

import re
from dataclasses import dataclass

from rephrase.cleaning import without_markdown

_RULE = re.compile(r"\s*\|?\s*:?-{1,}:?\s*(?:\|\s*:?-{1,}:?\s*)*\|?\s*")
MIN_ROWS = 2


@dataclass(frozen=True, slots=True)
class Table:
    """Header and rows of equally many cells, and the text before and after them."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    before: str = ""
    after: str = ""


def read_table(text: str) -> Table | None:
    """The first table of a text; null when there is none, when its rows differ in length, or with under two rows."""
    lines = text.strip().splitlines()
    mark = next((mark for mark in "|\t" if sum(mark in line.strip() for line in lines) > MIN_ROWS), None)
    if mark is None:
        return None
    first = next(place for place, line in enumerate(lines) if mark in line.strip())
    last = first
    while last < len(lines) and mark in lines[last].strip():
        last += 1
    rows = [_cells(line, mark) for line in lines[first:last] if not _RULE.fullmatch(line)]
    if len(rows) <= MIN_ROWS or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return None
    before, after = ("\n".join(part).strip() for part in (lines[:first], lines[last:]))
    return Table(rows[0], tuple(rows[1:]), without_markdown(before), without_markdown(after))


def write_table(table: Table) -> str:
    """A Markdown table with its text; bars inside cells are escaped."""
    lines = [_line(table.header), _line(["---"] * len(table.header)), *map(_line, table.rows)]
    return "\n\n".join(part for part in (table.before, "\n".join(lines), table.after) if part)


def _cells(line: str, mark: str) -> tuple[str, ...]:
    line = line.strip().removeprefix(mark) if mark == "|" else line.rstrip("\n")
    if mark == "|" and line.endswith("|") and not line.endswith(r"\|"):
        line = line[:-1]
    cells = re.split(r"(?<!\\)\|", line) if mark == "|" else line.split("\t")
    return tuple(without_markdown(cell.replace(r"\|", "|").strip()) for cell in cells)


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
