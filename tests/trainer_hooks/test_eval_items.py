"""Questions are read from every known form, and a line that is none is named with its number."""

import gzip
import json

import pytest

from corpus.errors import InputError
from trainer_hooks.evals.item_files import read_items

CHOICES = {"query": "The sky is", "choices": ["blue", " glue"], "gold": 0}
PAIR = {
    "sentence_good": "No dog has ever barked.",
    "sentence_bad": "Some dog has ever barked.",
    "UID": "npi",
    "pairID": "7",
}
SCHEMA = {"context_options": ["The cup fell; the cup", "The cup fell; the floor"], "continuation": "broke", "gold": 1}
LOGGED = {
    "doc_id": 30,
    "arguments": {f"gen_args_{i}": {"arg_0": "Q: 2+2?\nA:", "arg_1": f" {i + 3}"} for i in range(3)},
    "target": "1",
}


def requests(doc_id, continuations, label, **more):
    return [
        {"request_type": "loglikelihood", "doc_id": doc_id, "idx": i, "task_name": "arc", "label": label, **more,
         "request": {"context": "Q?\nAnswer:", "continuation": one}}
        for i, one in enumerate(continuations)
    ]  # fmt: skip


def write(path, lines):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_form_becomes_a_question(tmp_path, suffix):
    lines = [CHOICES, PAIR, SCHEMA, LOGGED, *reversed(requests(5, [" a", " b"], 1, document="page-9"))]
    found = read_items(write(tmp_path / f"mixed.jsonl{suffix}", lines))
    assert not found.problems
    choices, pair, schema, logged, arc = found.items
    assert (choices.task, choices.name, choices.gold) == ("mixed", "1", 0)
    assert choices.options == (("The sky is", " blue"), ("The sky is", " glue"))
    assert (pair.task, pair.name, pair.options[1]) == ("npi", "7", ("", "Some dog has ever barked."))
    assert schema.options == (("The cup fell; the cup", " broke"), ("The cup fell; the floor", " broke"))
    assert (logged.name, logged.gold, logged.options[1]) == ("30", 1, ("Q: 2+2?\nA:", " 4"))
    assert (arc.task, arc.name, arc.gold, arc.document) == ("arc", "5", 1, "page-9")
    assert [continuation for _, continuation in arc.options] == [" a", " b"]


@pytest.mark.parametrize(("label", "gold"), [(2, 2), ("2", 2), ("b", 1), (" c ", 2)])
def test_a_label_is_a_number_or_the_text_of_an_answer(tmp_path, label, gold):
    found = read_items(write(tmp_path / "r.jsonl", requests(0, [" a", " b", " c"], label)))
    assert found.items[0].gold == gold


BAD = [
    ("{", "no JSON"),
    ("[1]", "not a JSON object"),
    ({"text": "a page"}, "none of the known forms; its keys are text"),
    ({**CHOICES, "gold": 2}, "the right answer is 2, which is none of 2 options"),
    ({**CHOICES, "gold": True}, "the right answer is True"),
    ({**CHOICES, "gold": None}, "the right answer is None"),
    ({**CHOICES, "choices": "blue"}, "choices is not a list of texts"),
    ({**CHOICES, "choices": ["blue", " blue"]}, "two options are equal"),
    ({"choices": ["a"], "gold": 0}, "query is missing or no text"),
    ({**PAIR, "sentence_bad": 3}, "sentence_bad is missing or no text"),
    ({**LOGGED, "arguments": {"gen_args_0": {"arg_0": "x"}}}, "arguments are not pairs"),
    ({"doc_id": 1, "request": {"context": "x", "continuation": "y"}}, "doc_id or a whole number idx is missing"),
    ({"doc_id": 1, "idx": 0, "request": {"prompt": "x"}}, "context is missing or no text"),
    ({"doc_id": 1, "idx": 1, "label": 0, "request": {"context": "x", "continuation": "y"}}, "have idx [1], not 0, 1"),
    ({"doc_id": 1, "idx": 0, "label": 0, "request": {"context": "x", "continuation": ""}}, "a continuation is empty"),
]


@pytest.mark.parametrize(("line", "why"), BAD, ids=[why for _, why in BAD])
def test_a_line_that_is_no_question_is_named_and_left_out_or_stops(tmp_path, line, why):
    path = write(tmp_path / "q.jsonl", [CHOICES, "", line])
    found = read_items(path)
    assert len(found.items) == 1
    assert found.problems[0].startswith("q.jsonl, line 3: ")
    assert why in found.problems[0]
    with pytest.raises(InputError, match="line 3"):
        read_items(path, strict=True)


def test_names_are_not_given_twice_and_requests_of_a_document_agree(tmp_path):
    twice = read_items(write(tmp_path / "q.jsonl", [{**CHOICES, "id": "a"}, {**CHOICES, "id": "a"}]))
    assert twice.problems == ["q.jsonl, line 2: a second question called 'a' in q"]
    lines = requests(0, [" a", " b"], 1)
    lines[1]["label"] = 0
    assert "disagree about the label" in read_items(write(tmp_path / "r.jsonl", [CHOICES, *lines])).problems[0]


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_items(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="an empty file"):
        read_items(write(tmp_path / "empty.jsonl", []))
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(gzip.compress(json.dumps(CHOICES).encode() * 50)[:-9])
    with pytest.raises(InputError, match="cannot read these questions"):
        read_items(damaged)


def test_the_key_is_of_what_is_asked(tmp_path):
    first, other = read_items(write(tmp_path / "q.jsonl", [CHOICES, {**CHOICES, "gold": 1}])).items
    again = read_items(write(tmp_path / "p.jsonl", [CHOICES])).items[0]
    assert first.key() == again.key() != other.key()
