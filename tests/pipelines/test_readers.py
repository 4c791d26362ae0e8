"""Readers: every input kind, and bad input of every sort: counted, named with its place, and skipped."""

import gzip
import json
import random
import zlib
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter

from corpus.documents import DOCUMENT_SCHEMA, documents
from corpus.errors import InputError
from pipelines.stages.base import PAGE_SCHEMA
from pipelines.stages.readers.base import InputConfig
from pipelines.stages.readers.charset import decide
from pipelines.tally import Tally

DEMO = Path(__file__).parents[2] / "pipelines" / "demo"
ADAPTER: TypeAdapter[Any] = TypeAdapter(Annotated[InputConfig, Field(discriminator="kind")])


def read(path: Path, kind: str, *, strict: bool = False, **options: Any) -> tuple[list[dict[str, Any]], Tally]:
    """All pages of an input as rows, and the tally with the kept rows counted; asserts that the funnel adds up."""
    reader = ADAPTER.validate_python({"kind": kind, "path": path, **options})
    tally, rows = Tally(strict=strict), []
    for portion in reader.portions(Path()):
        for batch in reader.read(portion, "web", tally):
            assert batch.schema.equals(PAGE_SCHEMA)
            assert batch.num_rows <= 256
            batch.validate(full=True)
            rows += batch.to_pylist()
    tally.records_in += len(rows)
    tally.kept += len(rows)
    tally.check("test")
    return rows, tally


def record(
    i: int,
    body: bytes = b"",
    *,
    http: bytes | None = None,
    kind: str = "response",
    extra: bytes = b"",
    length: int | None = None,
) -> bytes:
    """One WARC record, its page saying its number unless a body is given."""
    body = body or b"<html><body><p>page %d</p></body></html>" % i
    content = (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" if http is None else http) + body
    head = (
        b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Record-ID: <urn:uuid:%04d>\r\nWARC-Target-URI: http://example.org/%d\r\n"
        b"WARC-Date: 2026-01-01T00:00:00Z\r\n%sContent-Type: application/http; msgtype=response\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    return head % (kind.encode(), i, i, extra, len(content) if length is None else length) + content + b"\r\n\r\n"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def keys(rows: list[dict[str, Any]]) -> list[str]:
    return [row["key"] for row in rows]


# ---- the good case


def test_demo_pages_are_read_whole():
    rows, tally = read(DEMO / "web.warc.gz", "warc")
    assert len(rows) == 277
    assert not tally.problems
    assert tally.totals["records_other"] == 1
    assert rows[0]["url"] == "https://www.sqlite.org/c3ref/create_module.html"
    assert rows[0]["body"].startswith(b"<!DOCTYPE html>")
    assert len(set(keys(rows))) == 277


def test_keys_survive_recompression_and_renaming(tmp_path):
    plain = b"".join(record(i) for i in range(20))
    members = b"".join(gzip.compress(record(i)) for i in range(20))
    files = {"a.warc": plain, "b.warc.gz": members, "one_member.warc.gz": gzip.compress(plain)}
    read_rows = [read(write(tmp_path / name, data), "warc")[0] for name, data in files.items()]
    assert read_rows[0] == read_rows[1] == read_rows[2]
    assert keys(read_rows[0]) == [f"{i:04d}" for i in range(20)]


def test_wet_reads_conversion_records(tmp_path):
    rows, tally = read(
        write(tmp_path / "a.wet.gz", gzip.compress(record(1, b"text \xff one", http=b"", kind="conversion"))), "wet"
    )
    assert [row["text"] for row in rows] == ["text \ufffd one"]
    assert tally.problem_counts == {"invalid UTF-8": 1}


def test_html_folder_is_read_by_relative_path(tmp_path):
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    write(folder / "b.html", b"<p>b</p>")
    write(folder / "sub" / "a.htm", "<p>\u00e4</p>".encode("latin-1"))
    write(folder / "note.txt", b"not a page")
    write(tmp_path / "secret.html", b"<p>secret</p>")
    (folder / "link.html").symlink_to(tmp_path / "secret.html")
    rows, tally = read(folder, "html")
    assert keys(rows) == ["b.html", "sub/a.htm"]
    assert rows[1]["body"].decode(rows[1]["charset"]) == "<p>\u00e4</p>"
    assert tally.dropped == {"leaves its folder": 1}


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_jsonl_plain_gzip_zstd(tmp_path, suffix):
    lines = [{"body": f"text {i}", "meta": {"url": f"http://x/{i}"}, "licence": "CC0"} for i in range(1000)]
    data = "\n".join(map(json.dumps, lines)).encode()
    if suffix.endswith("gz"):
        data = gzip.compress(data)
    elif suffix.endswith("zst"):
        data = pa.compress(data, "zstd", asbytes=True)
    fields = {"text": "body", "url": "meta.url", "meta": ["licence"]}
    rows, tally = read(write(tmp_path / f"a.{suffix}", data), "jsonl", fields=fields)
    assert [row["text"] for row in rows] == [line["body"] for line in lines]
    assert rows[7]["key"] == f"a.{suffix}:8"
    assert rows[7]["url"] == "http://x/7"
    assert rows[7]["meta"] == [{"key": "licence", "value": "CC0"}]
    assert not tally.problems


def test_parquet_reads_our_documents(tmp_path):
    batch = documents([{"id": f"{i:032x}", "text": f"text {i}", "source": "old", "lang": "en"} for i in range(600)])
    pq.write_table(pa.Table.from_batches([batch], DOCUMENT_SCHEMA), tmp_path / "a.parquet", row_group_size=100)
    rows, tally = read(tmp_path, "parquet")
    assert [(row["key"], row["text"], row["lang"]) for row in rows] == [
        (f"{i:032x}", f"text {i}", "en") for i in range(600)
    ]
    assert not tally.problems


def test_parquet_without_a_text_column_is_counted(tmp_path):
    pq.write_table(pa.table({"content": ["a", "b"]}), tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", b"PAR1 this is not a table PAR1")
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"text": pa.array(["x" * 200, None, "", "fine"])}), tmp_path / "d.parquet")
    rows, tally = read(tmp_path, "parquet", max_document_bytes=100)
    assert [row["text"] for row in rows] == ["fine"]
    assert tally.dropped == {
        "wrong columns": 2, "damaged file": 1, "wrong type of text": 2, "too_large": 1, "no text": 1, "empty text": 1,
    }  # fmt: skip
    assert {problem.file for problem in tally.problems} == {"a.parquet", "b.parquet", "c.parquet", "d.parquet"}
    assert any("content" in problem.detail and "fields.text" in problem.detail for problem in tally.problems)


