"""Language models in torch for raters: found in a local folder, known by their checksum, loaded once a process.

Weights are read from safetensors files only, because other formats can run code while they are read, and code that
comes with a model is never run. Parts that a folder does not hold would be filled with random numbers by the library
that loads it; here they are refused. What decides the last bits of a score (device, dtype, threads, padded batches)
is part of a rater's identity.

Run it:  loaded = load("AutoModelForSequenceClassification", local_model("models/edu", Path("models/edu")), Compute())
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from corpus.config import Count
from corpus.errors import ArtifactError, ConfigError, EnvironmentProblem, InputError
from corpus.fingerprints import file_checksum, fingerprint
from raters.base import Fitting, RaterSettings
from rephrase.packaged_models import PACKAGED, model_folder

ModelKind = Literal["AutoModel", "AutoModelForSequenceClassification", "AutoModelForCausalLM"]
"""The transformers class that reads a folder: hidden states, class logits, or next-token logits."""

_READ = {".json", ".safetensors", ".jinja", ".model", ".txt"}
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_ROBERTA = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "esm", "xmod"}
"""Families that number positions from pad_token_id + 1, so that their tables hold fewer usable positions."""


@dataclass(frozen=True)
class Compute:
    """Where and how a model computes: all of it resolved, nothing `auto`, so that it can stand in an identity."""

    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["bfloat16", "float32"] = "float32"
    threads: int = 1
    batch_tokens: int = 4_096


ONE_CORE = Compute()
"""One thread of a CPU, in float32."""


@dataclass(frozen=True)
class LocalModel:
    """A model folder and the checksum of what transformers reads in it; `path` is not part of an identity."""

    path: str
    checksum: str


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to compute.

    Args:
        tokenizer: the folder's own; names of special tokens inside a text are text to it.
        model: in evaluation mode, on its device.
        pad: the id that fills rows of a batch.
        prefix, suffix: the special tokens the tokenizer puts around a text.
    """

    tokenizer: Any
    model: Any
    pad: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


class TorchSettings(RaterSettings):
    """The base of settings of raters that compute with a torch model."""

    model: str = Field(
        description="a Hugging Face folder (config.json, tokenizer, *.safetensors), relative to the recipe, or a "
        "packaged model's name"
    )
    max_length: int = Field(512, ge=8, description="tokens read at once, special tokens included")
    batch_tokens: Count | None = Field(
        None, ge=1, description="padded tokens computed at once; null: 4,096 on a CPU, 32,768 on a GPU"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 on a GPU, float32 on a CPU"
    )
    threads: int = Field(1, ge=1, description="CPU threads of each worker process; another number, other last bits")

    def compute(self) -> Compute:
        """Resolve `auto`. Raises EnvironmentProblem where torch or the GPU that was asked for is missing."""
        has_gpu = import_torch().cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise EnvironmentProblem("there is no GPU for this rater", expected="a CUDA device", fix="set device: auto")
        device: Literal["cpu", "cuda"] = "cuda" if has_gpu and self.device != "cpu" else "cpu"
        usual: Literal["bfloat16", "float32"] = "bfloat16" if device == "cuda" else "float32"
        tokens = self.batch_tokens or (32_768 if device == "cuda" else 4_096)  # more made one core slower: its caches
        return Compute(device, usual if self.dtype == "auto" else self.dtype, self.threads, tokens)

    def local_model(self, fitting: Fitting, named: str | None = None) -> tuple[LocalModel, Any]:
        """Find the folder (`named`, or else `model`) and its transformers configuration, and check `max_length`."""
        wanted = named or self.model
        found = local_model(wanted, fitting.path(Path(wanted)))
        config = read_config(found)
        check_length(config, self.max_length, found.path)
        return found, config


def local_model(wanted: str, path: Path) -> LocalModel:
    """The model packaged as `wanted`, or else the folder at `path`, which must be whole.

    Raises ConfigError where there is no model folder, InputError for one without weights that are safe to read or
    without a tokenizer.
    """
    folder = model_folder(wanted).path if wanted in PACKAGED else path
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"there is no model {wanted!r}", expected=f"a Hugging Face folder, or {', '.join(PACKAGED)}",
            found="a folder without config.json" if folder.is_dir() else "no such folder", where=str(folder),
        )  # fmt: skip
    if not any(folder.glob("*.safetensors")):
        others = sorted(file.name for file in folder.iterdir() if file.suffix in {".bin", ".pt", ".pth", ".h5"})
        raise InputError(
            "this model folder holds no weights that are safe to read", expected="*.safetensors",
            found=", ".join(others) or "none", where=str(folder),
            fix="save the model again with save_pretrained, which writes safetensors: other files can run code",
        )  # fmt: skip
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise InputError(
            "this model folder holds no tokenizer", expected=f"one of {', '.join(_TOKENIZERS)}", where=str(folder),
            fix="copy the tokenizer's files from where the model comes from; another model's gives wrong scores",
        )  # fmt: skip
    return LocalModel(str(folder), _checksum(folder))


