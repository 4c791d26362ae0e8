"""A scripted generator for tests of what surrounds a generator: it counts words as tokens and answers by a rule."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from rephrase.generator import Generation, GenerationRequest, Message


class ScriptedGenerator:
    """Answers with `rule(text of the last message)`; remembers the batches it was given and may stop after some."""

    def __init__(
        self, rule: Callable[[str], str] = lambda text: text, *, weights: str = "0" * 16, fails_after: int = -1
    ):
        self.rule, self.weights, self.fails_after = rule, weights, fails_after
        self.batches: list[tuple[int, list[str]]] = []

    @property
    def identity(self) -> Mapping[str, str]:
        return {"model": "scripted", "weights": self.weights, "engine": "test"}

    @property
    def max_context(self) -> int:
        return 4096

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def count_prompt(self, messages: Sequence[Message], opening: str = "") -> int:
        return self.count_tokens(opening) + sum(self.count_tokens(message.content) + 2 for message in messages)

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> list[Generation]:
        if len(self.batches) == self.fails_after:
            raise KeyboardInterrupt
        texts = [request.messages[-1].content for request in requests]
        self.batches.append((seed, texts))
        answers = [self.rule(text) for text in texts]
        return [
            Generation(answer, "stop", self.count_prompt(request.messages), self.count_tokens(answer))
            for request, answer in zip(requests, answers, strict=True)
        ]

    def close(self) -> None:
        self.batches.clear()


@pytest.fixture
def scripted() -> type[ScriptedGenerator]:
    return ScriptedGenerator
