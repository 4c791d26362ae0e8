"""Files of questions, one JSON object a line, in any of the forms of `trainer_hooks.evals.items`.

A line that cannot be used is named with its number and left out; strictly, it stops the reading.

    found = read_items(Path("arc_easy.jsonl"))               # .gz is read too
    found.items, found.problems
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

from corpus.errors import InputError
from trainer_hooks.evals.items import Item, Requests, Unusable, item_of


@dataclass
class ItemFile:
    """The questions of a file in its order, and a sentence for each line that could not be used."""

    items: list[Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_items(path: Path, strict: bool = False) -> ItemFile:
    """Read a file of questions; its stem names the task where its lines do not.

    Raises InputError for a file that is missing, damaged or holds no question, and, if strict, for the first line
    that cannot be used.
    """
    found, names = ItemFile(), set[tuple[str, str]]()
    for number, make in _makers(path):
        try:
            item = make()
            if item and (item.task, item.name) in names:
                raise Unusable(f"a second question called {item.name!r} in {item.task}")
        except Unusable as error:
            if strict:
                raise InputError("this line is no question", found=str(error), where=f"{path}, line {number}") from None
            found.problems.append(f"{path.name}, line {number}: {error}")
        else:
            if item:
                names.add((item.task, item.name))
                found.items.append(item)
    if not found.items:
        why = found.problems[0] if found.problems else "an empty file"
        raise InputError("there is no question in this file", found=why, where=str(path))
    return found


def _makers(path: Path) -> Iterator[tuple[int, Callable[[], Item | None]]]:
    """For each line what makes its question, if it is a whole one; then, for each question in pieces, the same."""
    requests, task = Requests(), path.name.split(".")[0]
    for number, text in _lines(path):
        yield number, partial(_line, text, number, task, requests)
    yield from requests.items()


def _line(text: str, number: int, task: str, requests: Requests) -> Item | None:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise Unusable(f"no JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(data, dict):
        raise Unusable("not a JSON object")
    if "request" not in data:
        return item_of(data, task, str(number))
    requests.add(number, data, task)
    return None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        with _opened(path) as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", expected="a file of questions, one JSON object a line") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError("cannot read these questions", found=str(error), where=str(path)) from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")
