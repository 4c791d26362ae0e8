"""Read WET archives: the plain texts in their conversion records, as Common Crawl publishes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipelines.stages.readers.chunks import read_chunks
from pipelines.stages.readers.framing import VERSION, warc_records
from pipelines.stages.readers.pages import Page, storable
from pipelines.stages.readers.reader import Reader
from pipelines.stages.readers.warc import header_fields, record_key
from pipelines.tally import Tally


class WetInput(Reader):
    """Texts of web archives: .wet and .wet.gz (or any WARC with conversion records)."""

    kind: Literal["wet"] = "wet"
    suffixes: ClassVar[tuple[str, ...]] = (".wet", ".wet.gz", ".warc", ".warc.gz")

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The texts of one archive; bytes that are not UTF-8 are replaced and counted."""
        chunks = read_chunks(file, name, tally, expect=VERSION)
        for record in warc_records(chunks, name, self.max_document_bytes, tally):
            fields = header_fields(record.header)
            if fields.get("warc-type") != "conversion":
                tally.totals["records_other"] += 1
            elif record.content is None:
                self.too_large(name, record.offset, record.length, tally)
            else:
                text = decode_text(record.content, name, record.offset, tally)
                if text.strip():
                    url = fields.get("warc-target-uri", "").strip("<>") or None
                    key = record_key(fields, name, record.offset)
                    yield Page(key, url=url, date=fields.get("warc-date"), text=text)
                else:
                    tally.lose("empty text")


def decode_text(content: bytes, name: str, place: int, tally: Tally) -> str:
    """UTF-8 bytes as a text that can be stored; invalid bytes become U+FFFD, NULs go, and both are counted."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        tally.problem("invalid UTF-8", name, place, str(error))
        text = content.decode("utf-8", "replace")
    text, faults = storable(text)
    for fault in faults:
        tally.problem(fault, name, place, "removed or replaced in the text")
    return text
