"""Lines of a stream of chunks, none longer than a limit ever held in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.stages.readers.chunks import Chunk


@dataclass(frozen=True, slots=True)
class Line:
    """A line's number from 1 and its bytes; `data` is None for a line over the limit, and for one cut by damage."""

    number: int
    data: bytes | None
    size: int
    damaged: bool = False


def bounded_lines(chunks: Iterator[Chunk], limit: int) -> Iterator[Line]:
    """Yield every line. Damage in the stream ends the line under way; numbers count on from there."""
    number, size = 1, 0
    waiting: list[bytes] = []
    for chunk in chunks:
        if chunk.gap:
            yield Line(number, None, size, damaged=True)
            number, size, waiting = number + 1, 0, []
            continue
        *ends, rest = chunk.data.split(b"\n")
        for end in ends:
            size += len(end)
            yield Line(number, b"".join([*waiting, end]) if size <= limit else None, size)
            number, size, waiting = number + 1, 0, []
        size += len(rest)
        waiting = [*waiting, rest] if size <= limit else []
    if size:
        yield Line(number, b"".join(waiting) if size <= limit else None, size)
