"""Which encoding an HTML body is really in, decided by what decodes rather than by what is claimed.

Order of trust: a byte order mark; valid UTF-8 that is not plain ASCII (it hardly ever happens by accident, and
pages that claim Latin-1 and send UTF-8 are common); the charset of the HTTP header; of the page's own meta
tag; a statistical guess. Each claim counts only if the body decodes with it. Names are those of the WHATWG
encoding standard, so no Python codec that is not an encoding of text can be called by a page.
"""

import re
from dataclasses import dataclass

_META = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE
)
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_SEVEN_BIT = ("iso2022_jp", "iso-2022-jp")
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Decided:
    """A body without mark and NULs, the charset to decode it with, and the faults found on the way."""

    body: bytes
    charset: str
    faults: tuple[str, ...]


def decide(body: bytes, claimed: str | None) -> Decided:
    """Decide the charset of an HTML body; `claimed` is that of the HTTP header.

    Faults: `undecodable bytes` (decoding with the charset returned needs replacement characters) and
    `NUL bytes` (removed). UTF-16 is rewritten as UTF-8, so that bodies are ASCII-compatible afterwards.
    """
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return _finish(body[len(mark) :], charset)
    if wide := _wide(body):
        return _finish(body, wide)
    if body.isascii():
        names = (known(claimed), known(_meta(body)))
        return _finish(body, next((name for name in names if name in _SEVEN_BIT), "utf-8"))
    if _decodes(body, "utf-8"):
        return _finish(body, "utf-8")
    claims = (known(claimed), known(_meta(body)))
    for claim in claims:
        if claim and _decodes(body, claim):
            return _finish(body, claim)
    from resiliparse.parse.encoding import detect_encoding

    guess = known(detect_encoding(body))
    if guess and _decodes(body, guess):
        return _finish(body, guess)
    return _finish(body, next((name for name in (*claims, guess) if name), "utf-8"))


def known(name: str | None) -> str | None:
    """The codec for a charset label of the standard, or None for other labels.

    UTF-16 is no use as a claim: any bytes decode as it. It is found by its mark or its zeros instead.
    """
    if not name or not name.isascii():
        return None
    from resiliparse.parse.encoding import map_encoding_to_html5

    standard: str | None = map_encoding_to_html5(name.strip().lower(), fallback_utf8=False)
    if standard is None or standard.startswith("utf-16"):
        return None
    return "gb18030" if standard == "gbk" else standard  # the standard decodes both as gb18030


def _finish(body: bytes, charset: str) -> Decided:
    faults = []
    if not _decodes(body, charset):
        faults.append("undecodable bytes")
    if charset.startswith("utf-16"):
        body, charset = body.decode(charset, "replace").encode("utf-8", "replace"), "utf-8"
    if b"\x00" in body:
        body = body.replace(b"\x00", b"")
        faults.append("NUL bytes")
    return Decided(body, charset, tuple(faults))


def _wide(body: bytes) -> str | None:
    """UTF-16 without a mark: in markup every second byte is then zero."""
    head = body[:_HEAD_BYTES]
    half = len(head) // 2
    if half < 8:
        return None
    if head[1::2].count(0) > 0.4 * half and head[0::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if head[0::2].count(0) > 0.4 * half and head[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return None


def _meta(body: bytes) -> str | None:
    found = _META.search(body, 0, _HEAD_BYTES)
    return found[1].decode("ascii") if found else None


def _decodes(body: bytes, charset: str) -> bool:
    try:
        body.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return False
    return True
