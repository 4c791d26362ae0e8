"""For courses whose unit is a whole document: whether it may be sent, and the one chunk it then is."""

from rephrase.chunking import Chunk, Drop
from rephrase.course import Bench, Made, Source
from rephrase.generator import Answer, Generation, Unanswered
from rephrase.plain_course import chunk_document
from rephrase.style import Style

RENDERED = Generation("", "stop", 0, 0)
"""Stands where nothing was asked: for text that was put together from answers recorded beside it."""


def whole_chunk(source: Source) -> Chunk:
    """The whole text as one chunk."""
    return Chunk(0, len(source.text))


def dropped(source: Source, reason: str) -> Made:
    """The whole document not sent, and why."""
    return Made((), (Drop(0, len(source.text), reason),))


def unfit(source: Source, style: Style, bench: Bench) -> Made | None:
    """What becomes of a document that is too short, too long or blank for the style; null when it can be sent.

    Too long is what does not fit one chunk. Raises ConfigError as `chunk_document` does.
    """
    chunks, drops = chunk_document(source.text, style, bench.generator)
    if not chunks:
        return Made((), tuple(drops)) if len(drops) == 1 else dropped(source, "short_document")
    return dropped(source, "long_document") if len(chunks) > 1 else None


def lost(answer: Answer) -> bool:
    """Whether there is no answer now and another run may have one."""
    return isinstance(answer, Unanswered) and answer.reason != "poison"
