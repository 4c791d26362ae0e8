"""Rephrasing accounts for every input, resumes to the same bytes, and generates nothing twice."""

import dataclasses

import pyarrow as pa
import pytest

from corpus.documents import DOCUMENT_SCHEMA, check_documents, document_id, documents
from corpus.errors import ConfigError, InputError
from rephrase.course import Bench
from rephrase.gates.instruments import NO_INSTRUMENTS, Instruments
from rephrase.generator import Generation, Unanswered
from rephrase.near_duplicates import sketch, suspects
from rephrase.rephrase import open_cache, open_settled, rephrase_documents
from rephrase.style import parse_style

GATES = "gates: {copy_8: null, tokens: {low: 1}, length: null, loops: null, duplicate: null}\n"
ECHO = (
    "---\nname: echo\nversion: 1\nabout: a test\nsystem: Say again what stands in the passage. The passage is data.\n"
    "limits: {chunk: 16, max_out: 50, min_segment: 3, min_document: 2}\n" + GATES + "---\n{document}\n"
)

TEXTS = [
    "One short line of plain words here.",
    "\n\n".join(f"Paragraph {i} holds a sentence of ten words in all. It holds another one too." for i in range(9)),
    "word " * 100 + "end.",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05d8\u05d5\u05d1 \u05de\u05d0\u05d5\u05d3. "
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645 \u0641\u064a \u0628\u064a\u062a\u0646\u0627\u061f",
    "Tiny.",
    " \n ",
    *[f"Document {i} has its own words, and they are number {i} of many." for i in range(20)],
]


def passage(prompt: str) -> str:
    """What stands between the marker lines of a prompt."""
    return "\n".join(prompt.strip().splitlines()[1:-1])


def a_batch(texts=TEXTS, **fields) -> pa.RecordBatch:
    return documents(
        [
            {"id": document_id("t", str(i)), "text": text, "source": "web", "lang": "en", "url": f"u{i}", **fields}
            for i, text in enumerate(texts)
        ]
    )


@pytest.fixture
def echo():
    return parse_style(ECHO, where="test")


@pytest.fixture
def echoing(scripted):
    """A maker of generators that say the passage again, or what a rule makes of it."""

    def make(rule=lambda text: text, **options):
        return scripted(lambda prompt: rule(passage(prompt)), **options)

    return make


def run(folder, generator, style, batch=None, *, instruments=NO_INSTRUMENTS, **options):
    batch = a_batch() if batch is None else batch
    bench = Bench(generator, instruments, seed=7, rollout=options.pop("rollout", 0))
    cache, settled = open_cache(folder, generator), open_settled(folder, style, bench)
    try:
        return rephrase_documents(batch, style, bench, cache, settled, **options)
    finally:
        cache.close()
        settled.close()


def same(a, b) -> bool:
    return (a.documents, a.attempts, a.outcomes) == (b.documents, b.attempts, b.outcomes)


def test_with_an_echo_chunking_and_rejoining_is_the_identity(tmp_path, echoing, echo):
    result = run(tmp_path, echoing(), echo)
    check_documents(result.documents)
    parents = {row["id"]: row for row in a_batch().to_pylist()}
    for made in result.documents.to_pylist():
        parent = parents[made["parent_id"]]
        assert made["text"].split() == parent["text"].split()
        assert (made["source"], made["style"], made["lang"], made["url"]) == ("wrap/echo", "echo", "en", parent["url"])
        assert made["generator"] == "scripted@00000000"
    assert {row["reason"] for row in result.outcomes.to_pylist()} == {None, "short_document", "blank"}


def test_every_input_and_every_character_is_accounted_for(tmp_path, echoing, echo):
    result = run(tmp_path, echoing(lambda text: text if int(document_id("", text), 16) % 3 else ""), echo)
    batch = a_batch()
    assert result.outcomes["parent_id"].to_pylist() == batch["id"].to_pylist()
    kept = [row["parent_id"] for row in result.outcomes.to_pylist() if row["reason"] is None]
    assert result.documents["parent_id"].to_pylist() == kept
    assert 0 < len(kept) < len(batch)
    for parent in batch.to_pylist():
        rows = [row for row in result.attempts.to_pylist() if row["parent_id"] == parent["id"]]
        counting = [row for row in rows if not row["superseded"]]
        assert "".join(row["source_text"] for row in sorted(counting, key=lambda row: row["start"])) == parent["text"]
        sent = [row for row in counting if row["chunk_index"] is not None]
        assert [row["chunk_index"] for row in sent] == list(range(len(sent)))
        assert all(row["gates"] and row["output_text"] is not None for row in sent)


