"""Ask a model for the mind map of each of several numbered lists, a few times where an answer is none.

Every list is asked for in the same round; those whose answer is no valid map are asked for again: some more times at
the style's temperature, then once at temperature 0 (arXiv 2407.16724, its authors' code).
"""

import collections.abc
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from rephrase.attempts import Attempt
from rephrase.chunking import Chunk
from rephrase.course import Ask, Bench
from rephrase.gates.judging import Verdict
from rephrase.generator import Answer, Generation, GenerationRequest, Unanswered
from rephrase.retrying import TRIES
from rephrase.structure.faults import MapFault
from rephrase.structure.mindmap import MindMap, checked, read_map
from rephrase.structure.settings import StructureSteps
from rephrase.style import Style

MIN_ANSWER_TOKENS = 64


@dataclass
class Numbered:
    """A list that is asked about: `items` in order, the piece of the text they are from, and what came of it.

    Args:
        items: what the ranges of the map count.
        chunk, index, step: what the record of attempts says of it.
        fewest: parts that cover fewer items are removed from the map.
        mindmap: the valid map, once there is one.
        lost: no answer could be had this time, and another run may have one.
    """

    items: Sequence[str]
    chunk: Chunk
    index: int
    step: str
    fewest: int
    mindmap: MindMap | None = None
    lost: Unanswered | None = None
    attempts: list[Attempt] = field(default_factory=list)


Rounds = collections.abc.Generator[list[Ask], list[Answer], None]


def ask_maps(lists: Sequence[Numbered], style: Style, steps: StructureSteps, bench: Bench) -> Rounds:
    """Fill in `mindmap`, `lost` and `attempts` of each list; a list whose prompt is too long is not asked about.

    An answer that killed the engine counts as no map, and its list is not asked about again.
    """
    greedy = style.model_copy(update={"decoding": style.decoding.model_copy(update={"temperature": 0.0})})
    ways = [style] * (1 + steps.retries) + [greedy] * steps.last_greedy
    waiting = list(lists)
    for number, way in enumerate(ways):
        requests = [_request(one, way, bench) for one in waiting]
        asked = [(one, request) for one, request in zip(waiting, requests, strict=True) if request is not None]
        if not asked:
            return
        answers = yield [Ask(request, bench.rollout * TRIES + number) for _, request in asked]
        for (one, _), answer in zip(asked, answers, strict=True):
            _take(one, answer, number)
        waiting = [one for one, _ in asked if one.mindmap is None and isinstance(one.attempts[-1].answer, Generation)]


def _request(one: Numbered, style: Style, bench: Bench) -> GenerationRequest | None:
    """The question, its answer as long as the context allows; null where the prompt leaves an answer no room."""
    text = "\n".join(f"{number}. {item}" for number, item in enumerate(one.items, 1))
    request = style.request(text, bench.generator.count_tokens(text))
    room = bench.generator.max_context - bench.generator.count_prompt(request.messages, request.opening)
    if room < MIN_ANSWER_TOKENS:
        return None
    return dataclasses.replace(request, max_tokens=min(request.max_tokens, room))


def _take(one: Numbered, answer: Answer, number: int) -> None:
    if isinstance(answer, Unanswered):
        one.lost = None if answer.reason == "poison" else answer
        verdict = Verdict("", {}, answer.reason)
    else:
        finished = answer.finish_reason == "stop"
        try:
            one.mindmap = checked(read_map(answer.text), len(one.items), fewest=one.fewest) if finished else None
        except MapFault:
            one.mindmap = None  # what is wrong with it can be read off the recorded text
        reason = None if one.mindmap else "parse" if finished else "finished"
        parts = float(len(one.mindmap.aspects)) if one.mindmap else 0.0
        verdict = Verdict(answer.text.strip(), {"finished": float(finished), "parse": parts}, reason)
    one.attempts.append(Attempt(one.chunk, one.index, answer, verdict, number, one.step))