def test_hf_dataset_from_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = {"text": [f"text {i}" for i in range(700)], "id": [f"d{i}" for i in range(700)]}
    saved = datasets.Dataset.from_dict(table)
    saved.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": saved, "test": saved.select(range(3))}).save_to_disk(tmp_path / "two")
    rows, _ = read(tmp_path / "one", "hf")
    assert keys(rows) == table["id"]
    rows, _ = read(tmp_path / "two", "hf", splits=["test"])
    assert [row["text"] for row in rows] == table["text"][:3]
    with pytest.raises(InputError, match="no split 'dev'"):
        read(tmp_path / "two", "hf", splits=["dev"])
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"][0]["filename"] = "../../etc/passwd"
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="outside its folder"):
        read(tmp_path / "one", "hf")


def test_missing_input_teaches(tmp_path):
    write(tmp_path / "pages.warc.gz", b"")
    with pytest.raises(InputError, match=r"did you mean pages\.warc\.gz"):
        read(tmp_path / "page.warc.gz", "warc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"ending in \.warc"):
        read(tmp_path / "empty", "warc")
    with pytest.raises(InputError, match="nothing to read"):
        read(tmp_path / "*.parquet", "parquet")


def test_folders_patterns_and_portions(tmp_path):
    for name in ("b/1.jsonl", "a/1.jsonl", "a/.hidden.jsonl", "a/_tasks/1.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, b'{"text": "same"}\n')
    assert keys(read(tmp_path, "jsonl")[0]) == ["a/1.jsonl:1", "b/1.jsonl:1"]
    assert keys(read(tmp_path / "*" / "1.jsonl", "jsonl")[0]) == ["a/1.jsonl:1", "b/1.jsonl:1"]


# ---- damaged archives


def test_a_damaged_member_costs_its_record_and_no_other(tmp_path):
    members = [gzip.compress(record(i, random.Random(i).randbytes(500).hex().encode())) for i in range(10)]
    members[3] = members[3][:200] + bytes(byte ^ 0xFF for byte in members[3][200:240]) + members[3][240:]
    members[6] = members[6][:-8] + b"\x00\x00\x00\x00" + members[6][-4:]  # only its checksum is wrong
    rows, tally = read(write(tmp_path / "a.warc.gz", b"".join(members)), "warc")
    assert keys(rows) == [f"{i:04d}" for i in range(10) if i not in (3, 6)]
    assert tally.dropped == {"damaged record": 2}
    offsets = [problem.offset for problem in tally.problems]
    assert offsets == [sum(map(len, members[:3])), sum(map(len, members[:6]))]
    assert all(problem.file == "a.warc.gz" for problem in tally.problems)


def test_a_truncated_file_keeps_what_is_whole(tmp_path):
    members = [gzip.compress(record(i)) for i in range(5)]
    rows, tally = read(write(tmp_path / "a.warc.gz", b"".join(members)[:-20]), "warc")
    assert len(rows) == 4
    assert tally.problem_counts == {"truncated gzip member": 1}
    assert tally.dropped == {"damaged record": 1}
    rows, tally = read(write(tmp_path / "b.warc", b"".join(record(i) for i in range(5))[:-60]), "warc")
    assert len(rows) == 4
    assert tally.problem_counts == {"damaged WARC record": 1}


def test_a_member_cut_in_the_middle_of_a_file(tmp_path):
    members = [gzip.compress(record(i)) for i in range(6)]
    members[2] = members[2][: len(members[2]) // 2]
    rows, tally = read(write(tmp_path / "a.warc.gz", b"".join(members)), "warc")
    assert keys(rows) == ["0000", "0001", "0003", "0004", "0005"]
    assert tally.dropped == {"damaged record": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_header_is_passed_over(tmp_path, packed):
    records = [record(i) for i in range(6)]
    records[1] = records[1].replace(b"WARC/1.0", b"WaRx/9.9")
    records[3] = records[3].replace(b"Content-Length", b"Content-Longth", 1)
    data = b"".join(gzip.compress(r) if packed else r for r in records)
    rows, tally = read(write(tmp_path / ("a.warc.gz" if packed else "a.warc"), data), "warc")
    assert keys(rows) == ["0000", "0002", "0004", "0005"]
    assert tally.dropped == {"damaged record": 2}
    place = len(gzip.compress(records[0])) if packed else len(records[0])
    assert tally.problems[0].offset == place


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("length", [10**15, 400, 30])
def test_a_wrong_length_does_not_swallow_the_neighbours(tmp_path, packed, length):
    records = [record(i) for i in range(8)]
    records[2] = record(2, length=length)
    data = b"".join(gzip.compress(r) if packed else r for r in records)
    rows, tally = read(write(tmp_path / ("a.warc.gz" if packed else "a.warc"), data), "warc")
    assert [key for key in keys(rows) if key != "0002"] == ["0000", "0001", "0003", "0004", "0005", "0006", "0007"]
    assert tally.problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), packed=st.booleans())
def test_no_damage_crashes_a_reader(tmp_path, data, packed):
    """Whatever bytes are overwritten or cut: no error, the funnel adds up, and records before the damage are kept."""
    records = [record(i) for i in range(6)]
    content = bytearray(b"".join(gzip.compress(r, mtime=0) if packed else r for r in records))
    at = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=60))
    content[at : at + len(noise)] = noise
    content = content[: data.draw(st.integers(at, len(content)))]
    rows, _ = read(
        write(tmp_path / "a.warc.gz", bytes(content)) if packed else write(tmp_path / "a.warc", bytes(content)), "warc"
    )
    sizes = [len(gzip.compress(r, mtime=0)) if packed else len(r) for r in records]
    whole = sum(1 for i in range(6) if sum(sizes[: i + 1]) <= at)
    assert keys(rows)[:whole] == [f"{i:04d}" for i in range(whole)]


