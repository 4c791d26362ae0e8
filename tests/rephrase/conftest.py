"""A scripted generator for tests of what surrounds a generator: it counts words as tokens and answers by a rule."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from rephrase.generator import Answer, Generation, GenerationRequest, Message, Unanswered


class ScriptedGenerator:
    """Answers with `rule(text of the last message)`, one request at a time, and remembers what it was asked.

    Args:
        rule: the text of an answer; or a whole Generation or Unanswered; or it raises, as an engine that dies would.
        weights: part of the identity.
        shuffle: seed of the order in which the answers of a call finish; null: the order of the requests.
        stops_after: answers given in all before KeyboardInterrupt is raised instead of the next; -1: never.

    `batches`: the seed and the texts of each call; `asked`: the texts that were answered, in the order they finished;
    `closed`: whether `close` was called.
    """

    def __init__(
        self,
        rule: Callable[[str], str | Answer] = lambda text: text,
        *,
        weights: str = "0" * 16,
        shuffle: int | None = None,
        stops_after: int = -1,
    ):
        self.rule, self.weights, self.shuffle, self.stops_after = rule, weights, shuffle, stops_after
        self.batches: list[tuple[int, list[str]]] = []
        self.asked: list[str] = []
        self.closed = False

    @property
    def identity(self) -> Mapping[str, str]:
        return {"model": "scripted", "weights": self.weights, "engine": "test"}

    @property
    def max_context(self) -> int:
        return 4096

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def count_many(self, texts: Sequence[str]) -> list[int]:
        return [self.count_tokens(text) for text in texts]

    def count_prompt(self, messages: Sequence[Message], opening: str = "") -> int:
        return self.count_tokens(opening) + sum(self.count_tokens(message.content) + 2 for message in messages)

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> Iterator[tuple[int, Answer]]:
        self.batches.append((seed, [request.messages[-1].content for request in requests]))
        places = list(range(len(requests)))
        if self.shuffle is not None:
            random.Random(f"{self.shuffle} {len(self.batches)}").shuffle(places)
        for place in places:
            if len(self.asked) == self.stops_after:
                raise KeyboardInterrupt
            answer = self._answer(requests[place])
            self.asked.append(requests[place].messages[-1].content)
            yield place, answer

    def _answer(self, request: GenerationRequest) -> Answer:
        answer = self.rule(request.messages[-1].content)
        if isinstance(answer, Generation | Unanswered):
            return answer
        n_in = self.count_prompt(request.messages, request.opening)
        return Generation(answer, "stop", n_in, self.count_tokens(answer))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def scripted() -> type[ScriptedGenerator]:
    return ScriptedGenerator
