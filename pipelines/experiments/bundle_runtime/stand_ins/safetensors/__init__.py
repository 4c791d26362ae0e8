"""Reading safetensors files: what a bundle needs of the package. The format is a length, a JSON header, and values."""

import json
import os
from pathlib import Path
from typing import Any

import torch as pytorch  # this package has a module of that name, too

DTYPES = {
    "BOOL": pytorch.bool, "U8": pytorch.uint8, "I8": pytorch.int8, "F8_E5M2": pytorch.float8_e5m2,
    "F8_E4M3": pytorch.float8_e4m3fn, "I16": pytorch.int16, "F16": pytorch.float16, "BF16": pytorch.bfloat16,
    "I32": pytorch.int32, "F32": pytorch.float32, "F64": pytorch.float64, "I64": pytorch.int64,
}  # fmt: skip
"""By name, in the order in which the library ranks them; files begin with the last."""


class SafetensorError(Exception):
    """A file that is not whole, or not one of safetensors."""


class safe_open:
    """A file that is open for reading tensors by name."""

    def __init__(self, filename: str | os.PathLike[str], framework: str = "pt", device: str = "cpu") -> None:
        self._path = Path(filename)
        with self._path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                self._header: dict[str, Any] = json.loads(file.read(size)) if size < 1 << 30 else {}
            except ValueError:
                raise SafetensorError(f"{self._path.name} has no header") from None
        self._facts: dict[str, str] | None = self._header.pop("__metadata__", None)
        self._begin = 8 + size
        ends = [entry["data_offsets"][1] for entry in self._header.values()]
        if not self._header or self._path.stat().st_size != self._begin + max(ends):
            raise SafetensorError(f"{self._path.name} is not whole")

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._header)

    def metadata(self) -> dict[str, str] | None:
        """The header's own facts."""
        return self._facts

    def get_slice(self, name: str) -> "_Slice":
        """A tensor's facts, and parts of it."""
        return _Slice(self, name, self._header[name])

    def get_tensor(self, name: str) -> pytorch.Tensor:
        """A tensor, on the CPU."""
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        data = pytorch.empty(end - begin, dtype=pytorch.uint8)
        with self._path.open("rb") as file:
            file.seek(self._begin + begin)
            if end > begin and file.readinto(data.numpy().data) != end - begin:
                raise SafetensorError(f"{self._path.name} is not whole")
        return data.view(DTYPES[entry["dtype"]]).view(entry["shape"])


class _Slice:
    def __init__(self, file: safe_open, name: str, entry: dict[str, Any]) -> None:
        self._file, self._name, self._entry = file, name, entry

    def get_shape(self) -> list[int]:
        """Lengths of its dimensions."""
        return list(self._entry["shape"])

    def get_dtype(self) -> str:
        """Its type, by the format's name."""
        return str(self._entry["dtype"])

    def __getitem__(self, part: Any) -> pytorch.Tensor:
        return self._file.get_tensor(self._name)[part]
