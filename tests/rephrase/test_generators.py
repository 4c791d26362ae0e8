"""Settings name a generator by its kind; both kinds open without an engine."""

from pathlib import Path

import pytest

from corpus.config import Config, validated
from corpus.errors import ConfigError
from rephrase.generators import AnyGenerator, found_beside, generator_identity, open_generator
from rephrase.server_settings import ServerSettings
from rephrase.vllm_engine import VllmGenerator
from rephrase.vllm_settings import VllmSettings


class Recipe(Config):
    """Something that has a generator."""

    generator: AnyGenerator = VllmSettings()


def read(given):
    return validated(Recipe, {"generator": given}, "recipe").generator


@pytest.fixture
def model(tmp_path):
    """A model's folder without weights that could be loaded."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 777}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_kind_decides_and_vllm_is_meant_where_none_is_given():
    assert read({"model": "x"}) == VllmSettings(model="x")
    assert read({"kind": "vllm", "threads": 2}) == VllmSettings(threads=2)
    server = read({"kind": "server", "urls": ["http://localhost:8000/v1"], "model": "x"})
    assert server == ServerSettings(urls=("http://localhost:8000/v1",), model="x")
    assert Recipe().generator == VllmSettings()
    assert validated(Recipe, Recipe(generator=server).model_dump(mode="json"), "recipe").generator == server


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "sever"}, "no kind 'sever'; did you mean 'server'"),
        ({"modle": "x"}, "did you mean 'model'"),
        ({"kind": "server", "model": "x", "url": []}, "urls"),
    ],
)
def test_wrong_settings_name_the_key(given, message):
    with pytest.raises(ConfigError, match=message):
        read(given)


def test_an_engine_is_opened_and_named_without_starting(model, tmp_path):
    pytest.importorskip("vllm")
    settings = VllmSettings(model=str(model), dtype="float32")
    generator = open_generator(settings, log=tmp_path / "log")
    assert isinstance(generator, VllmGenerator)
    assert dict(generator.identity) == generator_identity(settings)
    assert generator.identity["model"] == "tiny"
    assert generator.max_context == 777
    generator.close()
    longer = settings.model_copy(update={"max_context": 4_096})
    with pytest.raises(ConfigError, match="more than the model was made for"):
        open_generator(longer, log=tmp_path / "log")


def test_a_model_beside_the_recipe_is_found_and_a_name_stays_a_name(model, tmp_path):
    def place(path: Path) -> Path:
        return tmp_path / path

    assert found_beside(VllmSettings(model="tiny"), place) == VllmSettings(model=str(model))
    assert found_beside(VllmSettings(), place) == VllmSettings()
    server = ServerSettings(urls=("http://h/v1",), model="tiny")
    assert found_beside(server, place) == server
    told = server.model_copy(update={"tokenizer": "tiny"})
    assert found_beside(told, place) == server.model_copy(update={"tokenizer": str(model)})
