"""Extraction: texts of plain and hostile pages, what is altered in a text, and documents made of pages."""

import gzip
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.documents import DOCUMENT_SCHEMA, document_id
from pipelines.stages.base import PAGE_SCHEMA
from pipelines.stages.extract import NO_TEXT, Extract, clean, div_depth, to_documents
from pipelines.stages.readers.pages import Page, page_batches

ARTICLE = (
    "<html><body><nav><a href=/>Home</a></nav><article><h1>Title</h1>"
    + "<p>A sentence about step-wise learning.</p>" * 20
)


def batch_of(*bodies: bytes | str) -> pa.RecordBatch:
    pages = []
    for i, body in enumerate(bodies):
        raw = body.encode() if isinstance(body, str) else body
        pages.append(Page(key=str(i), url=f"http://x/{i}", charset="utf-8", body=raw))
    return next(page_batches(pages, "web"))


def texts(stage: Extract, *bodies: bytes | str) -> tuple[list[str | None], list[str | None]]:
    batch, reasons = stage.process(batch_of(*bodies))
    assert batch.schema.equals(PAGE_SCHEMA)
    assert batch.num_rows == len(bodies)
    assert reasons is not None
    return batch.column("text").to_pylist(), reasons.to_pylist()


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_the_article_is_found(extractor):
    (text,), (reason,) = texts(Extract(extractor=extractor), ARTICLE)
    assert reason is None
    assert text is not None
    assert text.count("A sentence about step-wise learning.") == 20 or extractor == "trafilatura"
    assert "A sentence about step-wise learning." in text


def test_empty_pages_are_dropped_by_name():
    found, reasons = texts(Extract(), "<html><script>x=1</script></html>", "<!-- -->", "\x01\x02", ARTICLE)
    assert found[:3] == [None, None, None]
    assert reasons == [NO_TEXT, NO_TEXT, NO_TEXT, None]


def test_a_text_that_is_there_already_is_only_cleaned():
    pages = [Page(key="a", text=" one\r\ntwo\x07\tthree\u2028four \ufeff"), Page(key="b", text="\x00\x01 ")]
    batch, reasons = Extract().process(next(page_batches(pages, "web")))
    assert batch.column("text").to_pylist() == ["one\ntwo\tthree\nfour", None]
    assert reasons is not None
    assert reasons.to_pylist() == [None, NO_TEXT]


@given(st.text())
def test_cleaning_is_idempotent_and_keeps_letters(text):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert [c for c in cleaned if c.isalnum()] == [c for c in text if c.isalnum()]
    cleaned.encode("utf-8")


def test_decomposed_letters_stay_as_they_are():
    assert clean("e\u0301 \u00e9") == "e\u0301 \u00e9"


HOSTILE = {
    "nested divs": "<div>" * 50_000 + "text " * 100,
    "nested divs with text": "<div>hello world text" * 30_000,
    "capital divs": "<DIV\n>" * 50_000 + "text " * 100,
    "nested lists": "<ul><li>x" * 30_000,
    "nested tables": "<table><tr><td>" * 20_000 + "x",
    "paragraphs": "<p>x" * 50_000,
    "breaks": "<br>" * 50_000,
    "huge attribute": '<p class="' + "x" * 3_000_000 + '">hello',
    "many attributes": "<p " + 'a="b" ' * 200_000 + ">hello",
    "entities": "&#x0;&#xd800;&amp;&#x110000;" * 20_000,
    "open comments": "<!--" * 200_000,
    "open tags": "<" * 500_000,
    "selects": "<select><option>" * 20_000,
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_html_neither_hangs_nor_crashes(name):
    start = time.process_time()
    found, reasons = texts(Extract(), HOSTILE[name])
    assert time.process_time() - start < 10
    assert (found[0] is None) == (reasons[0] is not None)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<p>", "</p>", "<div", ">", "<a href='", "text", "\x00", "&#xdfff;", "<table>", "]]>", "\xff"])
    )
)
def test_any_markup_gives_a_text_or_a_reason(parts):
    found, reasons = texts(Extract(fallback=False), "".join(parts), "".join(parts).encode("latin-1"))
    assert [text is None for text in found] == [reason is not None for reason in reasons]


def test_a_failure_costs_one_page():
    pages = [Page(key="good", charset="utf-8", body=ARTICLE.encode()), Page(key="bad", charset="no-such", body=b"<p>x")]
    batch, reasons = Extract().process(next(page_batches(pages, "web")))
    assert reasons is not None
    assert reasons.to_pylist() == [None, "extract: failed (LookupError)"]
    assert batch.column("text")[1].as_py() is None


def test_div_depth():
    assert div_depth("<div><div></div><div></div></div>") == 2
    assert div_depth("</div></div><div class=a><divider>") == 1
    assert div_depth("<br>" * 1000) == 0


def test_to_documents():
    batch, _ = Extract().process(batch_of(ARTICLE))
    documents = to_documents(batch)
    assert documents.schema.equals(DOCUMENT_SCHEMA)
    (row,) = documents.to_pylist()
    assert row["id"] == document_id("web", "0")
    assert row["n_bytes"] == len(row["text"].encode())
    assert row["url"] == "http://x/0"


def test_settings_are_identity():
    assert Extract().identity() != Extract(extractor="trafilatura").identity()
    assert Extract().identity()["stage"] == "Extract"


def test_bodies_in_other_charsets():
    page = Page(
        key="a",
        charset="cp1251",
        body=gzip.decompress(gzip.compress("<p>\u043f\u0440\u0438\u0432\u0435\u0442</p>".encode("cp1251"))),
    )
    batch, _ = Extract().process(next(page_batches([page], "web")))
    assert batch.column("text").to_pylist() == ["\u043f\u0440\u0438\u0432\u0435\u0442"]