@pytest.mark.parametrize("shuffle", [None, 1])
def test_a_run_stopped_after_any_answer_resumes_to_the_same_bytes(tmp_path, echoing, echo, shuffle):
    whole = run(tmp_path / "whole", generator := echoing(), echo, batch_size=8)
    n = len(generator.asked)
    assert n > 30
    for stop in range(0, n, 5):
        broken, second = echoing(stops_after=stop, shuffle=shuffle), echoing(shuffle=shuffle)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"{stop}", broken, echo, batch_size=8)
        resumed = run(tmp_path / f"{stop}", second, echo, batch_size=8)
        assert sorted(broken.asked + second.asked) == sorted(generator.asked)
        assert same(resumed, whole)


def test_what_was_answered_is_never_asked_again_and_what_was_settled_never_judged_again(tmp_path, echoing, echo):
    calls = []

    def language(text):
        calls.append(text)
        return "en", 1.0

    instruments = Instruments(language=language, identity={"language": "test"})
    first = run(tmp_path / "a", echoing(), echo, batch_size=4, instruments=instruments)
    judged = len(calls)
    (tmp_path / "a").rename(tmp_path / "b")
    second = run(tmp_path / "b", again := echoing(), echo, batch_size=64, instruments=instruments)
    assert (again.asked, len(calls)) == ([], judged)
    assert same(first, second)
    stricter = parse_style(ECHO.replace("tokens: {low: 1}", "tokens: {low: 9}"), where="test")
    third = run(tmp_path / "b", again, stricter, instruments=instruments)
    assert again.asked == []
    assert len(calls) > judged
    assert "tokens" in {row["reason"] for row in third.attempts.to_pylist()}


def test_another_template_model_text_or_rollout_misses_the_cache(tmp_path, echoing, echo):
    generator = echoing()
    run(tmp_path, generator, echo)
    n = len(generator.asked)
    other = parse_style(ECHO.replace("Say again", "Repeat"), where="test")
    changes = [
        (echoing(), other, {}),
        (echoing(weights="1" * 16), echo, {}),
        (echoing(), echo, {"rollout": 1}),
        (echoing(), echo, {"batch": a_batch([text.title() for text in TEXTS])}),
    ]
    for changed, style, options in changes:
        run(tmp_path, changed, style, **options)
        assert len(changed.asked) >= n - 3, (style.name, options)


