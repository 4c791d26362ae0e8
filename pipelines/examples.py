"""Examples for a rater: lines of files the recipe names, or the run's own documents, chosen by source and URL."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import zstandard

from corpus.artifacts import Artifact
from corpus.errors import ConfigError, InputError
from corpus.shards import ROW_GROUP_ROWS, read_batches
from raters.examples import Examples

EVERYTHING = "every document"


def example_files(examples: Examples, base: Path) -> list[Path]:
    """The files of examples, relative to `base`. Raises InputError for one that is missing."""
    files = [base / file for file in examples.files]
    for file in files:
        if not file.exists():
            raise InputError("a file of examples is missing", expected="JSONL with a text field", where=str(file))
    return files


def example_texts(examples: Examples | None, documents: Artifact, base: Path, where: str) -> Iterator[pa.StringArray]:
    """The texts that examples stand for, in the order of their files or documents, some thousands at a time.

    None stands for every document. Raises ConfigError when there are none, InputError for a line that is not JSON
    with a text.
    """
    files = example_files(examples, base) if examples else []
    found = False
    for batch in _lines(files) if files else _documents(documents):
        if examples is not None:
            rows = zip(batch.column("source").to_pylist(), batch.column("url").to_pylist(), strict=True)
            batch = batch.filter(pa.array([examples.match(source, url) for source, url in rows], pa.bool_()))
        if batch.num_rows:
            found = True
            yield batch.column("text")
    if not found:
        among = ", ".join(file.name for file in files) if files else f"the documents of {documents.name}"
        raise ConfigError(f"{where} finds no example", found=f"nothing like {_wanted(examples)} among {among}")


def _wanted(examples: Examples | None) -> str:
    if examples is None:
        return EVERYTHING
    sides = (("source", examples.sources), ("URL", examples.urls))
    return " and ".join(f"{name} {', '.join(values)}" for name, values in sides if values) or EVERYTHING


def _documents(documents: Artifact) -> Iterator[pa.RecordBatch]:
    for path in documents.files():
        yield from read_batches(path, ["source", "url", "text"])


def _lines(files: list[Path]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([(name, pa.string()) for name in ("source", "url", "text")])
    for file in files:
        rows: list[dict[str, str]] = []
        with _opened(file) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows += _row(line, f"{file}, line {number}")
                if len(rows) == ROW_GROUP_ROWS:
                    yield pa.RecordBatch.from_pylist(rows, schema)
                    rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema)


def _row(line: str, where: str) -> list[dict[str, str]]:
    """The line's row; none for a blank text."""
    try:
        row = json.loads(line)
        text, source, url = row["text"], str(row.get("source") or ""), str(row.get("url") or "")
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise InputError("a line of examples is not JSON with a text", found=str(error), where=where) from None
    text = text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""
    return [{"source": source, "url": url, "text": text}] if text.strip() else []


def _opened(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8")
    if file.suffix == ".zst":
        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file.open("rb")), encoding="utf-8")
    return file.open(encoding="utf-8")
