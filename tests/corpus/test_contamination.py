"""Contamination: the reference's golden values, equality with a brute-force count, and the forms of item files."""

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.contamination import NOTHING, ContaminationIndex, Hit, item_tokens, open_index
from corpus.errors import ConfigError, InputError
from corpus.evaluation_items import EvaluationItem, EvaluationItems

TWENTY = [f"token{i}" for i in range(20)]


def text_items(*texts, evaluation="e"):
    return EvaluationItems(tuple(EvaluationItem(evaluation, str(i), {"text": text}) for i, text in enumerate(texts)))


def index_of(*texts, **options):
    return ContaminationIndex(text_items(*texts), **options)


def said(*parts):
    """Tokens of the golden item between words that it does not have."""
    return " other words here ".join(" ".join(TWENTY[a:b]) for a, b in parts)


@pytest.mark.parametrize(
    ("shared", "coverage", "hit"),
    [
        ([(0, 12)], 0.6, True),
        ([(0, 10)], 0.5, False),
        ([(0, 7), (12, 19)], 0.0, False),
        ([(0, 8), (12, 20)], 0.8, True),
        ([(0, 20)], 1.0, True),
    ],
)
def test_golden_coverages_of_an_item_of_twenty_tokens(shared, coverage, hit):
    index = index_of(" ".join(TWENTY))
    text = f"before {said(*shared)} after"
    assert index.coverage(text) == pytest.approx(coverage)
    assert bool(index.hits(text)) is hit
    assert index.worst(text) == (Hit(coverage, "e", "0", "text") if coverage else NOTHING)


def test_two_documents_with_40_percent_each_are_no_hit():
    index = index_of(" ".join(TWENTY))
    for part in ((0, 8), (8, 16)):
        assert index.coverage(said(part)) == pytest.approx(0.4)
        assert not index.hits(said(part))


def test_an_item_of_seven_tokens_is_hit_only_whole_and_at_token_borders():
    index = index_of("Six plus seven is what number then")
    assert index.coverage("x six plus (seven) is what number, then!") == 1.0
    assert index.coverage("six plus seven is what number") == 0.0
    assert index.coverage("sixsix plus seven is what number thens") == 0.0
    assert (
        index_of("Six plus seven is what number then", shortest=8).coverage("six plus seven is what number then") == 0
    )


def test_tokens_are_normalised_alike_on_both_sides():
    assert item_tokens('A-b, (c): "D"\\e\nf.g;h?I!') == list("abcdefghi")
    assert item_tokens("2+2=4 \u201cCaf\u00e9\u201d\u2014l\u2019eau") == ["2+2=4", "caf\u00e9", "l'eau"]
    assert item_tokens("Cafe\u0301") == item_tokens("CAF\u00c9")
    assert item_tokens("\u6c34\u662f\u4ec0\u4e48\uff1f") == list("\u6c34\u662f\u4ec0\u4e48")
    assert item_tokens("") == item_tokens(" .,- ") == []


token = st.sampled_from(["a", "b", "c"])
token_lists = st.lists(token, min_size=1, max_size=14)


def brute_force(item, document, n):
    """Covered share by definition: a token counts if some run of n around it is in the document, too."""
    if len(item) < n:
        return float(re.search(rf"(?:^| ){re.escape(' '.join(item))}(?: |$)", " ".join(document)) is not None)
    runs = {tuple(document[i : i + n]) for i in range(len(document) - n + 1)}
    covered = {i + k for i in range(len(item) - n + 1) if tuple(item[i : i + n]) in runs for k in range(n)}
    return len(covered) / len(item)


@settings(max_examples=300, deadline=None)
@given(st.lists(token_lists, min_size=1, max_size=5), st.lists(token, max_size=40), st.integers(1, 9))
def test_coverage_equals_brute_force(items, document, n):
    index = index_of(*(" ".join(item) for item in items), n=n, shortest=1)
    wanted = [brute_force(item, document, n) for item in items]
    text = ", ".join(document)
    assert index.coverage(text) == pytest.approx(max(wanted))
    assert {hit.item: hit.coverage for hit in index.hits(text)} == pytest.approx(
        {str(i): share for i, share in enumerate(wanted) if share > 0.5}
    )


@given(st.text(max_size=300))
def test_any_text_can_be_looked_through(text):
    assert index_of("one two three four five six seven eight nine").coverage(text) == 0.0
    if len(item_tokens(text)):
        assert index_of(text, shortest=1).coverage(f"so: {text} .") == 1.0


