"""`gradatim cache`: stores are listed with what is wrong with them, merged, and read record by record."""

import pytest
import xxhash
from typer.testing import CliRunner

from corpus.errors import GradatimError
from pipelines.cli import app
from rephrase.cache import GenerationCache
from rephrase.generator import Generation
from rephrase.record_store import RecordStore


def cache(*arguments):
    ended = CliRunner().invoke(app, ["cache", *map(str, arguments)])
    if isinstance(ended.exception, GradatimError):
        raise ended.exception
    assert ended.exception is None, ended.exception
    return ended.stdout


def key(name):
    return xxhash.xxh3_128_hexdigest(str(name))


@pytest.fixture
def workspace(tmp_path):
    """A store of three segments with a record twice, and a log whose last line is torn."""
    for first in (0, 2, 4):
        made = GenerationCache(tmp_path / "cache/generations", generator={"model": "smol", "weights": "0a1b"})
        made.store({key(i): Generation(f"text [red] {i}", "stop", 3, 4) for i in range(first, first + 3)})
        made.close()
    made.store({key(9): Generation("text 9", "length", 3, 4), key(8): Generation("text 8", "stop", 3, 4, {"a": -0.5})})
    made.store({key(10): Generation("torn", "stop", 3, 4)})
    made._store._forget_writer()
    (log,) = tmp_path.rglob("*.log")
    log.write_bytes(log.read_bytes()[:-5])
    return tmp_path


def cells(shown):
    return shown.splitlines()[1].split()


def test_a_store_is_listed_with_its_model_its_files_and_what_is_wrong(workspace):
    shown = cells(cache("ls", "-w", workspace))
    assert shown[0].startswith("cache/generations/")
    assert shown[1:4] == ["smol", "0a1b", "9"]
    assert shown[-4:] == ["3", "1", "1", "2"]
    assert cells(cache("ls", "-w", workspace / "cache"))[-4:] == ["3", "1", "1", "2"]


def test_merging_says_what_it_changed_and_changes_no_record(workspace):
    store = next(path.parent for path in workspace.rglob("*.log"))
    before = RecordStore(store).find([key(i) for i in range(10)])
    shown = cache("compact", "-w", workspace)
    assert "9 records; segments 3 -> 1, logs 1 -> 0" in shown
    assert RecordStore(store).find([key(i) for i in range(10)]).equals(before)
    assert cells(cache("ls", "-w", workspace))[-4:] == ["1", "0", "0", "0"]


def test_records_are_shown_by_key_and_the_latest_without_one(workspace):
    shown = cache("show", key(1), key(8), "-w", workspace)
    assert shown.index(key(1)) < shown.index(key(8))
    assert "text [red] 1" in shown
    assert "UTC" in shown
    assert "('a', -0.5)" in shown
    latest = cache("show", "-w", workspace, "--rows", 3)
    assert [key(i) for i in (8, 9) if key(i) in latest] == [key(8), key(9)]
    assert latest.count("finish_reason") == 3
    with pytest.raises(GradatimError, match="none of these keys"):
        cache("show", key(77), "-w", workspace)
    with pytest.raises(GradatimError, match="32 hex digits"):
        cache("show", "77", "-w", workspace)


def test_a_folder_without_answers_is_named(tmp_path):
    with pytest.raises(GradatimError, match="no stored answers"):
        cache("ls", "-w", tmp_path)
