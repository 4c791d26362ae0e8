"""A mind map: what a text is about, part by part, each part with the range of sentences it covers.

A model writes it as YAML: a `scope` and a list of `aspects`, each with a `name`, a `range` of sentence numbers and
perhaps `aspects` of its own. What is accepted is exact (arXiv 2407.16724, and its authors' code): the ranges of the
first level follow one another from 1 to the last sentence. So every sentence has one place, and a text cut by its map
is the text.

How it is used:  mindmap = checked(read_map(answer), n_sentences);  pieces = list(leaves(mindmap))
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from rephrase.structure.faults import Fault, MapFault
from rephrase.structure.safe_yaml import read_yaml

MAX_LEVELS = 6
MAX_NAME = 160
_RANGE = re.compile(r"\[?\s*(\d{1,6})(?:\s*(?:-|\u2013|\u2014|to|,|\.\.)\s*(\d{1,6}))?\s*\]?")
_REFERENCES = re.compile(
    r"\b(?:references?|bibliography|external links?|see also|further reading|works cited|citations?|footnotes)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Aspect:
    """A part of a text: its name, its sentences `first` to `last` (from 1, both in it), and parts of its own."""

    name: str
    first: int
    last: int
    parts: tuple["Aspect", ...] = ()


@dataclass(frozen=True, slots=True)
class MindMap:
    """What a text is about as a whole, and its aspects in the order of the text."""

    scope: str
    aspects: tuple[Aspect, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A stretch of sentences `first` to `last`, and the names that lead to it, the scope first."""

    first: int
    last: int
    path: tuple[str, ...]


def read_map(answer: str) -> MindMap:
    """The mind map of an answer, as it is written there; an aspect with parts has the range of its parts.

    Raises MapFault for text that is no YAML, and for one that lacks a scope, aspects, names or ranges.
    """
    data = read_yaml(answer)
    if not isinstance(data, dict) or not isinstance(data.get("aspects"), list) or not data["aspects"]:
        raise MapFault("shape", "not a mapping with a scope and a list of aspects")
    return MindMap(_name(data.get("scope")), tuple(_aspect(item, 1) for item in data["aspects"]))


def checked(mindmap: MindMap, n: int, *, fewest: int = 2) -> MindMap:
    """The map in its final form, if it fits a text of `n` >= 1 sentences.

    A last aspect of references reaches to the end. Parts below the first level that cover fewer than `fewest` sentences
    are removed; their sentences stay with the aspect above them. Raises MapFault: `start` when the first range does not
    start at 1, `gap` or `overlap` when a range does not start right after the one before, `end` when the last one does
    not end at `n`. Below the first level gaps are allowed, overlaps are not.
    """
    aspects = list(mindmap.aspects)
    if _REFERENCES.search(aspects[-1].name) and aspects[-1].last <= n:
        aspects[-1] = replace(aspects[-1], last=n)
    if aspects[0].first != 1:
        raise MapFault("start", f"the first range starts at {aspects[0].first}")
    for before, after in pairwise(aspects):
        if after.first != before.last + 1:
            fault: Fault = "gap" if after.first > before.last else "overlap"
            raise MapFault(fault, f"{before.first}-{before.last} is followed by {after.first}-{after.last}")
    if aspects[-1].last != n:
        raise MapFault("end", f"the last range ends at {aspects[-1].last} of {n}")
    return MindMap(mindmap.scope, tuple(_pruned(aspect, fewest) for aspect in aspects))


def leaves(mindmap: MindMap) -> Iterator[Leaf]:
    """Stretches that cover the text in order, each once; sentences that no part covers go with the aspect above."""
    for aspect in mindmap.aspects:
        yield from _leaves(aspect, (mindmap.scope,))


def levels(mindmap: MindMap) -> int:
    """Levels of names, the scope not counted: 1 for aspects without parts."""
    return max(map(_levels, mindmap.aspects))


def shifted(mindmap: MindMap, by: int) -> MindMap:
    """The same map with all ranges moved by a number of sentences."""
    return MindMap(mindmap.scope, tuple(_shifted(aspect, by) for aspect in mindmap.aspects))


