"""Whether a chunk is asked for again, and with how many tokens: what `Style.retry` means.

Two failures are worth a second try: an output cut at its limit (again with half as many tokens more) and an output that
is not in the form that was asked for (another draw). Every other failure would come again.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rephrase.attempts import Attempt
from rephrase.generator import GenerationRequest, Generator

if TYPE_CHECKING:
    from rephrase.style import Style

TRIES = 16  # more than any chunk is tried, so that tries and rollouts make one number
MORE_TOKENS = 1.5


def again(tried: Sequence[Attempt], style: "Style") -> bool:
    """Whether the last of the tries at a chunk failed in a way that the style allows one more try for."""
    reason = tried[-1].verdict.reason
    allowed = style.retry.model_dump().get(reason or "", 0)
    return sum(attempt.verdict.reason == reason for attempt in tried) <= allowed and len(tried) < TRIES


def longer(request: GenerationRequest, tried: Sequence[Attempt], generator: Generator) -> GenerationRequest:
    """The request with half as many output tokens more for each try that was cut, as far as the context allows."""
    cut = sum(attempt.verdict.reason == "finished" for attempt in tried)
    if not cut:
        return request
    room = generator.max_context - generator.count_prompt(request.messages, request.opening)
    return dataclasses.replace(request, max_tokens=min(room, math.ceil(MORE_TOKENS**cut * request.max_tokens)))
