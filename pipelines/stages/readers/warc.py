"""Read WARC archives, plain or gzip: the HTML pages among their response and resource records.

A page's key is its WARC-Record-ID, which stays when an archive is renamed, recompressed or regrouped; a record
without one is known by address and date, and by its place in the file as a last resort.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipelines.stages.readers.charset import decide
from pipelines.stages.readers.chunks import read_chunks
from pipelines.stages.readers.framing import VERSION, RawRecord, warc_records
from pipelines.stages.readers.http import HTML_TYPES, Response, looks_like_html, read_response
from pipelines.stages.readers.pages import Page, storable
from pipelines.stages.readers.reader import Reader
from pipelines.tally import Tally

_HEADER_ROOM = 1 << 16  # what the HTTP header may add to a body of the largest size
_FIELD = re.compile(r"^([A-Za-z0-9-]+)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)


class WarcInput(Reader):
    """Web archives: .warc and .warc.gz."""

    kind: Literal["warc"] = "warc"
    suffixes: ClassVar[tuple[str, ...]] = (".warc", ".warc.gz")

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The HTML pages of one archive; other records of a page's kind are counted by the reason they are not one."""
        chunks = read_chunks(file, name, tally, expect=VERSION)
        for record in warc_records(chunks, name, self.max_document_bytes + _HEADER_ROOM, tally):
            fields = header_fields(record.header)
            if fields.get("warc-type") not in ("response", "resource"):
                tally.totals["records_other"] += 1
                continue
            page = self._page(record, fields, name, tally)
            if page is not None:
                yield page

    def _page(self, record: RawRecord, fields: dict[str, str], name: str, tally: Tally) -> Page | None:
        if record.content is None:
            self.too_large(name, record.offset, record.length, tally)
            return None
        response = _response(record.header, record.content, fields, self.max_document_bytes)
        if response.too_large:
            self.too_large(name, record.offset, None, tally)
            return None
        if response.fault:
            tally.problem("bad HTTP response", name, record.offset, response.fault)
        reason = _not_a_page(response)
        if reason:
            tally.lose(reason)
            return None
        decided = decide(response.body, response.charset)
        for fault in decided.faults:
            tally.problem(fault, name, record.offset, f"charset {decided.charset}, {fields.get('warc-target-uri', '')}")
        return Page(
            key=record_key(fields, name, record.offset),
            url=fields.get("warc-target-uri", "").strip("<>") or None,
            date=fields.get("warc-date"),
            charset=decided.charset,
            body=decided.body,
        )


def header_fields(header: bytes) -> dict[str, str]:
    """The fields of a WARC header, names in lower case; bytes that are not UTF-8 become U+FFFD."""
    text = storable(header.decode("utf-8", "replace"))[0].replace("\r\n", "\n")
    return {match[1].lower(): match[2] for match in _FIELD.finditer(text)}


def record_key(fields: dict[str, str], name: str, offset: int) -> str:
    """What names a record within its source: its own id, else address and date, else its place."""
    own = fields.get("warc-record-id", "").strip("<>").removeprefix("urn:uuid:")
    if own:
        return own
    address, date = fields.get("warc-target-uri"), fields.get("warc-date")
    return f"{address} {date}" if address and date else f"{name}#{offset}"


def _response(header: bytes, content: bytes, fields: dict[str, str], limit: int) -> Response:
    content_type = fields.get("content-type", "")
    if fields.get("warc-type") == "response" and "text/dns" not in content_type:
        return read_response(header, content, limit)
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.partition("charset=")[2].strip(' "') or None
    return Response(200, media_type.strip().lower(), charset, content, too_large=len(content) > limit)


def _not_a_page(response: Response) -> str | None:
    if response.fault:
        return "bad HTTP response"
    if response.status != 200:
        return f"HTTP status {response.status}"
    if not response.body.strip():
        return "empty body"
    if response.media_type not in HTML_TYPES and (response.media_type or not looks_like_html(response.body)):
        return "not HTML"
    return None
