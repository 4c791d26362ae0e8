"""The contract between whoever writes prompts and whatever answers them.

A generator turns chat requests into texts. Rephrasing uses it, and so may raters that ask a model for a
judgement. It knows nothing of styles, documents or caches; those know it only through this protocol, so an
offline engine and a remote server are exchangeable, and a test brings a scripted one of its own.

A question may also be asked in closed form: the answer is begun for the model (`opening`), and what comes back is how
likely each of a few continuations is (`choices`). That is how a judge's points become an expectation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import Field

from corpus.config import Config

FinishReason = Literal["stop", "length"]


class Decoding(Config):
    """How the next token is drawn. Part of every cache key: another decoding is another text."""

    temperature: float = Field(0.5, ge=0, le=2, description="0 takes the likeliest token each time")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the likeliest tokens up to this mass; slow on CPU")
    min_p: float = Field(0.0, ge=0, le=1, description="keep tokens at least this fraction as likely as the likeliest")
    repetition_penalty: float = Field(1.0, gt=0, le=2, description="above 1, tokens already seen become less likely")
    stop: tuple[str, ...] = Field((), description="texts that end the output; not part of it")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One question.

    Args:
        messages: the chat so far.
        max_tokens: the most tokens to answer with, > 0.
        decoding: how they are drawn.
        opening: the begin of the answer, put into the model's mouth; not part of the text that comes back.
        choices: continuations of the opening, one token each, whose log-probability is wanted.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    decoding: Decoding = field(default_factory=lambda: Decoding.model_validate({}))
    opening: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer: its text, why it ended, and its prompt (n_in) and output (n_out) lengths in tokens.

    `choices`: the natural log-probability of each choice that was asked for as the first token after the opening, from
    the model's own distribution, before temperature and filters; null where none was asked for. What they lack to a
    sum of 1 went to tokens that were no choice.
    """

    text: str
    finish_reason: FinishReason
    n_in: int
    n_out: int
    choices: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer, and why: never kept in a cache, so the next run asks again (but see `poison`).

    `reason`: `server_error` (an error that repeated itself for this request alone), `timeout`, `bad_answer` (a body
    that cannot be read), or `poison` (the engine died each time while it worked on this request).
    """

    reason: Literal["server_error", "timeout", "bad_answer", "poison"]
    detail: str = ""


Answer = Generation | Unanswered


class Generator(Protocol):
    """Anything that answers requests.

    `identity` holds all that may change a text and nothing that may not: model, weights hash, chat template
    hash, dtype, engine and its version. Paths, hosts, batch sizes and memory shares stay out of it.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...

    @property
    def max_context(self) -> int:
        """The most tokens a prompt and its answer may have together."""
        ...

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in the model's tokens."""
        ...

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Lengths of many plain texts in the model's tokens, which is faster together."""
        ...

    def count_prompt(self, messages: Sequence[Message], opening: str = "") -> int:
        """Length of a whole prompt in the model's tokens, chat template and opening included."""
        ...

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they are finished: each answer with the place of its request, in any order, each once.

        An engine that draws by one random state sets it from `seed` first: the same requests in the same order then
        give the same texts on the same machine, whatever was generated before; a part of them, or another order, may
        not. Raises ConfigError before the first answer for a request longer than the context and for choices that are
        not single tokens of the model, EnvironmentProblem when nothing answers any more.
        """
        ...

    def close(self) -> None:
        """Free the model's memory. A closed generator answers nothing more."""
        ...
