"""HTTP responses inside WARC records: status, type, charset and the decoded body, none of them to be trusted.

fastwarc parses the header and undoes chunking and compression as a stream, so that a compressed body is never
expanded past the limit. Archives differ in whether they stored a body as sent or already decoded under its
old headers; a body that does not decode as announced but looks like markup is taken as it is.
"""

import re
from dataclasses import dataclass
from typing import Literal

HTML_TYPES = ("text/html", "application/xhtml+xml")
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|!--|html|head|body|\?xml|title|meta|div|p|h1)", re.IGNORECASE)
_HTTP = re.compile(rb"HTTP/\d")


@dataclass(frozen=True, slots=True)
class Response:
    """A response: `fault` says what made it unreadable, `too_large` that the decoded body passed the limit."""

    status: int | None = None
    media_type: str | None = None
    charset: str | None = None
    body: bytes = b""
    fault: str = ""
    too_large: bool = False


def read_response(header: bytes, content: bytes, limit: int) -> Response:
    """Parse the HTTP response of a WARC record given its header block and content; never raises for bad input."""
    if not _HTTP.match(content):
        return Response(fault=f"the content does not begin with HTTP: {content[:60]!r}")
    response = _parse(header, content, limit, "all")
    if response.fault:
        stored = _parse(header, content, limit, "none")
        if not stored.fault and looks_like_html(stored.body):
            return stored
    return response


def looks_like_html(body: bytes) -> bool:
    """Whether a body begins like a page, or names itself one within its first kilobyte."""
    return bool(_MARKUP.match(body, 0, 1024)) or b"<html" in body[:1024].lower()


def _parse(header: bytes, content: bytes, limit: int, decode: Literal["all", "none"]) -> Response:
    from fastwarc.warc import WarcRecord

    status = None
    try:
        record = WarcRecord.from_bytes(header + b"\r\n\r\n" + content + b"\r\n\r\n")
        record.parse_http(auto_decode=decode, quirks_mode=True)
        status = record.http_headers.status_code if record.http_headers is not None else None
        if status is None:
            return Response(fault=f"no readable status line: {content[:60]!r}")
        body = record.reader.read(limit + 1)
        media_type, charset = record.http_content_type, record.http_charset
    except (OSError, ValueError) as error:
        return Response(status=status, fault=str(error) or type(error).__name__)
    if len(body) > limit:
        return Response(status, media_type, charset, too_large=True)
    return Response(status, media_type.lower() if media_type else None, charset, body)
