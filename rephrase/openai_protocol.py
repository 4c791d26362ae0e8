"""What is written to an OpenAI-compatible server, and how its answers are read.

Prompts go to `/completions` as token ids where the server computes what was tokenised here, and to
`/chat/completions` as messages where it applies a chat template of its own. A body that cannot be read raises
BadAnswer; it is asked again by the client, never guessed at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rephrase.generator import Answer, Generation, GenerationRequest, Unanswered


class BadAnswer(Exception):
    """A body with status 200 that is not an answer: cut off, no JSON, or JSON of another shape."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request as it goes out, and how to read what comes back.

    Args:
        path: below the base URL.
        payload: the JSON body.
        choices: the token of each choice.
        n_in: the prompt's tokens, where the server does not say.
    """

    path: str
    payload: Mapping[str, Any]
    choices: Mapping[str, int]
    n_in: int


def completion(model: str, request: GenerationRequest, prompt: Sequence[int], choices: Mapping[str, int]) -> Question:
    """A prompt as token ids; log-probabilities of the choices' tokens where there are any (vLLM's extension)."""
    payload = {"model": model, "prompt": list(prompt), **_sampling(request)}
    if choices:
        asked = list(choices.values())
        payload |= {"logprobs": 1, "logprob_token_ids": asked, "return_tokens_as_token_ids": True}
    return Question("/completions", payload, choices, len(prompt))


def chat(model: str, request: GenerationRequest, contents: Sequence[str], n_in: int) -> Question:
    """A chat; `contents` are the texts of its messages as they may go out."""
    pairs = zip(request.messages, contents, strict=True)
    messages = [{"role": message.role, "content": content} for message, content in pairs]
    return Question("/chat/completions", {"model": model, "messages": messages, **_sampling(request)}, {}, n_in)


def trivial(question: Question, prompt: Sequence[int]) -> Question:
    """The same kind of request with the shortest prompt and answer: what a healthy server always answers."""
    short: dict[str, Any] = {"max_tokens": 1}
    if "prompt" in question.payload:
        short["prompt"] = list(prompt)
    else:
        short["messages"] = [{"role": "user", "content": "Hello"}]
    return Question(question.path, {**question.payload, **short}, question.choices, 1)


def _sampling(request: GenerationRequest) -> dict[str, Any]:
    """The decoding; what the OpenAI protocol does not know only where it is not at its neutral value."""
    decoding = request.decoding
    sampling: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
    }
    if decoding.min_p > 0:
        sampling["min_p"] = decoding.min_p
    if decoding.repetition_penalty != 1:
        sampling["repetition_penalty"] = decoding.repetition_penalty
    if decoding.stop:
        sampling["stop"] = list(decoding.stop)
    return sampling


def read_answer(body: Any, question: Question) -> Answer:
    """The answer in a decoded body; n_out is -1 where the server does not count. Raises BadAnswer."""
    try:
        first = body["choices"][0]
        reason = first["finish_reason"]
        text = first["text"] if "prompt" in question.payload else first["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise BadAnswer(f"an answer without {error}" if isinstance(error, KeyError) else "no choices") from None
    if reason in ("content_filter", "tool_calls", "function_call"):
        return Unanswered("server_error", f"the server ended the answer with finish_reason {reason}")
    if reason not in ("stop", "length"):
        raise BadAnswer(f"finish_reason {reason!r}")
    if text is None and reason == "length":  # a model that was still thinking when its tokens ran out
        text = ""
    if not isinstance(text, str):
        raise BadAnswer(f"a text that is {type(text).__name__}")
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    n_in, n_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Generation(
        text,
        "stop" if reason == "stop" else "length",
        n_in if isinstance(n_in, int) else question.n_in,
        n_out if isinstance(n_out, int) else -1,
        _choices(first, question.choices) if question.choices else None,
    )


def _choices(first: Mapping[str, Any], choices: Mapping[str, int]) -> dict[str, float]:
    try:
        likely = first["logprobs"]["top_logprobs"][0]
        return {choice: float(likely[f"token_id:{token}"]) for choice, token in choices.items()}
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadAnswer("an answer without the log-probabilities of the choices") from None