def test_strict_stops_at_the_first_fault(tmp_path):
    file = write(tmp_path / "a.warc.gz", gzip.compress(record(0)) + gzip.compress(record(1))[:-10])
    with pytest.raises(InputError, match=r"truncated gzip member in a\.warc\.gz"):
        read(file, "warc", strict=True)


# ---- records that are no pages


def test_other_statuses_types_and_broken_http(tmp_path):
    ok = b"HTTP/1.1 200 OK\r\nContent-Type: "
    records = [
        record(0, http=b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n"),
        record(1, http=ok + b"application/pdf\r\n\r\n"),
        record(2, http=b"\x00\x01\x02 no http at all\r\n\r\n"),
        record(3, http=b"HTTP/1.1 two hundred\r\n\r\n"),
        record(4, http=b"HTTP/1.1 200 OK\r\n\r\n"),  # no type, but markup
        record(5, b" ", http=ok + b"text/html\r\n\r\n"),
        record(6, kind="request"),
        record(7, gzip.compress(b"<html>packed</html>"), http=ok + b"text/html\r\nContent-Encoding: gzip\r\n\r\n"),
        record(8, b"<html>unpacked</html>", http=ok + b"text/html\r\nContent-Encoding: gzip\r\n\r\n"),
        record(9, b"6\r\n<html>\r\n0\r\n\r\n", http=ok + b"text/html\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ]
    rows, tally = read(write(tmp_path / "a.warc", b"".join(records)), "warc")
    assert keys(rows) == ["0004", "0007", "0008", "0009"]
    assert [row["body"] for row in rows[1:]] == [b"<html>packed</html>", b"<html>unpacked</html>", b"<html>"]
    assert tally.dropped == {"HTTP status 404": 1, "not HTML": 1, "bad HTTP response": 2, "empty body": 1}
    assert tally.problem_counts == {"bad HTTP response": 2}
    assert tally.totals["records_other"] == 1


def test_large_documents_and_bombs_are_never_held(tmp_path):
    bomb = gzip.compress(b"<html>" + b"A" * 50_000_000)
    records = [
        record(0, b"<p>" + b"x" * 3_000_000),
        record(1, bomb, http=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"),
        record(2),
    ]
    rows, tally = read(
        write(tmp_path / "a.warc.gz", b"".join(map(gzip.compress, records))), "warc", max_document_bytes="1M"
    )
    assert keys(rows) == ["0002"]
    assert tally.dropped == {"too_large": 2}
    assert tally.problem_counts == {"too large": 2}


def test_a_line_of_fifty_megabytes(tmp_path):
    import tracemalloc

    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(b'{"text": "first"}\n{"text": "')]
    parts += [packer.compress(b"x" * 1_000_000) for _ in range(50)]
    parts += [packer.compress(b'"}\n{"text": "last"}\n'), packer.flush()]
    file = write(tmp_path / "a.jsonl.gz", b"".join(parts))
    tracemalloc.start()
    rows, tally = read(file, "jsonl", max_document_bytes="1M")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row["text"] for row in rows] == ["first", "last"]
    assert tally.dropped == {"too_large": 1}
    assert tally.problems[0].offset == 2
    assert peak < 10_000_000


def test_empty_files_and_texts(tmp_path):
    write(tmp_path / "a.jsonl", b"")
    write(tmp_path / "b.jsonl", b'{"text": "  "}\n\n{"text": null}\n{"text": 5}\n{"txt": "x"}\n')
    write(tmp_path / "c.jsonl.gz", gzip.compress(b""))
    rows, tally = read(tmp_path, "jsonl")
    assert rows == []
    assert tally.dropped == {"empty text": 1, "no text": 2, "wrong type of text": 1}
    assert tally.problem_counts["empty file"] == 1


# ---- malformed JSON and text


def test_malformed_json_is_counted_by_line(tmp_path):
    lines = [
        b'{"text": "one", "id": "x"}',
        b'{"text": "two"',
        b"[1, 2]",
        b"[" * 100_000,
        b'{"text": "a\\u0000b\\ud800c", "url": "\\udfff", "id": 7}',
        b'{"text": "caf\xe9"}',
        b'{"text": "\\ud83d\\ude00"}',
        b'{"n": ' + b"9" * 5000 + b', "text": "big"}',
        b"\xef\xbb\xbf",
        b'{"text": "last"}',
    ]
    rows, tally = read(write(tmp_path / "a.jsonl", b"\n".join(lines)), "jsonl")
    assert [row["text"] for row in rows] == ["one", "ab\ufffdc", "caf\ufffd", "\U0001f600", "last"]
    assert keys(rows) == ["x", "7", "a.jsonl:6", "a.jsonl:7", "a.jsonl:10"]
    assert rows[1]["url"] == "\ufffd"
    assert tally.dropped == {"malformed JSON": 4}
    assert [p.offset for p in tally.problems if p.kind == "malformed JSON"] == [2, 3, 4, 8]
    assert {"NUL bytes", "lone surrogates", "invalid UTF-8"} < set(tally.problem_counts)


def test_truncated_and_damaged_json_streams(tmp_path):
    data = b"".join(b'{"text": "%s"}\n' % random.Random(i).randbytes(40).hex().encode() for i in range(5000))
    for name, packed in {
        "a.jsonl.gz": gzip.compress(data),
        "a.jsonl.zst": pa.compress(data, "zstd", asbytes=True),
    }.items():
        file = write(tmp_path / name, packed[: len(packed) // 2])
        rows, tally = read(file, "jsonl")
        assert 0 < len(rows) < 5000
        assert all(len(row["text"]) == 80 for row in rows)
        assert tally.dropped == {"damaged record": 1}
        assert len(tally.problems) == 1
        noise = bytearray(packed)
        noise[len(noise) // 2 : len(noise) // 2 + 50] = b"\xaa" * 50
        rows, tally = read(write(tmp_path / name, bytes(noise)), "jsonl")
        assert rows
        assert tally.problems or name.endswith(
            "zst"
        )  # zstd without a checksum cannot tell changed letters from meant ones


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    kind=st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.warc.gz", "a.parquet"]),
)
def test_noise_crashes_no_reader(tmp_path, content, kind):
    read(write(tmp_path / kind, content), kind.split(".")[1])


# ---- encodings


@pytest.mark.parametrize(
    ("body", "claimed", "expected"),
    [
        ("<p>\u00e4\u00f6</p>".encode(), "iso-8859-1", "<p>\u00e4\u00f6</p>"),  # claims Latin-1, sends UTF-8
        ("<p>\u201equoted\u201c \u00e4</p>".encode("cp1252"), "iso-8859-1", "<p>\u201equoted\u201c \u00e4</p>"),
        ("<p>\u4e2d\u6587\u7f51\u9875</p>".encode("gbk"), "gb2312", "<p>\u4e2d\u6587\u7f51\u9875</p>"),
        (b"<meta charset=windows-1251><p>" + "\u043f\u0440\u0438\u0432\u0435\u0442".encode("cp1251"), None, None),
        ("\ufeff<p>\u00e4</p>".encode("utf-16-le"), None, "<p>\u00e4</p>"),
        ("<html><p>\u00e4 and more</p></html>".encode("utf-16-be"), None, "<html><p>\u00e4 and more</p></html>"),
        ("<p>\u65e5\u672c\u8a9e</p>".encode("iso-2022-jp"), "iso-2022-jp", "<p>\u65e5\u672c\u8a9e</p>"),
        (b"<p>plain</p>", "zlib", "<p>plain</p>"),
        (b"\xef\xbb\xbf<p>\xc3\xa4</p>", "latin1", "<p>\u00e4</p>"),
    ],
)
def test_encodings_are_decided_by_what_decodes(body, claimed, expected):
    decided = decide(body, claimed)
    text = decided.body.decode(decided.charset)
    assert decided.faults == ()
    assert text == expected if expected else "\u043f\u0440\u0438\u0432\u0435\u0442" in text


@given(
    st.binary(max_size=400), st.sampled_from([None, "utf-8", "gbk", "latin1", "unicode_escape", "utf-16", "\ud800", ""])
)
@settings(deadline=None)
def test_any_bytes_decode(body, claimed):
    decided = decide(body, claimed)
    decided.body.decode(decided.charset, "replace").encode("utf-8", "surrogatepass")
    assert b"\x00" not in decided.body
    if not decided.faults:
        decided.body.decode(decided.charset)
