"""Prepare whole columns of texts for fastText: what `prepare` does to one text, by bytes and many texts at a time.

fastText splits at ASCII blanks itself, so blanks need not be collapsed, only made ASCII; then most of the work is
one table look-up a byte. Letters and blanks beyond ASCII are found by their first byte and treated where they stand,
as long as they keep their length. Texts with others (the capital sigma, whose lower case depends on the word; letters
whose lower case is longer or shorter) go through `prepare` itself. The tables are made from Python's own `str.lower`.

How it is used: `label_probabilities(model, labels, lines_of(column, "words"))`
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raters.fasttext_model import TextForm, as_lines, prepare

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

SLICE_BYTES = 1 << 20  # what is worked on at once stays in the cache of a core
_AS_IS, _BLANK, _LOWER, _ODD = range(4)
_TABLE = bytes(ord(chr(i).lower()) if i < 128 and not chr(i).isspace() else 32 if i < 128 else i for i in range(256))


def lines_of(texts: pa.Array, form: TextForm) -> list[bytes]:
    """The line that fastText is given for each of n texts, newline and all; empty for a null or blank text.

    fastText sees the same words in it as in `prepare(text, form)`.
    """
    if form == "lines":
        return as_lines([prepare(text or "", form) for text in texts.to_pylist()])
    return [line for part in _slices(texts) for line in _words(part)]


def _slices(texts: pa.Array) -> Iterator[pa.StringArray]:
    """Neighbouring texts of about a megabyte."""
    texts = texts.cast(pa.string())
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    start = 0
    while start < len(texts):
        end = max(start + 1, int(np.searchsorted(ends, ends[start] + SLICE_BYTES, side="right")) - 1)
        yield texts.slice(start, end - start)
        start = end


def _words(texts: pa.StringArray) -> list[bytes]:
    _, offsets, values = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    if values is None or ends[-1] == ends[0]:
        return [b""] * len(texts)
    given = memoryview(values)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    lowered = bytearray(given).translate(_TABLE)
    odd = _beyond_ascii(np.frombuffer(given, np.uint8), np.frombuffer(lowered, np.uint8))
    content = bytes(lowered)
    lines = [_line(content[start:end]) for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    for row in np.unique(np.searchsorted(ends, odd, side="right") - 1).tolist():
        lines[row] = _line(prepare(texts[row].as_py() or "").encode())
    if b"__label__" in content:
        lines = [line.replace(b"__label__", b"label ") for line in lines]
    if b"</s>" in content:
        lines = [line.replace(b"</s>", b"s") for line in lines]
    if texts.null_count:
        lines = [line if there else b"" for line, there in zip(lines, texts.is_valid().to_pylist(), strict=True)]
    return lines


def _line(words: bytes) -> bytes:
    return b"" if not words or words.isspace() else words + b"\n"


def _beyond_ascii(given: Bytes, lowered: Bytes) -> Positions:
    """Treat the characters of two bytes and more in place; returns the positions of those that cannot be."""
    tables = _tables()
    first = np.flatnonzero(given >= 0xC2)
    lead = given[first]
    odd = []
    for n_bytes, low, high in ((2, 0xC2, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8)):
        at = first[(lead >= low) & (lead < high)]
        if not len(at):
            continue
        code = given[at].astype(np.int32) & (0x7F >> n_bytes)
        for i in range(1, n_bytes):
            code = (code << 6) | (given[at + i] & 0x3F)
        kind = tables.kind[np.minimum(code, len(tables.kind) - 1)]
        for i in range(n_bytes):
            lowered[at[kind == _BLANK] + i] = 32
        capitals = at[kind == _LOWER]
        lowered[capitals], lowered[capitals + 1] = tables.lower[code[kind == _LOWER]].T
        odd.append(at[kind == _ODD])
    return np.concatenate([np.empty(0, np.int64), *odd])


class _Tables(NamedTuple):
    kind: Bytes  # by code point; the last one stands for all above
    lower: Bytes  # by code point below 0x800, the two bytes of its lower case


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    kind = np.full(0x20001, _AS_IS, np.uint8)  # no letter above has two cases
    lower = np.zeros((0x800, 2), np.uint8)
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x20000)):
        letter = chr(code)
        if letter.isspace():
            kind[code] = _BLANK
        elif (small := letter.lower()) != letter:
            encoded = small.encode()
            if code < 0x800 and len(encoded) == 2 and letter != "\u03a3":
                kind[code], lower[code] = _LOWER, list(encoded)
            else:
                kind[code] = _ODD
    return _Tables(kind, lower)
