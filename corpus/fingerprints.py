"""Canonical identity: the same configuration and inputs give the same fingerprint on any machine.

A value is first written as canonical JSON (sorted keys, no blanks, shortest float form) and then hashed.
Values without a stable identity (functions, open files, sets, NaN, objects that would print an address)
are refused, because a fingerprint that changes by itself would redo finished work in silence.
Paths, worker counts and host names never belong in a fingerprint.
"""

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel

from corpus.errors import ConfigError

CHUNK_BYTES = 1 << 22


def canonical(value: Any) -> str:
    """Write a value as canonical JSON.

    Accepts None, bool, int, finite float, str, bytes, enums, lists, tuples, mappings with string keys,
    dataclasses and pydantic models. Raises ConfigError for anything else, naming where it sits.
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """The identity of a value: 16 hex digits, xxh3-64 of its canonical JSON."""
    return xxhash.xxh3_64_hexdigest(canonical(value).encode("utf-8", "surrogatepass"))


def file_checksum(path: Path) -> str:
    """xxh3-64 of a file's bytes, 16 hex digits."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(value: Any, where: str) -> Any:
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, where)
    if isinstance(value, float):
        return _finite(value, where)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="python"), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _plain(fields, where)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise ConfigError(
        f"{where} has no stable identity and cannot be part of a fingerprint",
        expected="numbers, text, lists, mappings with text keys, or models made of these",
        found=f"{type(value).__module__}.{type(value).__qualname__}",
        fix="pass its name, its configuration or a checksum of its content instead",
    )


def _finite(value: float, where: str) -> float | int:
    if not math.isfinite(value):
        raise ConfigError(f"{where} is {value}, which is not equal to itself or not a number JSON can hold")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
