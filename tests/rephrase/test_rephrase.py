"""Rephrasing accounts for every input, resumes to the same bytes, and generates nothing twice."""

import pyarrow as pa
import pytest

from corpus.documents import DOCUMENT_SCHEMA, check_documents, document_id, documents
from corpus.errors import ConfigError
from rephrase.rephrase import chunk_document, open_cache, rephrase_documents
from rephrase.style import parse_style

HEAD = (
    "---\nname: {name}\nversion: 1\nabout: a test\nsystem: Say it again.\n"
    "limits: {{max_in: 40, max_out: 50, min_segment: 3}}\n"
)
ECHO = HEAD.format(name="echo") + "gates: {copy_8: null, tokens: {low: 1}}\n---\n{document}\n"

TEXTS = [
    "One short line of plain words here.",
    "\n\n".join(f"Paragraph {i} holds a sentence of ten words in all. It holds another one too." for i in range(9)),
    "word " * 200 + "end.",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05d8\u05d5\u05d1 \u05de\u05d0\u05d5\u05d3. "
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645 \u0641\u064a \u0628\u064a\u062a\u0646\u0627\u061f",
    "Tiny.",
    " \n ",
    *[f"Document {i} has its own words, and they are number {i} of many." for i in range(20)],
]


def a_batch(texts=TEXTS) -> pa.RecordBatch:
    return documents(
        [
            {"id": document_id("t", str(i)), "text": text, "source": "web", "lang": "en", "url": f"u{i}"}
            for i, text in enumerate(texts)
        ]
    )


@pytest.fixture
def echo():
    return parse_style(ECHO, where="test")


def run(folder, generator, style, batch=None, **options):
    batch = a_batch() if batch is None else batch
    return rephrase_documents(batch, style, generator, open_cache(folder, style, generator), **{"seed": 7, **options})


def test_with_an_echo_chunking_and_rejoining_is_the_identity(tmp_path, scripted, echo):
    style = parse_style(ECHO.replace("tokens: {low: 1}", "tokens: {low: 1}, loops: null"), where="test")
    result = run(tmp_path, scripted(), style)
    check_documents(result.documents)
    for made in result.documents.to_pylist():
        parent = next(row for row in a_batch().to_pylist() if row["id"] == made["parent_id"])
        assert made["text"].split() == parent["text"].split()
        assert (made["source"], made["style"], made["lang"], made["url"]) == ("wrap/echo", "echo", "en", parent["url"])
        assert made["generator"] == "scripted@00000000"
    assert {row["reason"] for row in result.outcomes.to_pylist()} == {None, "short_segment", "blank"}


def test_every_input_and_every_character_is_accounted_for(tmp_path, scripted, echo):
    drops_some = scripted(lambda text: text if hash_of(text) % 3 else "")
    result = run(tmp_path, drops_some, echo)
    batch = a_batch()
    assert result.outcomes["parent_id"].to_pylist() == batch["id"].to_pylist()
    kept = [row["parent_id"] for row in result.outcomes.to_pylist() if row["reason"] is None]
    assert result.documents["parent_id"].to_pylist() == kept
    assert 0 < len(kept) < len(batch)
    for parent in batch.to_pylist():
        rows = [row for row in result.attempts.to_pylist() if row["parent_id"] == parent["id"]]
        assert "".join(row["source_text"] for row in sorted(rows, key=lambda row: row["start"])) == parent["text"]
        sent = [row for row in rows if row["chunk_index"] is not None]
        assert [row["chunk_index"] for row in sent] == list(range(len(sent)))
        assert all(row["gates"] and row["output_text"] is not None for row in sent)


def hash_of(text: str) -> int:
    return int(document_id("", text), 16)


def test_a_run_stopped_after_any_batch_resumes_to_the_same_bytes(tmp_path, scripted, echo):
    whole = run(tmp_path / "whole", generator := scripted(), echo, batch_size=4)
    n_batches = len(generator.batches)
    assert n_batches > 5
    for stop in range(n_batches):
        broken, second = scripted(fails_after=stop), scripted()
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"{stop}", broken, echo, batch_size=4)
        resumed = run(tmp_path / f"{stop}", second, echo, batch_size=4)
        assert broken.batches + second.batches == generator.batches
        assert (resumed.documents, resumed.attempts, resumed.outcomes) == (
            whole.documents,
            whole.attempts,
            whole.outcomes,
        )


