"""Cutting a stream of chunks into WARC records, and finding the next record after damage.

A record says its own length, and a wrong length would swallow its neighbours. So a record never reaches into a
gzip member that begins with a record of its own; where the blank lines after a record are missing, the next
version line inside it ends it; and after a broken header the stream is searched for the next version line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.stages.readers.chunks import Chunk
from pipelines.tally import Tally

VERSION = b"WARC/1."
_VERSION_LINE = re.compile(rb"WARC/1\.[01]\r?\n")
_NEIGHBOUR = re.compile(rb"\r?\n\r?\n(?=WARC/1\.[01]\r?\n)")
_BLANK = re.compile(rb"[\r\n]*")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_MAX_HEADER = 1 << 16
_KEEP = 64  # bytes of overlap when searching, longer than any pattern


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record: where it begins, its header block, its content, or None for content over the limit."""

    offset: int
    header: bytes
    content: bytes | None
    length: int


class _Damage(Exception):
    """The content of the stream is broken here; `detail` is empty where that has been reported already."""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail


def warc_records(chunks: Iterator[Chunk], name: str, limit: int, tally: Tally) -> Iterator[RawRecord]:
    """Yield the records of a WARC stream. Damage is reported and counted, one lost record for each place.

    Content longer than `limit` bytes is passed over without being held.
    """
    feed = _Feed(chunks)
    searching = False
    while True:
        start = feed.offset
        try:
            if searching and not feed.resynchronise():
                return
            searching = False
            if not feed.skip_blank():
                return
            start = feed.offset
            record = _record(feed, start, limit, name, tally)
        except _Damage as damage:
            if damage.detail:
                tally.problem("damaged WARC record", name, start, damage.detail)
            tally.lose("damaged record")
            searching = True
            continue
        yield record


def _record(feed: "_Feed", start: int, limit: int, name: str, tally: Tally) -> RawRecord:
    header = feed.header()
    found = _LENGTH.search(header)
    if not header.startswith(VERSION) or not found:
        missing = "no Content-Length" if header.startswith(VERSION) else "no WARC header"
        raise _Damage(f"{missing}: {header[:100]!r}")
    length = int(found[1])
    if length > limit:
        feed.skip(length)
        return RawRecord(start, header, None, length)
    content = feed.take(length)
    if feed.ends_record():
        return RawRecord(start, header, content, length)
    neighbour = _NEIGHBOUR.search(content)
    if neighbour:
        feed.push_back(content[neighbour.end() :], start)
        content = content[: neighbour.start()]
    tally.problem("wrong Content-Length", name, start, f"{length:,} bytes announced, no blank line after them")
    return RawRecord(start, header, content, len(content))


class _Feed:
    """A buffer over chunks that knows the offset of its first byte and does not mix what a boundary parts.

    A boundary is a gap, or a gzip member that begins with a record; it waits in `_ahead` until the buffer is done.
    """

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._marks: list[tuple[int, Chunk]] = []  # the place in the buffer where each chunk begins
        self._ahead: Chunk | None = None

    @property
    def offset(self) -> int:
        """Where in the file the buffer's first byte lies; within gzip, where its member begins."""
        if not self._buffer and self._ahead is not None:
            return self._ahead.offset
        if not self._marks:
            return 0
        begin, chunk = self._marks[0]
        return chunk.offset - begin if chunk.exact else chunk.offset

    def skip_blank(self) -> bool:
        """Drop line ends; False at the end of the stream."""
        while True:
            blank = _BLANK.match(self._buffer)
            self._drop(blank.end() if blank else 0)
            if self._buffer:
                return True
            if not self._fill(within=False):
                return False

    def header(self) -> bytes:
        """Take the header block, without the blank line that ends it."""
        searched = 0
        while True:
            found = _HEADER_END.search(self._buffer, searched)
            if found:
                header = bytes(self._buffer[: found.start()])
                self._drop(found.end())
                return header
            begins = self._buffer.startswith(VERSION) or VERSION.startswith(self._buffer)
            if not begins or len(self._buffer) > _MAX_HEADER:
                raise _Damage(f"no WARC header: {bytes(self._buffer[:100])!r}")
            searched = max(0, len(self._buffer) - 3)
            if not self._fill(within=True):
                raise _Damage(f"the file ends inside a WARC header: {bytes(self._buffer[:100])!r}")

    def take(self, count: int) -> bytes:
        """Take `count` bytes."""
        while len(self._buffer) < count:
            if not self._fill(within=True):
                raise _Damage(f"the file ends {count - len(self._buffer):,} bytes before the record does")
        taken = bytes(self._buffer[:count])
        self._drop(count)
        return taken

    def skip(self, count: int) -> None:
        """Pass over `count` bytes, or up to the record that begins inside them."""
        while True:
            found = _NEIGHBOUR.search(self._buffer, 0, count)
            if found or len(self._buffer) >= count:
                self._drop(found.end() if found else count)
                return
            step = max(0, len(self._buffer) - _KEEP)
            self._drop(step)
            count -= step
            if not self._fill(within=True):
                raise _Damage(f"the file ends {count - len(self._buffer):,} bytes before the record does")

    def ends_record(self) -> bool:
        """Whether a blank line, another record or the end follows."""
        while not self._buffer and self._pull():
            pass
        return not self._buffer or self._buffer.startswith((b"\r", b"\n", VERSION))

    def push_back(self, data: bytes, offset: int) -> None:
        """Put bytes of a record back before the buffer."""
        self._buffer[:0] = data
        marks = [(begin + len(data), chunk) for begin, chunk in self._marks]
        self._marks = [(0, Chunk(b"", offset, exact=False)), *marks]

    def resynchronise(self) -> bool:
        """Drop everything before the next version line; False when there is none."""
        self._drop(1)
        while True:
            found = _VERSION_LINE.search(self._buffer)
            if found:
                self._drop(found.start())
                return True
            self._drop(max(0, len(self._buffer) - _KEEP))
            if not self._fill(within=False):
                return False

    def _pull(self) -> bool:
        """Add the next chunk to the buffer; False at a boundary or the end."""
        if self._ahead is not None:
            return False
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        if chunk.gap or (chunk.first and chunk.data.startswith(VERSION)):
            self._ahead = chunk
            return False
        self._append(chunk)
        return True

    def _fill(self, *, within: bool) -> bool:
        """Add a chunk, passing a boundary; `within` a record a boundary is damage. False at the end."""
        if self._pull():
            return True
        chunk = self._ahead
        if chunk is None:
            return False
        if within and not chunk.gap:
            raise _Damage("the next record begins before this one ends")
        self._ahead = None
        self._drop(len(self._buffer))
        if chunk.gap:
            raise _Damage
        self._append(chunk)
        return True

    def _append(self, chunk: Chunk) -> None:
        marks = self._marks if self._buffer else []
        self._marks = [*marks, (len(self._buffer), chunk)]
        self._buffer += chunk.data

    def _drop(self, count: int) -> None:
        if not count:
            return
        del self._buffer[:count]
        marks = [(begin - count, chunk) for begin, chunk in self._marks]
        last = max((i for i, (begin, _) in enumerate(marks) if begin <= 0), default=0)
        self._marks = marks[last:]
