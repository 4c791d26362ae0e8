"""A course: one document's way through a generator, written as a coroutine that asks and is answered.

`yield` hands out a round of questions and brings back their answers in order; `return` hands out what came of it. So a
style of one question, a retry and a style of several steps are the same thing to whoever runs them, and the questions
of thousands of courses reach the generator together.

How it is used:  answered = yield [Ask(request, rollout=0)]
"""

import collections.abc
from collections.abc import Mapping
from dataclasses import dataclass, field

from rephrase.attempts import Attempt
from rephrase.chunking import Drop
from rephrase.gates.instruments import Instruments
from rephrase.generator import Answer, GenerationRequest, Generator


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. Equal requests about one document with another `rollout` (>= 0) are other questions."""

    request: GenerationRequest
    rollout: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """The document that is rephrased: its id, text, language (an ISO 639 code or null) and metadata."""

    id: str
    text: str
    lang: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a course works with: who answers and under which licence, what measures, the seed of its own draws, and the
    rollout it makes."""

    generator: Generator
    instruments: Instruments
    seed: int = 0
    rollout: int = 0
    model_license: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a document.

    Args:
        attempts: every chunk that was sent, in chunk order, a chunk's tries one after the other.
        drops: the pieces of the text that were not sent.
        meta: what the rephrased document's metadata should say beyond what all of them do.
    """

    attempts: tuple[Attempt, ...]
    drops: tuple[Drop, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)


Course = collections.abc.Generator[list[Ask], list[Answer], Made]
