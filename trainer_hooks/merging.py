"""Merge the weights of checkpoints into one set, as files, after training.

One tensor of one checkpoint is in memory at a time, beside the tensor that is being merged, so models of any size are
merged on a small machine. The rule and its order are those of `trainer_hooks.averaging`: in float32 the result is the
running average of the same marks, bit for bit, where that ran on a CPU.

    chosen = checkpoints_of(Path("runs/climb"), LastCheckpoints(kind="wma"))
    manifest = merge(chosen, Path("merged.safetensors"))     # and merged.json: what it is made of
    tensors = read_weights(Path("merged.safetensors"))       # or open_weights, which reads one tensor at a time
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from corpus.config import nearest
from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import file_checksum
from corpus.shards import atomic_path, write_text
from corpus.version import VERSION
from trainer_hooks.averaging import check_names, step_towards
from trainer_hooks.averaging_rules import decay_from_coefficients, step_sizes
from trainer_hooks.checkpoints import STATE
from trainer_hooks.merge_choice import Chosen
from trainer_hooks.stored_weights import StoredWeights, open_weights, read_weights
from trainer_hooks.tensor_file import write_tensor_file

__all__ = ["merge", "merged_tensors", "open_weights", "read_weights"]
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
DTYPES = {**PRECISIONS, "bfloat16": torch.bfloat16, "float16": torch.float16}


def merged_tensors(
    sources: Sequence[Mapping[str, torch.Tensor]], coefficients: Sequence[float], accumulate: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    """The merged tensors, one after the other in name order; a source is asked for one tensor at a time.

    Floating tensors are merged in `accumulate` and stay so; others come from the newest source.
    """
    sizes = step_sizes(coefficients)
    for name in sorted(sources[0]):
        newest = sources[-1][name]
        if not newest.is_floating_point():
            yield name, newest
            continue
        mean = torch.zeros_like(newest, dtype=accumulate)
        del newest
        for source, size in zip(sources, sizes, strict=True):
            step_towards({name: mean}, {name: source[name]}, float(size))
        yield name, mean


def merge(
    asked: Chosen,
    to: Path,
    *,
    dtype: str = "float32",
    accumulate: str = "float32",
    prefix: str | None = None,
    trust_dcp: bool = False,
) -> dict[str, Any]:
    """Write the merged weights to a safetensors file, and beside it a JSON manifest, which is returned.

    Args:
        dtype: of the result's floating tensors, rounded once at the end: float32, float64, bfloat16 or float16.
        accumulate: the type the mean is taken in, float32 or float64.
        prefix, trust_dcp: as `open_weights`.

    Raises ArtifactError where checkpoints are damaged or disagree about names, shapes or kinds of tensors;
    ConfigError for an unknown type or a file that is not called .safetensors.
    """
    for value, known in ((dtype, DTYPES), (accumulate, PRECISIONS)):
        if value not in known:
            raise ConfigError(f"weights cannot be merged in {value!r}{nearest(value, known)}")
    if to.suffix != ".safetensors":
        raise ConfigError("merged weights are one safetensors file", expected="a name ending in .safetensors",
                          found=to.name)  # fmt: skip
    with torch.no_grad(), ExitStack() as stack:
        opened = [stack.enter_context(open_weights(p, prefix=prefix, trust_dcp=trust_dcp)) for p in asked.paths]
        _check_agreement(opened)
        parts = [_identity(source) for source in opened]
        facts = {
            name: (fact.shape, DTYPES[dtype] if fact.dtype.is_floating_point else fact.dtype)
            for name, fact in opened[0].facts.items()
        }
        with atomic_path(to) as temporary:
            write_tensor_file(temporary, facts, merged_tensors(opened, asked.coefficients, PRECISIONS[accumulate]))
    result = {"xxh3": file_checksum(to), "dtype": dtype, "accumulated_in": accumulate, "tensors": len(facts)}
    manifest = _manifest(asked, parts, result)
    write_text(to.with_suffix(".json"), json.dumps(manifest, indent=1) + "\n")
    return manifest


def _manifest(asked: Chosen, parts: list[dict[str, str]], facts: dict[str, Any]) -> dict[str, Any]:
    tokens = asked.tokens or [None] * len(asked.paths)
    return {
        "kind": "merge",
        "code": VERSION,
        "settings": asked.average.model_dump(mode="json"),
        **facts,
        "checkpoints": [
            {"name": path.name, "tokens": position, "coefficient": coefficient, "files_xxh3": sums}
            for path, position, coefficient, sums in zip(asked.paths, tokens, asked.coefficients, parts, strict=True)
        ],
        "implied_decay": decay_from_coefficients(asked.coefficients).tolist(),
        "warnings": list(asked.warnings),
    }


def _check_agreement(sources: list[StoredWeights]) -> None:
    first = sources[0]
    for source in sources[1:]:
        check_names(first, source, str(source.where))
        for name, (shape, dtype) in source.facts.items():
            wanted = first.facts[name]
            if shape != wanted.shape or dtype.is_floating_point != wanted.dtype.is_floating_point:
                raise ArtifactError(
                    f"checkpoints disagree about {name}",
                    where=str(source.where),
                    expected=f"{list(wanted.shape)} {wanted.dtype}, as in {first.where}",
                    found=f"{list(shape)} {dtype}",
                )


def _identity(source: StoredWeights) -> dict[str, str]:
    """The checksum of each file that is merged, compared with what a checkpoint of ours recorded."""
    state = source.where / STATE
    recorded = json.loads(state.read_text(encoding="utf-8")).get("checksums", {}) if state.exists() else {}
    sums = {file.name: file_checksum(file) for file in source.files}
    for name, checksum in sums.items():
        if recorded.get(name, checksum) != checksum:
            raise ArtifactError(
                f"the checkpoint {source.where.name} is damaged",
                expected=f"{name} with checksum {recorded[name]}",
                found=checksum,
                where=str(source.where),
                fix="merge without it",
            )
    return sums
