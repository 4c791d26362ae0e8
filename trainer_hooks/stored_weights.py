"""Read a model's weights by name from whatever holds them, one tensor at a time.

Known layouts: a safetensors file; a folder of them with or without an index, as Hugging Face exports are; a checkpoint
of ours or of torch.distributed.checkpoint in safetensors, whose tensors may lie in parts, one a rank; and a folder of
torch.distributed.checkpoint's own format, whose metadata is a pickle and is read only where its writer is trusted.

    with open_weights(Path("runs/climb/checkpoints/step-00000488")) as weights:      # a mapping, nothing is read yet
        weights["model.norm.weight"]
    tensors = read_weights(Path("export"))
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.checkpoints import MODEL, STATE
from trainer_hooks.tensor_file import DTYPES

INDEX = "model.safetensors.index.json"
_DCP_METADATA = ".metadata"
_OFFSETS = "DCP_SHARDING_INFO"


class TensorFacts(NamedTuple):
    """What a stored tensor is, without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class StoredWeights(Mapping[str, torch.Tensor]):
    """Weights on disk: a mapping that reads a tensor, whole and on the CPU, each time it is asked for one.

    Attributes:
        where: the file or folder; files: those that hold these tensors, by name.
        facts: shape and dtype of every tensor, by name, in name order.
    """

    where: Path
    files: tuple[Path, ...]
    facts: dict[str, TensorFacts]
    _read: Callable[[str], torch.Tensor]
    _open: ExitStack = field(default_factory=ExitStack)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.facts:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    def __enter__(self) -> "StoredWeights":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def open_weights(path: Path, *, prefix: str | None = None, trust_dcp: bool = False) -> StoredWeights:
    """Open the weights at a path; close them by using them in a `with`.

    Args:
        path: a safetensors file, or a folder in one of the module's layouts.
        prefix: only tensors whose name begins so, without it; None: the model's of a checkpoint of ours, else all.
        trust_dcp: read a folder whose metadata is a pickle; loading a pickle runs whatever code its writer put in it.

    Raises ArtifactError where there are no weights, a file is damaged, a checkpoint is not finished or a part of a
    tensor is missing; ConfigError for a pickle that is not trusted.
    """
    if path.is_dir() and (path / _DCP_METADATA).exists():
        return _from_dcp(path, prefix or "", trust_dcp)
    stack = ExitStack()
    try:
        return _from_safetensors(path, _files_of(path), prefix, stack)
    except SafetensorError as error:
        stack.close()
        raise ArtifactError(
            f"weights cannot be read: {error}", where=str(path), expected="whole safetensors files"
        ) from None


def read_weights(path: Path, *, prefix: str | None = None, trust_dcp: bool = False) -> dict[str, torch.Tensor]:
    """All weights at a path, by name, on the CPU in their stored dtype. Arguments and errors as `open_weights`."""
    with open_weights(path, prefix=prefix, trust_dcp=trust_dcp) as weights:
        return dict(weights)


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    unfinished = re.fullmatch(r"step-\d+", path.name) and not (path / STATE).exists()
    if unfinished or path.name.endswith(".unfinished"):
        raise ArtifactError("this checkpoint is not finished", where=str(path), expected=f"a {STATE}, written last")
    if (path / INDEX).exists():
        shards = json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        files = [path / name for name in sorted(set(shards))]
    else:
        files = sorted(path.glob("*.safetensors"))
    missing = [file.name for file in files if not file.exists()]
    if missing or not files:
        raise ArtifactError(
            f"{path} holds no weights" if not files else f"weights of {path} are missing",
            expected=", ".join(missing) or "a safetensors file, or a folder of them",
            found="" if path.is_dir() else "no such file or folder",
        )
    return files


class _Part(NamedTuple):
    """A stored piece of a tensor: from `offset` on, in a file that is open."""

    file: Any
    stored: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(start + length for start, length in zip(self.offset, self.shape, strict=True))


