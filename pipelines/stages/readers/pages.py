"""Pages on their way into record batches: clean strings, and batches bounded in rows and bytes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipelines.stages.base import PAGE_SCHEMA

BATCH_ROWS = 256
BATCH_BYTES = 32_000_000

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Page:
    """A row of PAGE_SCHEMA: an HTML `body` with its `charset`, or a `text`; `source` is added with the batch."""

    key: str
    url: str | None = None
    date: str | None = None
    lang: str | None = None
    charset: str | None = None
    body: bytes | None = None
    text: str | None = None
    meta: Mapping[str, str] | None = None

    def size(self) -> int:
        """Roughly the bytes this page takes in a batch."""
        return len(self.body or b"") + len(self.text or "") + 500


def page_batches(pages: Iterable[Page], source: str) -> Iterator[pa.RecordBatch]:
    """Gather pages into batches of at most 256 rows; a batch is closed by the page that takes it past 32 MB."""
    waiting: list[Page] = []
    size = 0
    for page in pages:
        waiting.append(page)
        size += page.size()
        if len(waiting) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield _batch(waiting, source)
            waiting, size = [], 0
    if waiting:
        yield _batch(waiting, source)


def storable(text: str) -> tuple[str, list[str]]:
    """A text that UTF-8 and Parquet hold faithfully, and what had to be mended.

    NUL characters are removed; lone surrogates become U+FFFD. Returns the names of the faults found.
    """
    faults = []
    if "\x00" in text:
        text = text.replace("\x00", "")
        faults.append("NUL bytes")
    if not text.isascii() and _SURROGATES.search(text):
        text = _SURROGATES.sub("\ufffd", text)
        faults.append("lone surrogates")
    return text, faults


def _batch(pages: list[Page], source: str) -> pa.RecordBatch:
    names = [name for name in PAGE_SCHEMA.names if name not in ("source", "meta")]
    columns = {name: [getattr(page, name) for page in pages] for name in names}
    columns["source"] = [source] * len(pages)
    columns["meta"] = [sorted(page.meta.items()) if page.meta else None for page in pages]
    arrays = [pa.array(columns[field.name], field.type) for field in PAGE_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=PAGE_SCHEMA)
