"""A generator over OpenAI-compatible servers: the same requests, counts and cache keys as the engine in this process.

Of a server that `gradatim serve` started the identity is known: prompts are tokenised here and sent as token ids, and
the identity equals the offline engine's, so both find each other's answers in one cache. Any other server is asked by
chat, under an identity that says how little is known of it: `weights` is the settings' `revision`, or "unknown".

How it is used:  with closing(ServerGenerator(settings, log=log)) as generator: generator.generate(requests, seed=0)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from corpus.config import nearest
from corpus.errors import ConfigError
from rephrase.chat_tokenizer import ChatTokenizer, chat_template_hash
from rephrase.generator import Answer, Generation, GenerationRequest, Message
from rephrase.model_tokens import ModelTokens
from rephrase.openai_protocol import Question, chat, completion, trivial
from rephrase.packaged_models import PACKAGED, model_folder, weights_of
from rephrase.served_name import told_identity
from rephrase.server_client import ServerClient
from rephrase.server_identity import Served
from rephrase.server_settings import ServerSettings


class ServerGenerator(ModelTokens):
    """A generator (see rephrase.generator) over one or more servers of one model.

    Opening it asks the servers what they serve and waits for the first one as long as `patience`.

    Args:
        settings: see ServerSettings.
        log: file that takes a line whenever a server is set aside or comes back.

    Raises ConfigError for a wrong URL, key, model or tokenizer, for servers that differ, and for a server whose model
    is another one than the local folder's; EnvironmentProblem when no server answers.
    """

    def __init__(self, settings: ServerSettings, *, log: Path) -> None:
        self._settings = settings
        folder = _tokenizer_folder(settings)
        self._tokenizer = ChatTokenizer(folder, name=settings.model)
        self._client = ServerClient(settings, log=log)
        try:
            self._served = self._client.connect()
            self._identity = _identity(settings, self._served, folder)
            self._completions = _by_completions(settings, self._served)
            self._max_context = _max_context(settings, self._served)
            self._arm()
        except BaseException:
            self._client.close()
            raise

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they finish; see Generator, which says what is refused.

        `seed` is not sent: servers draw for many at once, so reproducibility comes from the cache. Requests still
        under way when the iterator is closed are given up.
        """
        batch = self._client.batch()
        try:
            for place, request in enumerate(requests):
                batch.add(place, self._question(request))  # on its way while the next one is tokenised
            for place, answer in batch.answers():
                yield place, self._counted(answer)
        finally:
            batch.cancel()

    def close(self) -> None:
        """Give up what is in flight and close all connections; the generator answers nothing more."""
        self._client.close()

    def _question(self, request: GenerationRequest) -> Question:
        """A request as it goes out. Raises ConfigError for what cannot be asked."""
        if not self._completions:
            self._check_chat(request)
        if request.choices:
            prompt, tokens = self._tokenizer.choices(request.messages, request.opening, request.choices)
        else:
            prompt, tokens = self._tokenizer.prompt(request.messages, request.opening), {}
        if len(prompt) + request.max_tokens > self._max_context:
            raise ConfigError(
                "a request is longer than the generator's context",
                expected=f"at most {self._max_context:,} tokens",
                found=f"{len(prompt):,} of prompt and up to {request.max_tokens:,} of output",
                fix="shorten it, or start the server with a longer context if the model allows more",
            )
        if self._completions:
            return completion(self._served.name, request, prompt, tokens)
        contents = [self._tokenizer.disarmed(message.content) for message in request.messages]
        return chat(self._served.name, request, contents, len(prompt))

    def _check_chat(self, request: GenerationRequest) -> None:
        wants = "choices" if request.choices else "an opening" if request.opening else None
        if wants:
            raise ConfigError(
                f"a request has {wants}, which needs prompts that are tokenised here",
                expected="a server started by `gradatim serve`, or any vLLM server with api: completions",
                found=f"{self._settings.urls[0]}, asked by chat",
                where="api",
            )

    def _arm(self) -> None:
        """Give the client the shortest request of this kind, which tells a healthy server from a sick one."""
        request = GenerationRequest((Message("user", "Hello"),), 1)
        prompt = self._tokenizer.prompt(request.messages)
        question = (
            completion(self._served.name, request, prompt, {})
            if self._completions
            else chat(self._served.name, request, ["Hello"], len(prompt))
        )
        self._client.arm(trivial(question, prompt), prompt)

    def _counted(self, answer: Answer) -> Answer:
        if isinstance(answer, Generation) and answer.n_out < 0:
            return replace(answer, n_out=self._tokenizer.count(answer.text))
        return answer


