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

from raters.fasttext_model import TextForm, prepare

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

SLICE_BYTES = 1 << 20  # what is worked on at once stays in the cache of a core
_AS_IS, _BLANK, _LOWER, _ODD = range(4)
_LINE_ENDS = frozenset("\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")  # of str.splitlines


def lines_of(texts: pa.Array, form: TextForm) -> list[bytes]:
    """The line that fastText is given for each of n texts, newline and all; empty for a null or blank text.

    fastText sees the same words in it as in `prepare(text, form)`.
    """
    return [line for part in _slices(texts) for line in _prepared(part, form)]


def _slices(texts: pa.Array) -> Iterator[pa.StringArray]:
    """Neighbouring texts of about a megabyte."""
    texts = texts.cast(pa.string())
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    start = 0
    while start < len(texts):
        end = max(start + 1, int(np.searchsorted(ends, ends[start] + SLICE_BYTES, side="right")) - 1)
        yield texts.slice(start, end - start)
        start = end


def _prepared(texts: pa.StringArray, form: TextForm) -> list[bytes]:
    _, offsets, values = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    if values is None or ends[-1] == ends[0]:
        return [b""] * len(texts)
    given = memoryview(values)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    made = bytearray(given).translate(_tables(form).ascii)
    odd = _beyond_ascii(np.frombuffer(given, np.uint8), np.frombuffer(made, np.uint8), _tables(form))
    content = bytes(made)
    lines = [_line(content[start:end]) for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    if form == "lines":
        odd = np.append(odd, ends[[i for i, line in enumerate(lines) if _rough_edge(line)]])
    for row in np.unique(np.searchsorted(ends, odd, side="right") - 1).tolist():
        lines[row] = _line(prepare(texts[row].as_py() or "", form).encode())
    if form == "words" and b"__label__" in content:
        lines = [line.replace(b"__label__", b"label ") for line in lines]
    if b"</s>" in content:
        lines = [line.replace(b"</s>", b"s") for line in lines]
    if texts.null_count:
        lines = [line if there else b"" for line, there in zip(lines, texts.is_valid().to_pylist(), strict=True)]
    return lines


def _line(words: bytes) -> bytes:
    return b"" if not words or words.isspace() else words + b"\n"


def _rough_edge(line: bytes) -> bool:
    """Whether a line may begin or end in a blank that is cut off there, but is a letter to fastText elsewhere."""
    inner = line.strip()
    return bool(inner) and (inner[0] > 0x7F or inner[-1] > 0x7F or inner[0] == 0x1F or inner[-1] == 0x1F)


def _beyond_ascii(given: Bytes, made: Bytes, tables: "_Tables") -> Positions:
    """Treat the characters of two bytes and more in place; returns the positions of those that cannot be."""
    first = np.flatnonzero(given >= 0xC2)
    lead = given[first]
    odd = []
    for n_bytes, low, high in ((2, 0xC2, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8)):
        at = first[(lead >= low) & (lead < high)]
        code = given[at].astype(np.int32) & (0x7F >> n_bytes)
        for i in range(1, n_bytes):
            code = (code << 6) | (given[at + i] & 0x3F)
        kind = tables.kind[np.minimum(code, len(tables.kind) - 1)]
        for i in range(n_bytes):
            made[at[kind == _BLANK] + i] = 32
        capitals = at[kind == _LOWER]
        made[capitals], made[capitals + 1] = tables.lower[code[kind == _LOWER]].T
        odd.append(at[kind == _ODD])
    return np.concatenate(odd)


class _Tables(NamedTuple):
    ascii: bytes  # by byte
    kind: Bytes  # by code point; the last one stands for all above
    lower: Bytes  # by code point below 0x800, the two bytes of its lower case


@lru_cache(maxsize=2)
def _tables(form: TextForm) -> _Tables:
    ascii_ = bytearray(range(256))
    kind = np.full(0x20001, _AS_IS, np.uint8)  # no letter above has two cases
    lower = np.zeros((0x800, 2), np.uint8)
    for code in (*range(0xD800), *range(0xE000, 0x20000)):
        letter = chr(code)
        blank = letter in _LINE_ENDS if form == "lines" else letter.isspace()
        small = letter if form == "lines" else letter.lower()
        if code < 0x80:
            ascii_[code] = 32 if blank else ord(small)
        elif blank:
            kind[code] = _BLANK
        elif small != letter:
            encoded = small.encode()
            if code < 0x800 and len(encoded) == 2 and letter != "\u03a3":
                kind[code], lower[code] = _LOWER, list(encoded)
            else:
                kind[code] = _ODD
    return _Tables(bytes(ascii_), kind, lower)
