"""Write a safetensors file tensor by tensor, so that it may be larger than the memory.

The safetensors library wants all tensors at once. The format is a length, a JSON header and the values one after the
other, so with shapes and types known beforehand the values can follow as they are made.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import torch

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8


def write_tensor_file(
    path: Path,
    facts: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    tensors: Iterable[tuple[str, torch.Tensor]],
) -> None:
    """Write tensors in whatever order they come, each cast to its dtype; `facts` are shape and dtype by name.

    Wide types lie first, so that every tensor is aligned.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts, position = {}, 0
    for name in sorted(facts, key=lambda name: (-facts[name][1].itemsize, name)):
        shape, dtype = facts[name]
        starts[name], end = position, position + prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        begin = file.tell()
        for name, tensor in tensors:
            shape, dtype = facts[name]
            assert tuple(tensor.shape) == shape
            file.seek(begin + starts.pop(name))
            file.write(tensor.detach().to("cpu", dtype).contiguous().reshape(-1).view(torch.uint8).numpy().data)
    assert not starts, f"no values came for {sorted(starts)}"