def server_identity(settings: ServerSettings) -> dict[str, str]:
    """The identity that a ServerGenerator with these settings has; raises as that does."""
    folder = _tokenizer_folder(settings)
    client = ServerClient(settings)
    try:
        return _identity(settings, client.connect(), folder)
    finally:
        client.close()


def _tokenizer_folder(settings: ServerSettings) -> Path:
    told = told_identity(settings.model)
    name = settings.tokenizer or (told["model"] if told else settings.model)
    if name in PACKAGED:
        return model_folder(name).path
    folder = Path(name).expanduser()
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        raise ConfigError(
            f"there is no tokenizer for the served model {settings.model!r}",
            expected="a folder with tokenizer.json, tokenizer_config.json and the chat template; no weights are needed",
            found=f"tokenizer: {settings.tokenizer or 'null'}{nearest(name, PACKAGED) if settings.tokenizer else ''}",
            where="tokenizer",
            fix="copy those files from the model's folder, and name theirs",
        )
    return folder


def _identity(settings: ServerSettings, served: Served, folder: Path) -> dict[str, str]:
    """What cache keys say of the model; raises ConfigError when the local folder is another model."""
    if served.told and settings.api != "chat":
        _must_match(settings, served.told, folder)
        return {**served.told, "engine": "vllm", "engine_version": served.version}
    return {
        "model": settings.model,
        "weights": settings.revision or "unknown",
        "chat_template": chat_template_hash(folder) if settings.api == "completions" else "server",
        "dtype": "server",
        "engine": "openai",
        "engine_version": served.version,
    }


def _must_match(settings: ServerSettings, told: Mapping[str, str], folder: Path) -> None:
    local = {"chat_template": chat_template_hash(folder)}
    if any(folder.glob("*.safetensors")):
        name = settings.tokenizer or told["model"]
        local["weights"] = _weights(name if name in PACKAGED else str(folder))
    for part, hashed in local.items():
        if hashed != told[part]:
            raise ConfigError(
                f"the server serves another model than the local one: other {part.replace('_', ' ')}",
                expected=f"{hashed}, of {folder}",
                found=f"{told[part]}, served as {settings.model} by {settings.urls[0]}",
                where="tokenizer",
                fix="name the folder that is served, or serve this one",
            )


_weights = cache(weights_of)  # a folder's weights are read once a process


def _by_completions(settings: ServerSettings, served: Served) -> bool:
    return settings.api == "completions" or (settings.api == "auto" and served.told is not None)


def _max_context(settings: ServerSettings, served: Served) -> int:
    if settings.max_context is None and served.max_context is None:
        raise ConfigError(
            f"{settings.urls[0]} does not say how long the context of {settings.model} is",
            where="max_context",
            fix="set max_context to the tokens that a prompt and its answer may have together",
        )
    lengths = [length for length in (settings.max_context, served.max_context) if length is not None]
    if settings.max_context and served.max_context and settings.max_context > served.max_context:
        raise ConfigError(
            f"max_context is {settings.max_context:,}, more than the server allows",
            expected=f"at most {served.max_context:,} tokens",
            where="max_context",
        )
    return min(lengths)
