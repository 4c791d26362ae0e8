"""Examples for a classifier: lines of files the recipe names, or the run's own documents, chosen by URL patterns."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from corpus.artifacts import Artifact
from corpus.errors import ConfigError, InputError
from corpus.shards import read_batches
from pipelines.recipe import Examples


def example_files(examples: Examples, base: Path) -> list[Path]:
    """The files of examples, relative to `base`. Raises InputError for one that is missing."""
    files = [base / file for file in examples.files]
    for file in files:
        if not file.exists():
            raise InputError("a file of examples is missing", expected="JSONL with a text field", where=str(file))
    return files


def example_texts(examples: Examples, documents: Artifact, base: Path, where: str) -> list[str]:
    """The texts that examples stand for, in the order of their files or documents.

    Raises ConfigError when there are none, InputError for a line that is not JSON with a text.
    """
    files = example_files(examples, base)
    pairs = (pair for file in files for pair in _lines(file)) if files else _documents(documents)
    patterns = examples.urls or ("*",)
    found = [text for url, text in pairs if any(fnmatchcase(url, pattern) for pattern in patterns)]
    if not found:
        among = ", ".join(file.name for file in files) if files else "the filtered documents"
        raise ConfigError(f"{where} finds no example", found=f"no URL like {', '.join(patterns)} among {among}")
    return found


def _documents(documents: Artifact) -> Iterator[tuple[str, str]]:
    for path in documents.files():
        for batch in read_batches(path, ["url", "text"]):
            for url, text in zip(batch.column("url").to_pylist(), batch.column("text").to_pylist(), strict=True):
                yield url or "", text


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            url, text = str(row.get("url") or ""), row["text"]
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            where = f"{file}, line {number}"
            raise InputError("a line of examples is not JSON with a text", found=str(error), where=where) from None
        if isinstance(text, str) and text.strip():
            yield url, text
