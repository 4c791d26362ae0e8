"""What both generators know of their model without asking it: its identity, its context, and how it counts tokens.

class ServerGenerator(ModelTokens): ...
"""

from collections.abc import Mapping, Sequence

from rephrase.chat_tokenizer import ChatTokenizer
from rephrase.generator import Message


class ModelTokens:
    """A generator's answers that need no engine; see rephrase.generator for what each member promises."""

    _identity: Mapping[str, str]
    _max_context: int
    _tokenizer: ChatTokenizer

    @property
    def identity(self) -> Mapping[str, str]:
        """All that may change a text: model, weights, chat template, dtype, engine, engine version."""
        return self._identity

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and output together."""
        return self._max_context

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in the model's tokens."""
        return self._tokenizer.count(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Lengths of n plain texts in the model's tokens, computed together."""
        return self._tokenizer.count_many(texts)

    def count_prompt(self, messages: Sequence[Message], opening: str = "") -> int:
        """Length of a whole prompt in the model's tokens, by the local chat template."""
        return len(self._tokenizer.prompt(messages, opening))
