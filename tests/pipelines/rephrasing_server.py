"""A server that rephrases by a rule (it swaps neighbouring words), and a tokenizer of words, for tests of runs."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.rephrase.scripted_server import ScriptedServer

_PASSAGE = re.compile(r"<(passage[-0-9]*)>\n(.*)\n</\1>", re.DOTALL)
TEMPLATE = (
    "{% for turn in messages %}{{ turn.role }} {{ turn.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


class RephrasingServer(ScriptedServer):
    """Answers a prompt with its passage, each pair of neighbouring words swapped; `said` replaces that text.

    `sent`: how often each whole chat was answered.
    """

    def __init__(self, *args: Any, said: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.said = said
        self.sent: Counter[str] = Counter()

    def _whole(self, text: str, payload: Mapping[str, Any]) -> Any:
        passage = _PASSAGE.search(text)
        assert passage, text
        self.sent[json.dumps(payload["messages"])] += 1
        said = swapped(passage[2]) if self.said is None else self.said
        choice = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(said.split())}
        return web.json_response({"choices": [choice], "usage": usage})


def swapped(text: str) -> str:
    """The text with each pair of neighbouring words in the other order."""
    words = text.split()
    return " ".join(word for at in range(0, len(words), 2) for word in reversed(words[at : at + 2]))


def tokenizer_folder(path: Path) -> Path:
    """A folder with a tokenizer that counts words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE).save_pretrained(path)
    return path


def generator(server: ScriptedServer, tokenizer: Path, **options: Any) -> str:
    """Settings of the server as a generator, as a command line gives them."""
    settings = {
        "kind": "server", "urls": [server.url], "model": "toy", "tokenizer": str(tokenizer), "api": "chat",
        "revision": "1", "max_context": 4096, "retry_after": 0.05, **options,
    }  # fmt: skip
    return yaml.safe_dump(settings, default_flow_style=True, width=10_000).strip()