def _checksum(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.suffix in _READ and file.is_file())
    return fingerprint({file.name: file_checksum(file) for file in files})


def read_config(model: LocalModel) -> Any:
    """The folder's transformers configuration. Raises InputError for one that transformers does not know."""
    transformers = import_transformers()
    with _readable(model.path):
        return transformers.AutoConfig.from_pretrained(model.path, local_files_only=True, trust_remote_code=False)


def check_length(config: Any, max_length: int, where: str) -> None:
    """Raise ConfigError when a model has fewer positions than `max_length`."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if positions and text.model_type in _ROBERTA:
        positions -= (text.pad_token_id or 0) + 1
    if positions and max_length > positions:
        raise ConfigError(
            "max_length is longer than this model reads", expected=f"at most {positions}", found=str(max_length),
            where=where, fix=f"set max_length: {positions}",
        )  # fmt: skip


@lru_cache(maxsize=2)
def load(kind: ModelKind, model: LocalModel, compute: Compute) -> LoadedModel:
    """Load a folder once a process; two models are held, which is what a pair needs.

    Raises ArtifactError when the folder changed since the rater was made, InputError when it cannot be read or does
    not hold every part of the model, EnvironmentProblem without torch, transformers or the GPU.
    """
    torch, transformers = import_torch(), import_transformers()
    folder = Path(model.path)
    found = _checksum(folder) if folder.is_dir() else ""
    if found != model.checksum:
        raise ArtifactError(
            "the model was changed or removed after the rater was made from it", expected=f"xxh3 {model.checksum}",
            found=f"xxh3 {found}" if found else "no such folder", where=model.path,
        )  # fmt: skip
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("this worker has no GPU", expected="a CUDA device, as where the rater was made")
    with _readable(model.path):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model.path, local_files_only=True, trust_remote_code=False, split_special_tokens=True
        )
        weights, report = getattr(transformers, kind).from_pretrained(
            model.path, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=getattr(torch, compute.dtype), output_loading_info=True,
        )  # fmt: skip
    _check_whole(kind, report["missing_keys"], model.path)
    _check_vocabulary(tokenizer, weights.config, model.path)
    prefix, suffix = _around(tokenizer)
    pad = _pad(tokenizer, weights.config, suffix)
    weights.config.get_text_config().pad_token_id = pad  # classifiers on a decoder look for the last other token
    return LoadedModel(tokenizer, weights.eval().to(compute.device), pad, prefix, suffix)


def _check_whole(kind: ModelKind, missing: set[str], where: str) -> None:
    """Parts that were not in the files hold random numbers; a pooler is one of them that embeddings do not use."""
    lost = sorted(key for key in missing if kind != "AutoModel" or not key.startswith("pooler."))
    if lost:
        raise InputError(
            "this model folder does not hold every part of the model", expected=f"the weights of {kind[4:] or kind}",
            found=f"{len(lost)} parts missing, such as {', '.join(lost[:3])}", where=where,
            fix="take a folder that was saved with them: a classifier's head cannot be guessed",
        )  # fmt: skip


def _check_vocabulary(tokenizer: Any, config: Any, where: str) -> None:
    size = getattr(config.get_text_config(), "vocab_size", None)
    if size and max(tokenizer.get_vocab().values(), default=size) >= size:
        raise InputError(
            "the tokenizer of this folder knows more tokens than the model: it belongs to another model",
            expected=f"at most {size:,} tokens", found=f"{len(tokenizer):,}", where=where,
        )  # fmt: skip


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens before and after a text, read off a text that is encoded with and without them."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return tuple(full[:start]), tuple(full[start + len(bare) :])


def _pad(tokenizer: Any, config: Any, suffix: tuple[int, ...]) -> int:
    """The configuration's id for padding, or else one that never ends a text, where it would be taken for padding."""
    configured = config.get_text_config().pad_token_id
    if configured is not None and configured >= 0:
        return int(configured)
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    return next((int(token) for token in known if token is not None and token not in suffix[-1:]), 0)


@contextmanager
def computing(compute: Compute) -> Iterator[None]:
    """Compute without gradients on the given number of threads, and give the threads back as they were."""
    torch = import_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(compute.threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what transformers raises for folders it cannot read into one error."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(
            "transformers cannot read this model folder", found=" ".join(str(error).split())[:300], where=where,
            fix="check that the folder is whole, and that this version of transformers has the architecture",
        ) from error  # fmt: skip


def import_torch() -> Any:
    """The torch module. Raises EnvironmentProblem where it is not installed."""
    try:
        import torch
    except ImportError:
        raise EnvironmentProblem("torch is not installed", fix="pip install 'gradatim[train,hf]'") from None
    return torch


def import_transformers() -> Any:
    """The transformers module, quiet and offline. Raises EnvironmentProblem where it is not installed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are many; each encodes on its own core
    try:
        import transformers
    except ImportError:
        raise EnvironmentProblem("transformers is not installed", fix="pip install 'gradatim[train,hf]'") from None
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers
