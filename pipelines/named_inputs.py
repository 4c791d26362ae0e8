"""Inputs named on the command line: `pages.jsonl.gz`, `web=crawl/*.warc.gz`, `web={kind: jsonl, path: pages.json}`.

A bare path is a source named after the file or folder; its kind is read off the file names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from corpus.config import Config, validated
from corpus.errors import ConfigError, InputError
from pipelines.stages.readers.base import InputConfig
from pipelines.stages.readers.hf import HfInput
from pipelines.stages.readers.html import HtmlInput
from pipelines.stages.readers.jsonl import JsonlInput
from pipelines.stages.readers.parquet import ParquetInput
from pipelines.stages.readers.reader import Reader
from pipelines.stages.readers.warc import WarcInput
from pipelines.stages.readers.wet import WetInput

_BY_SUFFIX: tuple[type[Reader], ...] = (WarcInput, WetInput, JsonlInput, ParquetInput, HtmlInput)
_HF_MARK = "dataset_info.json"


class Inputs(Config):
    """Inputs by the name of their source."""

    inputs: dict[str, Annotated[InputConfig, Field(discriminator="kind")]]


def named_inputs(given: Sequence[str]) -> dict[str, Any]:
    """The inputs a command line names, by source. Relative paths start from the working folder.

    Raises ConfigError for a source named twice or settings that cannot be used, InputError for a path that is not
    there or whose kind cannot be told.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            name, value = _name(Path(text)), text
        if name in found:
            raise ConfigError(f"two inputs are called {name!r}", fix=f"name them yourself: first={value} second=...")
        found[name] = yaml.safe_load(value) if value.lstrip().startswith("{") else input_settings(value)
    return dict(validated(Inputs, {"inputs": found}, "inputs").inputs)


def _name(path: Path) -> str:
    return path.name.split(".")[0].replace("*", "all") or path.resolve().name


def input_settings(path: str, base: Path = Path()) -> dict[str, str]:
    """The settings of an input that is named by its path alone: its kind is told by the first file's name.

    `base` is the folder that a relative path starts from. Raises InputError where the kind cannot be told.
    """
    where = base / Path(path).expanduser()
    if (where / _HF_MARK).is_file():
        return {"kind": str(HfInput.model_fields["kind"].default), "path": path}
    for reader in _BY_SUFFIX:
        names = [where.name] if not where.is_dir() else [file.name for file in where.rglob("*") if file.is_file()]
        if any(name.lower().endswith(reader.suffixes) for name in names):
            return {"kind": str(reader.model_fields["kind"].default), "path": path}
    known = ", ".join(suffix for reader in _BY_SUFFIX for suffix in reader.suffixes)
    raise InputError(
        f"cannot tell what kind of input {path} is", expected=f"an artifact of the workspace, or files in {known}",
        found="no such file or folder" if not where.exists() else where.name,
        fix="check the path, or say it: web={kind: jsonl, path: " + path + "}",
    )  # fmt: skip
