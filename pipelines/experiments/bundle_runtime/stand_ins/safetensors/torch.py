"""Tensors to the bytes of a safetensors file, in the library's order: wide types first, then by name."""

import json
from collections.abc import Mapping

import safetensors
import torch

_DTYPES: dict[str, torch.dtype] = safetensors.DTYPES  # type: ignore[attr-defined]
_RANKS = {dtype: (rank, name) for rank, (name, dtype) in enumerate(_DTYPES.items())}


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file that holds these tensors."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, position = [], 0
    for name in sorted(tensors, key=lambda name: (-_RANKS[tensors[name].dtype][0], name)):
        value = tensors[name].detach().cpu().contiguous()
        end = position + value.nbytes
        header[name] = {"dtype": _RANKS[value.dtype][1], "shape": list(value.shape), "data_offsets": [position, end]}
        parts.append(value.reshape(-1).view(torch.uint8).numpy().data)
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _getdtype(name: str) -> torch.dtype:
    """The type of a format's name; torch's reader of checkpoints asks for it."""
    return _DTYPES[name]
