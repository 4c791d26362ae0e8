"""Tokenisation: the fast encoder gives the same ids as tokenizers, and shards cover every document."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus.documents import documents
from corpus.errors import ConfigError, InputError
from corpus.shards import write_table
from corpus.tokenizer import load_encoder, train_tokenizer
from corpus.tokens import read_docs, read_token_shard
from pipelines.stages.tokenize import TokenizeWork, texts_of
from pipelines.tally import Tally

PAGES = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"


@pytest.fixture(scope="module")
def texts():
    return [json.loads(line)["text"] for line in PAGES.read_text(encoding="utf-8").splitlines()][:120]


@pytest.fixture(scope="module")
def tokenizer(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(texts, 1500, path)
    return path


def test_training_twice_gives_the_same_bytes(texts, tokenizer, tmp_path):
    train_tokenizer(texts, 1500, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == tokenizer.read_bytes()


def test_a_vocabulary_that_the_text_cannot_fill_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"too small(.|\n)*tokenizer\.vocabulary"):
        train_tokenizer(["a few words"], 5000, tmp_path / "t.json")


def test_real_text_encodes_to_the_same_ids_through_the_fast_engine(texts, tokenizer):
    encoder = load_encoder(tokenizer)
    assert encoder.engine == "tiktoken"
    slow = Tokenizer.from_file(str(tokenizer)).encode_batch(texts, add_special_tokens=False)
    for fast, item in zip(encoder.encode(texts), slow, strict=True):
        assert fast.tolist() == item.ids


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example(text="a<|endoftext|>b")
@settings(deadline=None, max_examples=300)
def test_any_text_encodes_the_same_and_decodes_to_itself(text, tokenizer):
    slow = Tokenizer.from_file(str(tokenizer))
    slow.encode_special_tokens = True  # the name of a special token inside a document is text
    ids = load_encoder(tokenizer).encode([text])[0].tolist()
    assert ids == slow.encode(text, add_special_tokens=False).ids
    assert slow.decode(ids, skip_special_tokens=False) == text


def test_shards_cover_their_documents(texts, tokenizer, tmp_path):
    rows = [{"id": str(i), "text": text, "source": "t"} for i, text in enumerate(texts[:40])]
    write_table(tmp_path / "t-00000-000.parquet", documents(rows))
    tally = Tally()
    TokenizeWork(tmp_path / "t-00000-000.parquet", tokenizer).run(tmp_path / "out", tally)
    shard = tmp_path / "out" / "t-00000-000.npy"
    ids, docs, encoder = read_token_shard(shard), read_docs(shard), load_encoder(tokenizer)
    assert ids.dtype == np.uint16
    assert tally.totals["tokens"] == len(ids)
    slow = Tokenizer.from_file(str(tokenizer))
    for row, text in zip(docs.to_pylist(), texts[:40], strict=True):
        piece = ids[row["start"] : row["start"] + row["length"]]
        assert piece[-1] == encoder.end_of_text
        assert slow.decode(piece[:-1].tolist(), skip_special_tokens=False) == text
    assert list(texts_of([tmp_path / "t-00000-000.parquet"])) == texts[:40]


def test_end_of_text_in_a_document_is_text_not_a_border(tokenizer, tmp_path):
    write_table(tmp_path / "t.parquet", documents([{"id": "1", "text": "a <|endoftext|> b", "source": "t"}]))
    TokenizeWork(tmp_path / "t.parquet", tokenizer).run(tmp_path / "out", Tally())
    ids = read_token_shard(tmp_path / "out" / "t.npy")
    assert (ids == load_encoder(tokenizer).end_of_text).sum() == 1


def test_an_empty_shard_is_a_shard(tokenizer, tmp_path):
    write_table(tmp_path / "t.parquet", documents([]))
    TokenizeWork(tmp_path / "t.parquet", tokenizer).run(tmp_path / "out", Tally())
    assert len(read_token_shard(tmp_path / "out" / "t.npy")) == 0
    assert isinstance(read_docs(tmp_path / "out" / "t.npy"), pa.Table)


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_damaged_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(InputError, match="tokenizer"):
        load_encoder(path)
