"""Read JSON lines (.jsonl, .gz, .zst): one document a line, with the names of its fields configurable.

A page's key is its id field where the line has one (shards may then be split or merged freely), else the file
and the line's number. Fields may be nested: `metadata.url` looks into `metadata`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipelines.stages.readers.chunks import read_chunks
from pipelines.stages.readers.fields import FieldNames, page_of
from pipelines.stages.readers.lines import Line, bounded_lines
from pipelines.stages.readers.pages import Page
from pipelines.stages.readers.reader import Reader
from pipelines.stages.readers.wet import decode_text
from pipelines.tally import Tally


class JsonlInput(Reader):
    """JSON lines: .jsonl, .ndjson or .json, plain, gzip or zstd."""

    kind: Literal["jsonl"] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        base + packed for base in (".jsonl", ".ndjson", ".json") for packed in ("", ".gz", ".zst")
    )
    fields: FieldNames = Field(FieldNames(), description="which fields hold text, id, url, date and meta")

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The documents of one file; a line that is not one is counted by what is wrong with it."""
        for line in bounded_lines(read_chunks(file, name, tally), self.max_document_bytes):
            if line.damaged:
                tally.lose("damaged record")
            elif line.data is None:
                self.too_large(name, line.number, line.size, tally)
            elif line.data.strip(b" \t\r\x00\xef\xbb\xbf"):
                row = _parse(line, line.data, name, tally)
                page = None if row is None else page_of(row, self.fields, name, line.number, tally)
                if page is not None:
                    yield page


def _parse(line: Line, data: bytes, name: str, tally: Tally) -> dict[str, Any] | None:
    raw = data.removeprefix(b"\xef\xbb\xbf") if line.number == 1 else data
    text = decode_text(raw, name, line.number, tally)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        tally.problem("malformed JSON", name, line.number, f"{detail}: {text[:80]}")
        tally.lose("malformed JSON")
        return None
    if not isinstance(row, dict):
        tally.problem(
            "malformed JSON", name, line.number, f"expected an object with fields, found {type(row).__name__}"
        )
        tally.lose("malformed JSON")
        return None
    return row
