"""What kind of structured text a target is: HTML, LaTeX, a Markdown table, or a list; and whether it parses as that.

Simple rules, not parsers of whole languages: tags and environments must nest and close, rows of a table must have
equally many cells, a list must be mostly items. A text of no kind is not structured; one that claims a kind and
breaks its rule does not parse (the kinds are those of arXiv 2309.08963).

How it is used:  target = target_of(text);  target.kind, target.parses
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Literal

Kind = Literal["html", "latex", "table", "list"]

MIN_ROWS = 2
MIN_ITEMS = 3
LIST_SHARE = 0.6
_LATEX = re.compile(r"\\(begin|end)\{([A-Za-z]+\*?)\}")
_TAGS = re.compile(r"</?(?:table|tr|td|th|ul|ol|li|dl|dt|dd|div|html|body|h[1-6]|p)(?:\s[^<>]{0,300})?>", re.IGNORECASE)
_RULE = re.compile(r"\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?")
_ITEM = re.compile(r"\s*(?:[-*+\u2022\u2023\u25e6]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S")
_CELL = re.compile(r"(?<!\\)\|")
_EMPTY_TAGS = frozenset(("br", "hr", "img", "input", "meta", "link", "col", "area", "base", "source", "wbr", "embed"))
_MAY_STAY_OPEN = frozenset(("p", "li", "dt", "dd", "td", "th", "tr", "thead", "tbody", "tfoot", "colgroup", "option"))


@dataclass(frozen=True, slots=True)
class Target:
    """What a text claims to be, and whether it keeps that kind's rule."""

    kind: Kind
    parses: bool


def target_of(text: str) -> Target | None:
    """The kind of a target; null for a text that is not structured."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(_TAGS.findall(text)) >= 2:
        return Target("html", _html_nests(text))
    if _LATEX.search(text):
        return Target("latex", _latex_nests(text))
    rows = [line for line in lines if len(_CELL.findall(line)) >= 2 or (_CELL.search(line) and line[0] != "|")]
    if len(rows) >= MIN_ROWS and len(rows) > len(lines) / 2:
        return Target("table", _table_is_even(rows))
    items = sum(_ITEM.match(line) is not None for line in lines)
    if items >= MIN_ITEMS and items >= LIST_SHARE * len(lines):
        return Target("list", True)
    return None


class _Nesting(HTMLParser):
    """Keeps the open elements; `broken` once an end has no beginning or closes across another element."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.broken = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _EMPTY_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing stays open."""

    def handle_endtag(self, tag: str) -> None:
        if tag in _EMPTY_TAGS or self.broken:
            return
        while self.open and self.open[-1] != tag and self.open[-1] in _MAY_STAY_OPEN:
            self.open.pop()
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.broken = True


def _html_nests(text: str) -> bool:
    nesting = _Nesting()
    try:
        nesting.feed(text)
        nesting.close()
    except AssertionError:  # what the parser raises for a declaration it cannot read, such as `<![x`
        return False
    return not nesting.broken and all(tag in _MAY_STAY_OPEN for tag in nesting.open)


def _latex_nests(text: str) -> bool:
    open_names: list[str] = []
    for word, name in _LATEX.findall(text):
        if word == "begin":
            open_names.append(name)
        elif not open_names or open_names.pop() != name:
            return False
    return not open_names


def _table_is_even(rows: list[str]) -> bool:
    """Equally many cells in every row, and at least two of them, rule lines such as |---|---| included."""
    widths = {len(_CELL.split(row.strip("|"))) for row in rows}
    return len(widths) == 1 and widths.pop() >= 2 and sum(not _RULE.fullmatch(row) for row in rows) >= MIN_ROWS