QUESTION = {
    "id": "q1",
    "question": "Which of the two long walls of the old harbour was built first by the engineers",
    "passage": "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3,
    "options": ["north", "south"],
    "answer": "north",
}


def write(path, *rows):
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


def test_scopes_see_the_question_alone_or_diluted(tmp_path):
    items = EvaluationItems.read([write(tmp_path / "harbour.jsonl", QUESTION)])
    asked, passage = QUESTION["question"], QUESTION["passage"]
    by_scope = {scope: ContaminationIndex(items, scope=scope) for scope in ("prompt", "all", "per_field")}
    assert by_scope["per_field"].worst(asked) == Hit(1.0, "harbour", "q1", "question")
    assert by_scope["prompt"].coverage(asked) == 1.0
    assert by_scope["all"].coverage(asked) == pytest.approx(16 / (16 + 78 + 3))
    assert by_scope["all"].worst(f"{asked} {passage}").field == "all"
    assert by_scope["prompt"].coverage(passage) == 0.0
    assert by_scope["per_field"].worst(passage).field == "passage"
    assert len({index.identity for index in by_scope.values()}) == 3
    assert by_scope["per_field"].coverage("north") == 0.0


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"id": 3, "text": "plain"}, {"text": "plain"}),
        ({"query": "Q", "choices": ["x", "y"], "gold": 1}, {"question": "Q", "options": "x\ny", "answer": "y"}),
        ({"question": "Q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}}, {"question": "Q", "options": "x\ny"}),
        ({"context_options": ["a", "b"], "continuation": "c", "gold": 0}, {"question": "a c\nb c"}),
        ({"sentence_good": "good", "sentence_bad": "bad"}, {"text": "good", "options": "bad"}),
        ({"arguments": [["ctx", " x"], ["ctx", " y"]], "target": 0}, {"question": "ctx", "options": " x\n y"}),
        (
            {"arguments": {"gen_args_0": {"arg_0": "ctx", "arg_1": "x"}}, "doc_id": 5},
            {"question": "ctx", "options": "x"},
        ),
        ({"problem": "P", "solution": "S", "level": 5}, {"question": "P", "answer": "S"}),
        ({"premise": "p", "question": "q", "answer": 7}, {"passage": "p", "question": "q", "answer": "7"}),
    ],
)
def test_the_forms_of_lines(tmp_path, row, fields):
    (item,) = EvaluationItems.read([write(tmp_path / "some.jsonl.gz", row)]).items
    assert item.evaluation == "some"
    assert dict(item.fields) == fields


def test_requests_are_gathered_by_document(tmp_path):
    rows = [
        {"doc_id": 7, "idx": i, "task_name": "arc", "label": 0, "request": {"context": "ctx", "continuation": end}}
        for i, end in enumerate((" x", " y"))
    ]
    (item,) = EvaluationItems.read([write(tmp_path / "r.jsonl", *rows)]).items
    assert (item.evaluation, item.name, dict(item.fields)) == ("arc", "7", {"question": "ctx", "options": " x\n y"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "line 1"),
        (b'{"text": "fine"}\n[1]\n', "line 2"),
        (b'{"title": "x"}\n', "title"),
        (b'{"text": "  "}\n', "no text"),
        (b'{"request": ["a"], "doc_id": 1}\n', "continuation"),
        (b"\n", "no evaluation item"),
        (b"\xff\xfe\n", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, body, message):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(body)
    with pytest.raises(InputError, match=message) as error:
        EvaluationItems.read([path])
    assert "bad.jsonl" in str(error.value)


def test_a_missing_file_and_a_bad_parameter():
    with pytest.raises(InputError, match="there is no file"):
        EvaluationItems.read([Path("nowhere.jsonl")])
    for options in ({"n": 0}, {"threshold": 1.0}, {"shortest": 0}):
        with pytest.raises(ConfigError, match="cannot be looked for"):
            index_of("a", **options)


def test_identity_is_of_the_items_and_not_of_their_order():
    a, b = text_items("one", evaluation="x").items, text_items("two", evaluation="y").items
    assert EvaluationItems(a + b).identity == EvaluationItems(b + a).identity
    assert EvaluationItems(a).identity != EvaluationItems(b).identity
    assert EvaluationItems(a + b).counts == {"x": 1, "y": 1}


def test_files_are_read_again_when_they_change(tmp_path):
    path = write(tmp_path / "a.jsonl", {"text": " ".join(TWENTY)})
    assert open_index([path]) is open_index([path])
    first = open_index([path])
    write(path, {"text": "another text of some words that is long enough"})
    assert open_index([path]).identity != first.identity