def test_the_cache_answers_for_any_batch_size_place_and_threshold(tmp_path, scripted, echo):
    first = run(tmp_path / "a", scripted(), echo, batch_size=4)
    (tmp_path / "a").rename(tmp_path / "b")
    laxer = parse_style(ECHO.replace("low: 1", "low: 2"), where="test")
    for style, size in ((echo, 1), (echo, 100), (laxer, 4)):
        assert run(tmp_path / "b", again := scripted(), style, batch_size=size).documents == first.documents
        assert again.batches == []
    alone = a_batch().slice(7, 1)
    assert run(tmp_path / "b", again := scripted(), echo, batch=alone).documents.num_rows == 1
    assert again.batches == []


def test_another_template_decoding_model_text_or_rollout_misses_the_cache(tmp_path, scripted, echo):
    run(tmp_path, scripted(), echo)
    others = [
        parse_style(ECHO.replace(*change), where="test")
        for change in (
            ("Say it again.", "Say it twice."),
            ("\n{document}", "\nText: {document}"),
            ("gates:", "decoding: {temperature: 0.1}\ngates:"),
        )
    ]
    tries = [(scripted(), style, {}) for style in others] + [
        (scripted(weights="1" * 16), echo, {}),
        (scripted(), echo, {"rollout": 1}),
        (scripted(), echo, {"batch": a_batch([text + " More words." for text in TEXTS[6:9]])}),
    ]
    for generator, style, options in tries:
        result = run(tmp_path, generator, style, **options)
        sent = {(row["parent_id"], row["source_text"].strip()) for row in result.attempts.to_pylist() if row["gates"]}
        assert sum(len(texts) for _, texts in generator.batches) == len(sent)


def test_a_rephrasing_has_its_own_stable_id(tmp_path, scripted, echo):
    ids = [set(run(tmp_path, scripted(), echo, rollout=rollout).documents["id"].to_pylist()) for rollout in (0, 1, 0)]
    assert ids[0] == ids[2]
    assert not ids[0] & ids[1]
    assert not ids[0] & set(a_batch()["id"].to_pylist())


def test_a_document_needs_enough_of_its_chunks(tmp_path, scripted, echo):
    half = scripted(lambda text: "" if any(f"Paragraph {i}" in text for i in (0, 4, 6)) else text)
    result = run(tmp_path, half, echo, batch=a_batch(TEXTS[1:2]))
    outcome = result.outcomes.to_pylist()[0]
    assert 0 < outcome["kept_share"] < 1
    assert (outcome["reason"] is None) == (outcome["kept_share"] >= 0.5)
    strict = parse_style(ECHO.replace("gates:", "min_kept: 1\ngates:"), where="test")
    assert run(tmp_path, half, strict, batch=a_batch(TEXTS[1:2])).outcomes["reason"].to_pylist() == ["too_little_kept"]


def test_no_document_in_or_none_kept_gives_an_empty_batch(tmp_path, scripted, echo):
    for texts in ([], ["Tiny."]):
        result = run(tmp_path, scripted(), echo, batch=a_batch(texts))
        assert result.documents.schema == DOCUMENT_SCHEMA
        assert result.documents.num_rows == 0
        assert result.outcomes.num_rows == len(texts)


def test_progress_reaches_the_total(tmp_path, scripted, echo):
    seen = []
    run(tmp_path, scripted(), echo, batch_size=4, progress=seen.append)
    assert seen[-1].done == seen[-1].total > 0
    run(tmp_path, scripted(), echo, batch_size=4, progress=seen.append)
    assert (seen[-1].from_cache, seen[-1].n_out) == (seen[-1].total, 0)


def test_limits_that_do_not_fit_are_errors(tmp_path, scripted, echo):
    wide = parse_style(ECHO.replace("max_out: 50", "max_out: 5000"), where="test")
    with pytest.raises(ConfigError, match="does not fit the generator's context"):
        chunk_document("text", wide, scripted())
    with pytest.raises(ConfigError, match="batch_size"):
        run(tmp_path, scripted(), echo, batch_size=0)
