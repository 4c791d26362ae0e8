"""From HTML pages to texts, and from texts to documents.

resiliparse's main content comes first (about ten times faster than trafilatura); where it finds nothing or next
to nothing, trafilatura is asked as well and the longer text wins. `extractor: trafilatura` turns the two round.
Texts are altered no more than storing them asks for: control characters go, line ends become `\\n`, blanks at
the ends are cut; letters and their Unicode composition stay as they were.

Web pages may be built to hurt. Main-content detection takes quadratic time on nested `div`s, so where these
nest deeper than browsers accept the page is read as plain text; trafilatura's time is quadratic in the number
of elements, so it is not asked about pages of more than 20,000 tags; and an extractor that fails costs its page,
with a reason, not the run.
"""

import logging
import re
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.documents import DOCUMENT_SCHEMA, check_documents, document_id
from pipelines.stages.base import Reasons, Stage

NO_TEXT = "extract: no text"
MAX_DIV_DEPTH = 512  # where browsers stop nesting
MAX_SLOW_TAGS = 20_000  # bounds trafilatura to some seconds a page

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_DIV = re.compile(r"<(/?)div[\s/>]", re.IGNORECASE)


class Extract(Stage):
    """Give every page its text; pages that come with one (JSONL, WET) keep it, cleaned in the same way."""

    extractor: Literal["resiliparse", "trafilatura"] = Field("resiliparse", description="the extractor to ask first")
    fallback: bool = Field(True, description="ask the other extractor where the first finds next to nothing")
    short_characters: int = Field(100, ge=0, description="texts shorter than this count as next to nothing")

    version: ClassVar[int] = 1

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """PAGE_SCHEMA in and out with `text` filled in; reasons `extract: no text` and `extract: failed (<error>)`."""
        texts: list[str | None] = []
        reasons: list[str | None] = []
        columns = [batch.column(name) for name in ("body", "charset", "text")]
        for body, charset, text in zip(*columns, strict=True):
            found, reason = self._text(body, charset.as_py(), text.as_py())
            texts.append(found or None)
            reasons.append(reason)
        place = batch.schema.get_field_index("text")
        filled = batch.set_column(place, batch.schema.field(place), pa.array(texts, pa.string()))
        return filled, pa.array(reasons, pa.string())

    def _text(self, body: pa.Scalar, charset: str | None, text: str | None) -> tuple[str, str | None]:
        if text is None and body.is_valid:
            try:
                text = self._extract(str(body.as_buffer(), charset or "utf-8", "replace"))
            except Exception as error:  # foreign parsers on hostile input: any failure of theirs drops the page by name
                return "", f"extract: failed ({type(error).__name__})"
        cleaned = clean(text or "")
        return cleaned, None if cleaned else NO_TEXT

    def _extract(self, html: str) -> str:
        first, second = (
            (_resiliparse, _trafilatura) if self.extractor == "resiliparse" else (_trafilatura, _resiliparse)
        )
        text = first(html)
        if self.fallback and len(text.strip()) < self.short_characters:
            return max(text, second(html), key=lambda found: len(found.strip()))
        return text


def clean(text: str) -> str:
    """A text without control characters other than tab and line feed, and without blanks at its ends."""
    if not text.isprintable():
        text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
        text = _SURROGATES.sub("\ufffd", text)
    return text.strip()


def to_documents(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn pages that have their text into documents; the id is that of source and key. Raises SchemaError."""
    pairs = zip(batch.column("source").to_pylist(), batch.column("key").to_pylist(), strict=True)
    ids = pa.array([document_id(source, key) for source, key in pairs], pa.string())
    columns = {name: batch.column(name) for name in ("text", "source", "url", "date", "lang", "meta")}
    columns |= {"id": ids, "n_bytes": pc.cast(pc.binary_length(columns["text"]), pa.int32())}
    arrays = [columns.get(f.name, pa.nulls(batch.num_rows, f.type)) for f in DOCUMENT_SCHEMA]
    documents = pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT_SCHEMA)
    check_documents(documents)
    return documents


def div_depth(html: str) -> int:
    """How deeply `div`s nest, at most: their start tags less their end tags."""
    depth = deepest = 0
    for match in _DIV.finditer(html):
        depth = max(0, depth - 1) if match[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest


def _resiliparse(html: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    main = div_depth(html) <= MAX_DIV_DEPTH
    return str(extract_plain_text(html, preserve_formatting=True, main_content=main, alt_texts=False))


def _trafilatura(html: str) -> str:
    if html.count("<") > MAX_SLOW_TAGS:
        return ""
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    return trafilatura.extract(html, include_comments=False) or ""
