"""A generator over servers: the offline engine's identity where a server tells it, and little claimed where not."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from corpus.config import validated
from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from rephrase.chat_tokenizer import ChatTokenizer
from rephrase.generator import Decoding, Generation, GenerationRequest, Message
from rephrase.packaged_models import weights_of
from rephrase.served_name import full_name, told_identity
from rephrase.server_generator import ServerGenerator, server_identity
from rephrase.server_settings import ServerSettings
from tests.rephrase.scripted_server import ScriptedServer

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOLD = {"model": "toy", "weights": "0a" * 8, "chat_template": fingerprint(TEMPLATE), "dtype": "bfloat16"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tokenizer of bytes with three control tokens, and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("toy")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|user|>", "<|assistant|>", "<|end|>"])
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def decode(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def settings(server: ScriptedServer, folder: Path | None, **more: object) -> ServerSettings:
    given = {"urls": [server.url], "model": "toy", "tokenizer": folder and str(folder), "retry_after": 0.01, **more}
    return validated(ServerSettings, given, "test")


def asked(text: str, **more: object) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), 20, **more)


def told_server(decode, **more: object) -> ScriptedServer:
    names = {"toy": 512, full_name(TOLD): 512}
    return ScriptedServer(names=names, version="0.32.0", decode=decode, **more)


def test_of_a_server_that_tells_the_identity_is_the_offline_engines(folder, decode, tmp_path):
    with (
        told_server(decode) as server,
        closing(ServerGenerator(settings(server, folder), log=tmp_path / "log")) as generator,
    ):
        assert generator.identity == {**TOLD, "engine": "vllm", "engine_version": "0.32.0"}
        assert server_identity(settings(server, folder)) == generator.identity
        assert generator.max_context == 512


def test_prompts_go_out_as_the_tokens_of_the_local_template_with_control_tokens_disarmed(folder, decode, tmp_path):
    request = asked("a <|end|> b", opening="So", decoding=Decoding(temperature=0.7, min_p=0.1, stop=("x",)))
    with (
        told_server(decode) as server,
        closing(ServerGenerator(settings(server, folder), log=tmp_path / "log")) as generator,
    ):
        ((place, answer),) = generator.generate([request], seed=1)
        n_in = generator.count_prompt(request.messages, "So")
    (payload,) = server.payloads
    assert payload["prompt"] == ChatTokenizer(folder).prompt(request.messages, "So")
    assert decode(payload["prompt"]) == "<|user|>a < |end|> b<|end|><|assistant|>So"
    assert payload | {"prompt": None} == {
        "model": full_name(TOLD), "prompt": None, "max_tokens": 20, "temperature": 0.7, "top_p": 1.0, "min_p": 0.1,
        "stop": ["x"],
    }  # fmt: skip
    text = decode(payload["prompt"]).upper()
    assert (place, answer) == (0, Generation(text, "stop", 1000 + len(text), len(text)))
    assert n_in == len(payload["prompt"])


def test_tokens_are_counted_here_where_the_server_does_not_say(folder, decode, tmp_path):
    with (
        told_server(decode, usage=False) as server,
        closing(ServerGenerator(settings(server, folder), log=tmp_path / "log")) as generator,
    ):
        ((_, answer),) = generator.generate([asked("héé")], seed=1)
    assert isinstance(answer, Generation)
    assert answer.n_in == len(server.payloads[0]["prompt"])
    assert answer.n_out == len(answer.text.encode())


def test_choices_come_back_as_the_log_probabilities_of_their_tokens(folder, decode, tmp_path):
    request = asked("how good?", opening="Score: ", choices=("1", "2"))
    with (
        told_server(decode) as server,
        closing(ServerGenerator(settings(server, folder), log=tmp_path / "log")) as generator,
    ):
        ((_, answer),) = generator.generate([request], seed=1)
    _, tokens = ChatTokenizer(folder).choices(request.messages, request.opening, request.choices)
    assert isinstance(answer, Generation)
    assert answer.choices == {choice: -token / 100 for choice, token in tokens.items()}


def test_another_server_is_asked_by_chat_and_its_identity_claims_little(folder, tmp_path):
    with ScriptedServer(names={"toy": 512}) as server:
        with closing(ServerGenerator(settings(server, folder, revision="2026-01"), log=tmp_path / "log")) as generator:
            assert generator.identity == {
                "model": "toy", "weights": "2026-01", "chat_template": "server", "dtype": "server",
                "engine": "openai", "engine_version": "unknown",
            }  # fmt: skip
            ((_, answer),) = generator.generate([asked("a <|end|> b")], seed=1)
            for refused in (asked("x", choices=("1", "2")), asked("x", opening="So")):
                with pytest.raises(ConfigError, match="needs prompts that are tokenised here"):
                    list(generator.generate([refused], seed=1))
        assert server_identity(settings(server, folder))["weights"] == "unknown"
    (payload,) = server.payloads
    assert payload["messages"] == [{"role": "user", "content": "a < |end|> b"}]
    assert isinstance(answer, Generation)
    assert answer.text == "A < |END|> B"


def test_any_server_may_be_asked_for_completions_with_the_local_template(folder, decode, tmp_path):
    with ScriptedServer(names={"toy": 512}, decode=decode) as server:
        wanted = settings(server, folder, api="completions")
        with closing(ServerGenerator(wanted, log=tmp_path / "log")) as generator:
            assert generator.identity["chat_template"] == TOLD["chat_template"]
            assert generator.identity["engine"] == "openai"
            ((_, answer),) = generator.generate([asked("x", opening="So")], seed=1)
    assert isinstance(answer, Generation)
    assert answer.text.endswith("SO")


def test_a_request_longer_than_the_context_is_refused_before_the_first_answer(folder, decode, tmp_path):
    with (
        told_server(decode) as server,
        closing(ServerGenerator(settings(server, folder), log=tmp_path / "log")) as generator,
        pytest.raises(ConfigError, match="longer than the generator's context"),
    ):
        next(generator.generate([asked("a"), asked("b" * 600)], seed=1))


def test_another_chat_template_or_other_weights_are_refused(folder, decode, tmp_path):
    with told_server(decode) as server:
        other = tmp_path / "other"
        other.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (other / file).write_text((folder / file).read_text().replace("add_generation_prompt", "true"))
        with pytest.raises(ConfigError, match="another model than the local one: other chat template"):
            ServerGenerator(settings(server, other), log=tmp_path / "log")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (other / file).write_text((folder / file).read_text())
        (other / "config.json").write_text("{}")
        (other / "model.safetensors").write_bytes(b"weights")
        with pytest.raises(ConfigError, match="another model than the local one: other weights") as caught:
            ServerGenerator(settings(server, other), log=tmp_path / "log")
        assert weights_of(str(other)) in caught.value.expected


def test_what_is_missing_is_named(folder, decode, tmp_path):
    with ScriptedServer(names={"toy": None}, decode=decode) as server:
        with pytest.raises(ConfigError, match="there is no tokenizer for the served model 'toy'"):
            ServerGenerator(settings(server, None), log=tmp_path / "log")
        with pytest.raises(ConfigError, match="does not say how long the context") as caught:
            ServerGenerator(settings(server, folder), log=tmp_path / "log")
        assert caught.value.where == "max_context"
        with closing(ServerGenerator(settings(server, folder, max_context=700), log=tmp_path / "log")) as generator:
            assert generator.max_context == 700


@pytest.mark.parametrize("dtype", ["bfloat16", "float16-fp8", "bfloat16-ngram-6-2-4"])
@pytest.mark.parametrize("model", ["toy", "org/a.b@c-1", "smollm2-135m-instruct"])
def test_a_full_name_tells_what_it_was_made_of(model, dtype):
    identity = {**TOLD, "model": model, "dtype": dtype}
    assert told_identity(full_name(identity)) == identity


@pytest.mark.parametrize("name", ["toy", "toy@aa.bb", "toy@xy.zz.bfloat16", "@aa.bb.f", "toy@aa.bb.BF"])
def test_other_names_tell_nothing(name):
    assert told_identity(name) is None
