"""Shards appear whole or not at all, and their bytes do not depend on how rows arrived."""

import errno

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.documents import DOCUMENT_SCHEMA, check_documents, document_id, documents
from corpus.errors import ArtifactError, EnvironmentProblem, SchemaError
from corpus.scores import Score, check_aligned, score_schema, scores_of
from corpus.shards import TableWriter, atomic_path, read_batches, read_rows, read_schema, read_table, write_table


def write_half(path, error):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def rows(n):
    return [{"id": document_id("t", str(i)), "text": f"text {i}", "source": "t", "meta": {"k": "v"}} for i in range(n)]


@given(st.lists(st.integers(0, 1500), max_size=8))
@settings(max_examples=20, deadline=None)
def test_bytes_do_not_depend_on_batch_sizes(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("shards")
    table = pa.table({"x": pa.array(range(sum(sizes)), pa.int64())})
    write_table(folder / "whole.parquet", table)
    with TableWriter(folder / "pieces.parquet", table.schema) as writer:
        start = 0
        for size in sizes:
            for batch in table.slice(start, size).to_batches():
                writer.write(batch)
            start += size
    assert (folder / "whole.parquet").read_bytes() == (folder / "pieces.parquet").read_bytes()
    assert read_table(folder / "whole.parquet").equals(table)


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_some_rows_are_those_of_the_whole(tmp_path_factory, a, b):
    path = tmp_path_factory.getbasetemp() / "some-rows.parquet"
    table = pa.table({"x": pa.array(range(5_000), pa.int64()), "y": pa.array(range(5_000), pa.int32())})
    if not path.exists():
        write_table(path, table)  # three row groups
    first, stop = min(a, b), max(a, b)
    assert read_rows(path, first, stop).equals(table.slice(first, stop - first))
    assert read_rows(path, first, stop, ["y"]).column_names == ["y"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "a.parquet", RuntimeError())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_what_to_do(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"(?s)disk is full.*MB left.*run the same command again"):
        write_half(tmp_path / "a.parquet", OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"PAR1 is not enough"])
def test_missing_or_damaged_shards_are_named(tmp_path, content):
    path = tmp_path / "web-00000.parquet"
    if content is not None:
        path.write_bytes(content)
    for read in (read_table, lambda p: list(read_batches(p)), read_schema):
        with pytest.raises(ArtifactError, match=r"web-00000\.parquet"):
            read(path)


def test_documents_are_checked():
    batch = documents(rows(3))
    assert batch.schema.equals(DOCUMENT_SCHEMA)
    assert batch.column("n_bytes").to_pylist() == [6, 6, 6]
    with pytest.raises(SchemaError, match="empty text"):
        documents([{"id": "1", "text": "", "source": "t"}])
    with pytest.raises(SchemaError, match="does not hold documents"):
        check_documents(batch.drop_columns(["url"]))


def test_document_ids_part_source_from_key():
    assert document_id("ab", "c") != document_id("a", "bc")
    assert len(document_id("web", "k")) == 32


def test_score_metadata_survives_a_file(tmp_path):
    scores = (Score("a", 0.0, 1.0, "high", "what it is"), Score("b", None, None, "middle"))
    schema = score_schema(scores, "f00d")
    write_table(tmp_path / "s.parquet", schema.empty_table())
    assert scores_of(read_schema(tmp_path / "s.parquet")) == scores


def test_misaligned_sidecars_are_refused():
    ids = pa.array(["a", "b"])
    check_aligned(ids, pa.array(["a", "b"]), "x")
    for other in (["b", "a"], ["a"], ["a", "b", "c"]):
        with pytest.raises(SchemaError, match="not aligned"):
            check_aligned(ids, pa.array(other), "x")
