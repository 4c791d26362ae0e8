"""Two texts side by side with their differences marked: words kept, removed and added, and facts that are new.

Words are compared without case and punctuation, in order, by the longest runs they share. A single common word between
two changes is no agreement, so it counts as changed; without that rule a free rewording looks like a mosaic.

How it is used:  source, output = word_diff(source_text, output_text)
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

from rephrase.fidelity import FUNCTION_WORDS, Profile, words
from rephrase.gates.facts import new_fact_words

Mark = Literal["", "del", "ins", "new"]
_PIECES = re.compile(r"\s*\S+\s*?(?=\s|\Z)|\s+\Z")
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text and how it is marked: not at all, removed, added, or added as a fact the source lacks."""

    text: str
    mark: Mark


def word_diff(source: str, output: str, new: Collection[str] | None = None) -> tuple[list[Piece], list[Piece]]:
    """Mark a source (kept and removed) and its output (kept, added, new facts). The pieces of each join to its text.

    `new`: the lower-cased words that are new facts, where these texts are parts of longer ones; else they are found.
    """
    left, right = _PIECES.findall(source), _PIECES.findall(output)
    ours, theirs = [[_key(piece) for piece in side] for side in (left, right)]
    kept_left, kept_right = _shared(ours, theirs)
    new = set(new_fact_words(Profile(output), Profile(source)) if new is None else new)
    marks_left: list[Mark] = ["" if kept else "del" for kept in kept_left]
    marks_right: list[Mark] = [
        "new" if set(words(key)) & new else "" if kept else "ins" for kept, key in zip(kept_right, theirs, strict=True)
    ]
    return _joined(left, marks_left), _joined(right, marks_right)


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """For each word of both sides whether it belongs to a run that both share."""
    kept = [False] * len(ours), [False] * len(theirs)
    for a, b, size in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        if size > 1 or (size == 1 and ours[a] not in FUNCTION_WORDS):
            kept[0][a : a + size] = [True] * size
            kept[1][b : b + size] = [True] * size
    return kept


def _key(piece: str) -> str:
    bare = piece.strip().lower()
    return _EDGES.sub("", bare) or bare


def _joined(pieces: Iterable[str], marks: Iterable[Mark]) -> list[Piece]:
    """Neighbours of one mark as one piece."""
    runs = groupby(zip(pieces, marks, strict=True), key=lambda item: item[1])
    return [Piece("".join(piece for piece, _ in run), mark) for mark, run in runs]
