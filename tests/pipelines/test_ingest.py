"""Ingestion as a task: shards of documents and the dropped rows, a funnel that adds up, the same bytes every time."""

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus.documents import DOCUMENT_SCHEMA, check_documents
from pipelines.stages.extract import Extract
from pipelines.stages.ingest import DUPLICATE, IngestWork
from pipelines.stages.language import Language
from pipelines.stages.readers.jsonl import JsonlInput
from pipelines.stages.readers.reader import Reader
from pipelines.stages.readers.warc import WarcInput
from pipelines.tally import DROPPED_SCHEMA, Tally
from pipelines.tasks import Task, run_task

DEMO = Path(__file__).parents[2] / "pipelines" / "demo"
CHAIN = (Extract(), Language())


def works(reader: Reader, shard_documents: int = 1000) -> list[IngestWork]:
    portions = reader.portions(Path())
    names = [f"web-{i:05d}" for i in range(len(portions))]
    return [IngestWork(reader, p, "web", name, CHAIN, shard_documents) for name, p in zip(names, portions, strict=True)]


def lines_file(path: Path, texts: list[str], ids: list[str] | None = None) -> JsonlInput:
    rows = [{"text": text, **({"id": ids[i]} if ids else {})} for i, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return JsonlInput(path=path)


def test_demo_pages_become_documents(tmp_path):
    (work,) = works(WarcInput(path=DEMO / "web.warc.gz"), shard_documents=100)
    tally = Tally()
    files = list(work.run(tmp_path, tally))
    tally.check("ingest")
    assert tally.records_in == 277
    shards = [file for file in files if file.parent == tmp_path]
    assert [file.name for file in shards] == [f"web-00000-{i:03d}.parquet" for i in range(len(shards))]
    tables = [pq.read_table(file) for file in shards]
    assert [table.num_rows for table in tables[:-1]] == [100] * (len(tables) - 1)
    assert sum(table.num_rows for table in tables) == tally.kept
    assert sum(sum(table["n_bytes"].to_pylist()) for table in tables) == tally.totals["bytes"]
    for table in tables:
        check_documents(table.cast(DOCUMENT_SCHEMA))


def test_the_same_bytes_every_time(tmp_path):
    (work,) = works(WarcInput(path=DEMO / "web.warc.gz"), shard_documents=150)
    first, second = (list(work.run(tmp_path / name, Tally())) for name in "ab")
    assert [file.name for file in first] == [file.name for file in second]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


@pytest.mark.parametrize(("count", "limit"), [(10, 10), (10, 3), (10, 1), (300, 256), (1, 5)])
def test_shards_are_cut_at_the_limit(tmp_path, count, limit):
    (work,) = works(lines_file(tmp_path / "in.jsonl", [f"text number {i}" for i in range(count)]), limit)
    files = list(work.run(tmp_path / "out", Tally()))
    sizes = [pq.read_metadata(file).num_rows for file in files]
    assert sum(sizes) == count
    assert sizes[:-1] == [limit] * (len(sizes) - 1)
    texts = [text for file in files for text in pq.read_table(file)["text"].to_pylist()]
    assert texts == [f"text number {i}" for i in range(count)]


def test_an_id_that_comes_twice_is_kept_once(tmp_path):
    (work,) = works(lines_file(tmp_path / "in.jsonl", ["one", "two", "three"] * 200, ["a", "b", "a"] * 200))
    tally = Tally()
    shard, dropped = work.run(tmp_path / "out", tally)
    tally.check("ingest")
    assert pq.read_table(shard)["text"].to_pylist() == ["one", "two"]
    assert tally.dropped == {DUPLICATE: 598}
    rows = pq.read_table(dropped)
    assert rows.schema.equals(DROPPED_SCHEMA)
    assert rows.num_rows == 598
    tally = Tally()
    list(work.run(tmp_path / "again", tally))
    assert tally.kept == 2, "a second run of the same work begins afresh"


def test_dropped_rows_keep_reason_and_excerpt(tmp_path):
    reader = lines_file(tmp_path / "in.jsonl", ["Ein deutscher Satz, der lang genug ist, um erkannt zu werden."])
    portion = reader.portions(Path())[0]
    work = IngestWork(reader, portion, "web", "web-00000", (Extract(), Language(keep=("en",))), 10)
    (dropped,) = work.run(tmp_path / "out", Tally())
    (row,) = pq.read_table(dropped).to_pylist()
    assert dropped == tmp_path / "out" / "dropped" / "web-00000.parquet"
    assert row["reason"] == "language: de"
    assert row["excerpt"].startswith("Ein deutscher")


def test_an_error_leaves_nothing_behind(tmp_path):
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'{"text": "fine"}\n' * 600)[:-9])
    (work,) = works(JsonlInput(path=tmp_path / "in.jsonl.gz"), 100)
    done = run_task(Task("web-00000", tmp_path / "out", work, strict=True))
    assert done.error is not None
    assert "truncated gzip member" in done.error
    assert not [file for file in (tmp_path / "out").rglob("*") if "writing" in file.name]


def test_problems_are_listed_with_their_place(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "fine"}\n{"text": \n')
    (work,) = works(JsonlInput(path=tmp_path / "in.jsonl"))
    done = run_task(Task("web-00000", tmp_path / "out", work))
    assert done.error is None
    assert done.totals["records_in"] == 2
    assert done.totals["dropped"] == {"malformed JSON": 1}
    (problem,) = map(json.loads, (tmp_path / "out" / "problems" / "web-00000.jsonl").read_text().splitlines())
    assert (problem["file"], problem["offset"]) == ("in.jsonl", 2)


def test_an_input_of_nothing_makes_no_files(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"")
    (work,) = works(JsonlInput(path=tmp_path / "in.jsonl"))
    tally = Tally()
    assert list(work.run(tmp_path / "out", tally)) == []
    tally.check("ingest")