def _from_safetensors(where: Path, paths: Iterable[Path], prefix: str | None, stack: ExitStack) -> StoredWeights:
    opened = {path: stack.enter_context(safe_open(str(path), framework="pt")) for path in paths}
    if prefix is None:
        own = any(name.startswith(f"{MODEL}|") for file in opened.values() for name in file.keys())  # noqa: SIM118
        prefix = f"{MODEL}|" if own else ""
    parts: dict[str, list[_Part]] = {}
    holding = []
    for path, file in opened.items():
        found = [part for part in _parts_in(file) if part.stored.startswith(prefix)]
        holding += [path] * bool(found)
        for part in found:
            parts.setdefault(part.stored.removeprefix(prefix), []).append(part)
    if not parts:
        raise ArtifactError(f"{where} holds no tensor whose name begins with {prefix!r}")
    facts = {name: _whole(name, parts[name], where) for name in sorted(parts)}
    return StoredWeights(where, tuple(holding), facts, lambda name: _joined(parts[name], facts[name]), stack)


def _parts_in(file: Any) -> Iterator[_Part]:
    offsets = json.loads((file.metadata() or {}).get(_OFFSETS, "{}"))
    for name in file.keys():  # noqa: SIM118 (not a mapping)
        stored = file.get_slice(name)
        shape = tuple(stored.get_shape())
        offset = tuple(offsets[name]["saved_offsets"]) if name in offsets else (0,) * len(shape)
        yield _Part(file, name, offset, shape, DTYPES[stored.get_dtype()])


def _whole(name: str, parts: list[_Part], where: Path) -> TensorFacts:
    """The whole tensor that parts make up; they must cover it once."""
    shape = tuple(max(ends) for ends in zip(*(part.ends for part in parts), strict=True))
    if sum(prod(part.shape) for part in parts) != prod(shape) or len({part.offset for part in parts}) != len(parts):
        raise ArtifactError(
            f"the parts of {name} do not make up one tensor",
            where=str(where),
            expected=f"{list(shape)}, each value once",
            found=", ".join(f"{list(part.shape)} at {list(part.offset)}" for part in parts),
        )
    return TensorFacts(shape, parts[0].dtype)


def _joined(parts: list[_Part], facts: TensorFacts) -> torch.Tensor:
    if len(parts) == 1:
        single: torch.Tensor = parts[0].file.get_tensor(parts[0].stored)
        return single
    whole = torch.empty(facts.shape, dtype=facts.dtype)
    for part in parts:
        whole[tuple(map(slice, part.offset, part.ends))] = part.file.get_tensor(part.stored)
    return whole


def _from_dcp(folder: Path, prefix: str, trusted: bool) -> StoredWeights:
    if not trusted:
        raise ConfigError(
            f"{folder} is a checkpoint of torch.distributed.checkpoint, whose {_DCP_METADATA} is a pickle",
            expected="safetensors; loading a pickle runs any code that its writer put in it",
            fix="allow it with --trust-dcp if you know who wrote it, or convert it once",
        )
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader, metadata = _dcp_reader(folder)
    stored = {name: meta for name, meta in metadata.state_dict_metadata.items() if name.startswith(prefix)}
    facts = {
        name.removeprefix(prefix): TensorFacts(tuple(meta.size), meta.properties.dtype)
        for name, meta in sorted(stored.items())
        if isinstance(meta, TensorStorageMetadata)
    }
    if not facts:
        raise ArtifactError(f"{folder} holds no tensor whose name begins with {prefix!r}")

    def read(name: str) -> torch.Tensor:
        from torch.distributed.checkpoint.state_dict_loader import load

        whole = torch.empty(facts[name].shape, dtype=facts[name].dtype)
        load({f"{prefix}{name}": whole}, storage_reader=reader, no_dist=True)
        return whole

    return StoredWeights(folder, tuple(sorted(p for p in folder.iterdir() if p.is_file())), facts, read)


def _dcp_reader(folder: Path) -> tuple[Any, Any]:
    """A reader that loads its metadata once, not once a tensor, and that metadata."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    reader = FileSystemReader(folder)
    metadata = reader.read_metadata()
    reader.read_metadata = lambda *_, **__: metadata  # type: ignore[method-assign]
    return reader, metadata
