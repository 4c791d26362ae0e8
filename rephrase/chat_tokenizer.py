"""A chat model's tokenizer: counts, prompts, and the tokens of choices, without the model.

Both generators share it, so one request is the same list of tokens for an engine in this process and for a server. A
document may hold the model's control tokens as text (`<|im_end|>`); inside a message they are disarmed by a blank
after their first character, so that no document can end its own turn. Control tokens are the special ones and those
that the chat template writes. Reasoning models are asked not to think aloud.

Counting goes straight to the `tokenizers` library; transformers is imported by the first prompt or count.

How it is used:  ChatTokenizer(folder).count_many(texts)
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from rephrase.generator import Message


class ChatTokenizer:
    """The tokenizer and the chat template of a Hugging Face folder; read when they are first needed.

    Args:
        folder: holds `tokenizer.json` (or what transformers can make one from) and a chat template.
        name: what errors call the model; null: the folder's name.
    """

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        self._folder, self._name = folder, name or folder.name

    def count(self, text: str) -> int:
        """Length of a plain text in tokens; no token is added at its begin or end."""
        return len(self._fast.encode(text, add_special_tokens=False))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Lengths of n plain texts in tokens, computed together."""
        return [len(encoded) for encoded in self._fast.encode_batch_fast(list(texts), add_special_tokens=False)]

    def prompt(self, messages: Sequence[Message], opening: str = "") -> list[int]:
        """Token ids of a chat and the begin of its answer; control tokens inside a message have no power.

        Raises ConfigError when the chat template refuses the chat.
        """
        return self._ids(self._chat(messages) + opening)

    def choices(
        self, messages: Sequence[Message], opening: str, choices: Sequence[str]
    ) -> tuple[list[int], dict[str, int]]:
        """The prompt after which each of n >= 1 choices is one token, and the token of each.

        Tokenizers differ in where a blank before a digit goes, so each choice is encoded in its place, after the
        opening; the prompt is what they share, and all but one last token must be shared. Raises ConfigError for
        choices that are not single tokens, or not different ones.
        """
        text = self._chat(messages) + opening
        whole = [self._ids(text + choice) for choice in choices]
        prompt = whole[0][:-1]
        tokens = {choice: ids[-1] for choice, ids in zip(choices, whole, strict=True)}
        if any(ids[:-1] != prompt for ids in whole) or len(set(tokens.values())) < len(whole):
            raise ConfigError(
                f"choices are not single tokens of {self._name}",
                expected=f"one different token each after {opening!r}",
                found=", ".join(f"{choice!r}: {len(ids)} tokens" for choice, ids in zip(choices, whole, strict=True)),
                fix="choose shorter ones, or ask for a free answer",
            )
        return prompt, tokens

    def disarmed(self, text: str) -> str:
        """The text with a blank after the first character of each control token."""
        return self._control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def _chat(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": self.disarmed(message.content)} for message in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )
        except TemplateError as error:
            raise ConfigError(
                f"the chat template of {self._name} refuses this chat",
                expected="turns that its template knows",
                found=f"turns {', '.join(message.role for message in messages)}: {error}",
                fix="leave `system` empty and say it in the template, or take another model",
            ) from error
        return text

    @cached_property
    def _tokenizer(self) -> Any:
        template_of(self._folder)  # an error that teaches before one that does not
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the tokenizer of {self._name} cannot be read",
                expected="tokenizer.json and tokenizer_config.json beside config.json",
                found=" ".join(str(error).split())[:200],
                where=str(self._folder),
            ) from error
        if not tokenizer.is_fast:
            raise ConfigError(
                f"the tokenizer of {self._name} has no tokenizer.json and cannot be converted to one",
                where=str(self._folder),
                fix="take a model with tokenizer.json",
            )
        return tokenizer

    @cached_property
    def _fast(self) -> Any:
        return self._tokenizer.backend_tokenizer

    @cached_property
    def _control(self) -> re.Pattern[str]:
        template = template_of(self._folder)
        added = self._tokenizer.added_tokens_decoder.values()
        names = {token.content for token in added if token.special or token.content in template}
        names = {name for name in names if len(name) > 1 and not name.isspace()}
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def chat_template_hash(folder: Path) -> str:
    """Identity of a model's chat template, 16 hex digits, from its files alone. Raises as `template_of`."""
    return fingerprint(template_of(folder))


def template_of(folder: Path) -> str:
    """The chat template of a Hugging Face folder, without transformers.

    Raises ConfigError where there is none: a base model was never taught to answer.
    """
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    given = settings.get("chat_template") if isinstance(settings, Mapping) else None
    if isinstance(given, list):  # several by name, as older folders have them
        given = next((item["template"] for item in given if item.get("name") == "default"), None)
    if not isinstance(given, str):
        raise ConfigError(
            "this model has no chat template, so it cannot be asked anything",
            expected="chat_template.jinja, or chat_template in tokenizer_config.json",
            where=str(folder),
            fix="take the instruction-tuned version of this model",
        )
    return given