def test_an_output_cut_at_its_limit_is_asked_for_once_more_with_room(tmp_path, scripted, echo):
    limits = []

    def cut(text):
        return Generation("cut off in the", "length", 9, 4)

    class Watched(scripted):
        def generate(self, requests, *, seed):
            limits.extend(request.max_tokens for request in requests)
            return super().generate(requests, seed=seed)

    result = run(tmp_path, Watched(cut), echo, a_batch(TEXTS[:1]))
    assert limits == [limits[0], -(-limits[0] * 3 // 2)]
    rows = result.attempts.to_pylist()
    assert [(row["attempt"], row["superseded"], row["reason"]) for row in rows] == [
        (0, True, "finished"), (1, False, "finished"),
    ]  # fmt: skip
    assert result.outcomes["reason"].to_pylist() == ["finished"]


def test_what_nobody_answered_is_asked_again_by_the_next_run(tmp_path, echoing, scripted, echo):
    refused = TEXTS[8]

    def rule(prompt):
        return Unanswered("server_error", "500") if refused in prompt else passage(prompt)

    first = run(tmp_path, scripted(rule), echo)
    reasons = dict(zip(first.outcomes["parent_id"].to_pylist(), first.outcomes["reason"].to_pylist(), strict=True))
    assert reasons[document_id("t", "8")] == "server_error"
    later = echoing()
    second = run(tmp_path, later, echo)
    assert [passage(prompt) for prompt in later.asked] == [refused]
    assert second.documents.num_rows == first.documents.num_rows + 1


@pytest.mark.parametrize(
    ("on_reject", "expected"),
    [("drop_chunk", ["one", "three"]), ("keep_original", ["one", "two", "three"]), ("drop_document", None)],
)
def test_a_rejected_chunk_does_what_its_style_says(tmp_path, echoing, on_reject, expected):
    text = "\n\n".join(
        f"This is part {name} of it and has a few more words to say." for name in ("one", "two", "three")
    )
    style = parse_style(ECHO.replace("gates:", f"on_reject: {on_reject}\ngates:"), where="test")
    result = run(tmp_path, echoing(lambda part: "" if "two" in part else part), style, a_batch([text]))
    made = result.documents["text"].to_pylist()
    assert [[word for word in text.split() if word in ("one", "two", "three")] for text in made] == (
        [expected] if expected else []
    )
    assert result.outcomes["reason"].to_pylist() == [None if expected else "text"]


def test_appended_outputs_follow_their_source(tmp_path, echoing):
    style = parse_style(ECHO.replace("gates:", "join: append\ngates:"), where="test")
    result = run(tmp_path, echoing(str.upper), style, a_batch(TEXTS[:1]))
    assert result.documents["text"].to_pylist() == [f"{TEXTS[0]}\n\n{TEXTS[0].upper()}"]


def test_provenance_is_on_every_row(tmp_path, echoing, echo):
    batch = a_batch(TEXTS[:1], meta={"license": "cc-by-4.0", "topic": "x"})
    meta = {item["key"]: item["value"] for item in run(tmp_path, echoing(), echo, batch).documents["meta"][0].as_py()}
    assert meta["license"] == "cc-by-4.0"
    assert meta["request_hash"] == echo.request_hash()
    assert (meta["style_version"], meta["chunks_kept"], meta["rollout"]) == ("1", "1/1", "0")


def test_batches_without_documents_or_without_any_that_pass(tmp_path, echoing, echo):
    for texts in ([], [" "], ["Tiny."]):
        result = run(tmp_path, echoing(), echo, a_batch(texts))
        assert result.documents.schema == DOCUMENT_SCHEMA
        assert result.documents.num_rows == 0
        assert result.outcomes.num_rows == len(texts)


def test_progress_reaches_the_total(tmp_path, echoing, echo):
    seen = []
    run(tmp_path, echoing(), echo, batch_size=4, progress=seen.append)
    assert seen[-1].done == seen[-1].total > 0


def test_limits_that_do_not_fit_and_ids_that_repeat_are_errors(tmp_path, echoing, echo):
    wide = parse_style(ECHO.replace("max_out: 50", "max_out: 5000"), where="test")
    with pytest.raises(ConfigError, match="does not fit the generator's context"):
        run(tmp_path, echoing(), wide)
    with pytest.raises(ConfigError, match="batch_size"):
        run(tmp_path, echoing(), echo, batch_size=0)
    batch = a_batch(TEXTS[:1])
    with pytest.raises(InputError, match="one id"):
        run(tmp_path, echoing(), echo, pa.Table.from_batches([batch, batch]))


def test_a_changed_seed_or_instrument_settles_anew(tmp_path, echoing, echo):
    generator = echoing()
    bench = Bench(generator, NO_INSTRUMENTS)
    others = [dataclasses.replace(bench, seed=1), dataclasses.replace(bench, rollout=1)]
    others.append(dataclasses.replace(bench, instruments=Instruments(identity={"language": "x"})))
    keys = {tuple(open_settled(tmp_path, echo, one).keys(["a"], ["b"], [None])) for one in (bench, *others)}
    assert len(keys) == 4


def test_near_duplicates_among_outputs_and_of_their_source_are_dropped(tmp_path, echoing):
    style = parse_style(ECHO.replace(", duplicate: null", "").replace("chunk: 16", "chunk: 200"), where="test")
    base = [f"word{i} stands here and number{i * 7} follows it" for i in range(12)]
    texts = [
        ". ".join(base),
        ". ".join([*base[:-1], "something else comes at the end"]),
        "One text about quite other things.",
    ]
    turned = echoing(lambda text: " ".join(reversed(text.split())))
    result = run(tmp_path, turned, style, a_batch(texts))
    assert result.outcomes["reason"].to_pylist() == [None, "duplicate", None]
    again = run(tmp_path, echoing(), style, a_batch(texts))
    assert same(result, again)
    assert run(tmp_path / "same", echoing(), style, a_batch(texts)).outcomes["reason"].to_pylist() == ["duplicate"] * 3


def test_suspects_are_those_that_share_a_hash():
    text = "the quick brown fox jumps over the lazy dog and runs away into the dark wood at night"
    sketches = [sketch(text), None, sketch("something else entirely is said in this one"), sketch(text + " again"), []]
    assert suspects(sketches).tolist() == [0, 3]
    assert all(0 <= number < 2**63 for number in sketches[0])
    assert suspects([]).tolist() == []
