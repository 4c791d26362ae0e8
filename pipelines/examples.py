"""Examples for a classifier: documents whose URL matches a pattern, and texts from files the recipe names."""

import json
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
    """The texts that examples stand for: matching documents first, then the lines of the files.

    Raises ConfigError when there are none, InputError for a line that is not JSON with a text.
    """
    found = []
    for path in documents.files():
        for batch in read_batches(path, ["url", "text"]):
            for url, text in zip(batch.column("url").to_pylist(), batch.column("text").to_pylist(), strict=True):
                if url and any(fnmatchcase(url, pattern) for pattern in examples.urls):
                    found.append(text)
    for file in example_files(examples, base):
        found += _lines(file)
    if not found:
        raise ConfigError(f"{where} matches no document", found=f"patterns {', '.join(examples.urls)}")
    return found


def _lines(file: Path) -> list[str]:
    texts = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            text = json.loads(line)["text"] if line.strip() else None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                "a line of examples is not JSON with a text", found=str(error), where=f"{file}, line {number}"
            ) from None
        if isinstance(text, str) and text.strip():
            texts.append(text)
    return texts
