"""The form a style demands, read from an answer and written again in the project's one way.

A parser reads what is there: it may leave out what is no part of the form, and it never adds a word of its own beyond
the marks of the form. Reading a written form again gives the same form.

How it is used:  form = read_form(style, cleaned.text)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rephrase.cleaning import unquoted, unwrapped, without_closing, without_markdown, without_opening
from rephrase.parsers.bullets import read_bullets, write_bullets
from rephrase.parsers.pairs import read_pairs, write_pairs
from rephrase.parsers.sections import read_section
from rephrase.parsers.steps import read_steps, write_steps
from rephrase.parsers.table import read_table, write_table

if TYPE_CHECKING:
    from rephrase.style import Style


@dataclass(frozen=True, slots=True)
class Form:
    """Parts found (pairs, points, rows, steps; 1 for prose; 0 where the form is not there), and the form as text."""

    n_parts: int
    text: str


def read_form(style: "Style", text: str) -> Form:
    """Read a cleaned answer in the form of `style.parser`; a text that is not in the form has no parts."""
    if style.parser == "pairs":
        pairs = read_pairs(text)
        return Form(len(pairs), write_pairs(pairs))
    if style.parser == "bullets":
        points = read_bullets(text)
        return Form(len(points), write_bullets(points))
    if style.parser == "table":
        table = read_table(text)
        return Form(len(table.rows), write_table(table)) if table else Form(0, "")
    if style.parser == "steps":
        title, steps = read_steps(text)
        return Form(len(steps), write_steps(title, steps) if steps else "")
    if style.parser == "sections":
        text = _result(read_section(text, style.section))
    return Form(int(bool(text)), text)


def _result(section: str) -> str:
    """A section without its own wrapping, as `clean` leaves a whole answer."""
    return without_markdown(unquoted(unwrapped(without_closing(without_opening(section)))))