def single(name: str, n: int) -> MindMap:
    """The map of a text whose parts are not known: its title is the only aspect."""
    return MindMap(name, (Aspect(name, 1, n),))


def grafted(over: MindMap, maps: Sequence[MindMap]) -> MindMap:
    """One map out of a checked map over sections, whose ranges count sections, and the sections' maps in order.

    The ranges of `maps` must follow one another. An aspect over one section takes that section's aspects; over several,
    the sections become its parts.
    """
    return MindMap(over.scope, tuple(_grafted(aspect, maps) for aspect in over.aspects))


def as_aspect(mindmap: MindMap) -> Aspect:
    """The map as a part of a larger one: its scope becomes a name."""
    first, last = mindmap.aspects[0], mindmap.aspects[-1]
    alone = len(mindmap.aspects) == 1 and first.name == mindmap.scope
    return first if alone else Aspect(mindmap.scope, first.first, last.last, mindmap.aspects)


def _aspect(item: Any, level: int) -> Aspect:
    if not isinstance(item, dict) or level > MAX_LEVELS:
        raise MapFault("shape", "an aspect that is no mapping" if level <= MAX_LEVELS else "too many levels")
    name, inner = _name(item.get("name")), item.get("aspects") or []
    if not isinstance(inner, list):
        raise MapFault("shape", f"the aspects of {name!r} are no list")
    if not inner:
        return Aspect(name, *_range(item.get("range"), name))
    parts = tuple(_aspect(part, level + 1) for part in inner)
    if any(after.first <= before.last for before, after in pairwise(parts)):
        raise MapFault("overlap", f"parts of {name!r} overlap or are out of order")
    return Aspect(name, parts[0].first, parts[-1].last, parts)


def _name(value: Any) -> str:
    name = " ".join(value.split()) if isinstance(value, str) else ""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise MapFault("name", f"{name[:40]!r} is no name of 1 to {MAX_NAME} characters")
    return name


def _range(value: Any, name: str) -> tuple[int, int]:
    written = ",".join(map(str, value)) if isinstance(value, list) else value
    match = _RANGE.fullmatch(written.strip()) if isinstance(written, str) else None
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise MapFault("range", f"{str(written)[:40]!r} of {name!r} is no range of sentences")
    return first, last


def _pruned(aspect: Aspect, fewest: int) -> Aspect:
    parts = (part for part in aspect.parts if part.last - part.first + 1 >= fewest)
    return replace(aspect, parts=tuple(_pruned(part, fewest) for part in parts))


def _leaves(aspect: Aspect, path: tuple[str, ...]) -> Iterator[Leaf]:
    here = path if path[-1] == aspect.name else (*path, aspect.name)
    at = aspect.first
    for part in aspect.parts:
        if part.first > at:
            yield Leaf(at, part.first - 1, here)
        yield from _leaves(part, here)
        at = part.last + 1
    if at <= aspect.last:
        yield Leaf(at, aspect.last, here)


def _levels(aspect: Aspect) -> int:
    return 1 + max(map(_levels, aspect.parts), default=0)


def _shifted(aspect: Aspect, by: int) -> Aspect:
    return Aspect(aspect.name, aspect.first + by, aspect.last + by, tuple(_shifted(part, by) for part in aspect.parts))


def _grafted(aspect: Aspect, maps: Sequence[MindMap]) -> Aspect:
    first, last = maps[aspect.first - 1].aspects[0].first, maps[aspect.last - 1].aspects[-1].last
    if aspect.first == aspect.last:
        inner = maps[aspect.first - 1].aspects
        return Aspect(aspect.name, first, last, () if len(inner) == 1 and not inner[0].parts else inner)
    parts: list[Aspect] = []
    at = aspect.first
    for part in aspect.parts:
        parts += [as_aspect(maps[i - 1]) for i in range(at, part.first)]
        parts.append(_grafted(part, maps))
        at = part.last + 1
    parts += [as_aspect(maps[i - 1]) for i in range(at, aspect.last + 1)]
    return Aspect(aspect.name, first, last, tuple(parts))
