"""Files as streams of small decompressed pieces: plain, gzip or zstd, with damage survived and memory bounded.

A gzip file is a row of members, and archives put one record in each, so a damaged member costs one record:
the stream reports it, marks the gap, and goes on at the next member that really decompresses. A piece is
handed on only when the checksum that covers its end has been seen or more data followed, so a member whose
last bytes are wrong never passes for whole. No piece is larger than 64 KB however much a bomb would expand.
"""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pipelines.tally import Tally

PIECE_BYTES = 1 << 16
_READ_BYTES = 1 << 18
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file's content.

    `offset` is the byte in the file where the piece begins, or for compressed files where its member begins.
    `first` marks the first piece of the file or of a gzip member; `gap` marks damage before this point: what
    was under way is lost.
    """

    data: bytes
    offset: int
    exact: bool
    first: bool = False
    gap: bool = False


_Pieces = Generator[Chunk, None, tuple[str, str] | None]


def read_chunks(path: Path, name: str, tally: Tally, expect: bytes = b"") -> Iterator[Chunk]:
    """Stream a file's content. `expect` is what every gzip member begins with, used to find the next after damage."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(_GZIP) or path.suffix.lower() == ".gz":
            yield from _gzip(file, name, tally, expect)
        elif magic == _ZSTD or path.suffix.lower() in (".zst", ".zstd"):
            yield from _zstd(file, name, tally)
        else:
            yield from _plain(file)


def _plain(file: BinaryIO) -> Iterator[Chunk]:
    offset = 0
    while data := file.read(PIECE_BYTES):
        yield Chunk(data, offset, exact=True, first=offset == 0)
        offset += len(data)


def _zstd(file: BinaryIO, name: str, tally: Tally) -> Iterator[Chunk]:
    """Damage ends the stream: frames are large and carry no sign by which the next could be told from noise."""
    done = 0
    try:
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
            while data := stream.read(PIECE_BYTES):
                yield Chunk(data, 0, exact=False, first=done == 0)
                done += len(data)
    except OSError as error:
        tally.problem("damaged zstd", name, None, f"{error}, after {done:,} bytes of content")
        yield Chunk(b"", 0, exact=False, gap=True)


def _gzip(file: BinaryIO, name: str, tally: Tally, expect: bytes) -> Iterator[Chunk]:
    buffer = b""
    while True:
        buffer = buffer or file.read(_READ_BYTES)
        start = file.tell() - len(buffer)
        if not buffer.strip(b"\x00"):
            if not buffer:
                return
            buffer = b""
            continue
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        fault = yield from _member(file, buffer, start, inflater)
        if fault is None:
            buffer = inflater.unused_data
            continue
        kind, detail = fault
        tally.problem(kind, name, start, detail)
        yield Chunk(b"", start, exact=False, gap=True)
        following = _next_member(file, start + 1, expect)
        if following is None:
            return
        file.seek(following)
        buffer = b""


def _member(file: BinaryIO, data: bytes, start: int, inflater: "zlib._Decompress") -> _Pieces:
    """Yield one member's pieces, each when the next has proved it; returns what is wrong, or None."""
    waiting: Chunk | None = None
    seen = 0
    while not inflater.eof:
        data = data or file.read(_READ_BYTES)
        ended = not data
        try:
            piece = inflater.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            return "damaged gzip member", f"{error}, after {seen:,} bytes of content"
        data = inflater.unconsumed_tail
        if piece:
            if waiting is not None:
                yield waiting
            waiting = Chunk(piece, start, exact=False, first=seen == 0)
            seen += len(piece)
        elif ended and not inflater.eof:
            if waiting is not None:
                yield waiting
            return "truncated gzip member", f"the file ends inside it, after {seen:,} bytes of content"
    if waiting is not None:
        yield waiting
    return None


def _next_member(file: BinaryIO, position: int, expect: bytes) -> int | None:
    """Where the next gzip member begins that decompresses and starts as expected, or None."""
    magic = _GZIP + b"\x08"
    overlap = len(magic) - 1
    file.seek(position)
    window = file.read(_READ_BYTES)
    while len(window) > overlap:
        at = window.find(magic)
        while at >= 0:
            candidate = position + at
            if _begins(file, candidate, expect):
                return candidate
            at = window.find(magic, at + 1)
        position += len(window) - overlap
        file.seek(position)
        window = file.read(_READ_BYTES)
    return None


def _begins(file: BinaryIO, candidate: int, expect: bytes) -> bool:
    file.seek(candidate)
    try:
        start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(file.read(1 << 12), 1 << 12)
    except zlib.error:
        return False
    return bool(start) and start.startswith(expect)
