"""Examples come from files or from documents, chosen by URL, and what cannot be read is named."""

import json

import pytest

from corpus.artifacts import begin, describe_part, finish
from corpus.documents import documents
from corpus.errors import ConfigError, InputError
from corpus.shards import write_table
from pipelines import examples
from raters.examples import Examples


def example_texts(*arguments):
    return [text for batch in examples.example_texts(*arguments) for text in batch.to_pylist()]


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "filtered"
    begin(folder, "f")
    rows = [{"id": str(i), "text": f"document {i}", "source": "t", "url": f"https://a/{i}"} for i in range(4)]
    write_table(folder / "t.parquet", documents([*rows, {"id": "9", "text": "without", "source": "t"}]))
    parts = [describe_part(folder, folder / "t.parquet")]
    return finish(
        folder, kind="documents", name="filtered", fingerprint="f", config={}, inputs=[], parts=parts, totals={}
    )


def test_documents_are_chosen_by_url(artifact, tmp_path):
    assert example_texts(Examples(urls=("*/1", "*/3")), artifact, tmp_path, "here") == ["document 1", "document 3"]
    with pytest.raises(ConfigError, match="here finds no example"):
        example_texts(Examples(urls=("*nowhere*",)), artifact, tmp_path, "here")


def test_lines_of_files_are_taken_instead_of_documents(artifact, tmp_path):
    rows = [{"url": "https://b/x", "text": "one"}, {"text": "two"}, {"url": "https://b/y", "text": " "}]
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert example_texts(Examples(files=("e.jsonl",)), artifact, tmp_path, "here") == ["one", "two"]
    assert example_texts(Examples(files=("e.jsonl",), urls=("*/x",)), artifact, tmp_path, "here") == ["one"]


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"url": "u"}'])
def test_a_bad_line_is_named(artifact, tmp_path, line):
    (tmp_path / "e.jsonl").write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"e\.jsonl, line 2"):
        example_texts(Examples(files=("e.jsonl",)), artifact, tmp_path, "here")


def test_a_missing_file_and_an_empty_choice_are_refused(artifact, tmp_path):
    with pytest.raises(InputError, match="file of examples is missing"):
        example_texts(Examples(files=("none.jsonl",)), artifact, tmp_path, "here")
    with pytest.raises(ValueError, match="give files of examples"):
        Examples()
