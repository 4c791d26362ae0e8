"""A stored output is found again whatever was grouped with it, and a file is there whole or not at all."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.errors import ArtifactError
from rephrase.cache import GenerationCache, cache_key
from rephrase.generator import Generation

PARTS = {
    "generator": {"model": "m", "weights": "0"},
    "request_hash": "r",
    "document_id": "d",
    "chunk": "some text",
    "rollout": 0,
}


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("generator", {"model": "m", "weights": "1"}),
        ("request_hash", "s"),
        ("document_id", "e"),
        ("chunk", "some text."),
        ("rollout", 1),
    ],
)
def test_every_part_of_a_key_counts(part, other):
    assert cache_key(**PARTS) == cache_key(**{**PARTS, "generator": {"weights": "0", "model": "m"}})
    assert cache_key(**PARTS) != cache_key(**{**PARTS, part: other})


def a_cache(folder, **changes):
    return GenerationCache(folder, **{"generator": {"model": "m"}, "request_hash": "r", **changes})


def test_stored_outputs_are_found_by_a_fresh_cache_and_only_by_the_same_kind(tmp_path):
    outputs = {"k1": Generation("one \U0001f600\n", "stop", 3, 4), "k2": Generation("", "length", 5, 0)}
    a_cache(tmp_path).store(outputs)
    assert a_cache(tmp_path).find(["k2", "k1", "k3"]) == outputs
    assert a_cache(tmp_path, generator={"model": "n"}).find(["k1"]) == {}
    assert a_cache(tmp_path, request_hash="s").find(["k1"]) == {}


def test_log_probabilities_are_kept_and_files_older_than_them_are_read(tmp_path):
    new = {"k2": Generation("3", "length", 9, 1, {"0": -0.1, "3": -2.302585092994046})}
    a_cache(tmp_path).store(new)
    old = {"key": "k1", "text": "one", "finish_reason": "stop", "n_in": 3, "n_out": 4}
    folder = next(tmp_path.rglob("*.parquet")).parent
    pq.write_table(pa.Table.from_pylist([old]), folder / "0000000000000000.parquet")
    assert a_cache(tmp_path).find(["k1", "k2"]) == {**new, "k1": Generation("one", "stop", 3, 4)}


def test_what_was_stored_before_is_found_under_the_same_key_in_the_same_folder(tmp_path):
    assert cache_key(**PARTS) == "9d5270cef867eb5e95b0e8a4cb897ecd"
    a_cache(tmp_path).store({"k": Generation("x", "stop", 1, 1)})
    assert [path.name for path in tmp_path.iterdir()] == ["f4d6d0fb4ef8d5e3"]


def test_a_cache_sees_what_it_stored_itself_and_storing_twice_adds_no_file(tmp_path):
    cache = a_cache(tmp_path)
    assert cache.find(["k"]) == {}
    for _ in range(2):
        cache.store({"k": Generation("x", "stop", 1, 1)})
    assert cache.find(["k"])["k"].text == "x"
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    cache.store({})
    assert len(list(tmp_path.rglob("*"))) == 2


def test_a_half_written_file_is_not_read_and_a_damaged_one_is_named(tmp_path):
    a_cache(tmp_path).store({"k": Generation("x", "stop", 1, 1)})
    stored = next(tmp_path.rglob("*.parquet"))
    stored.with_name(f".{stored.name}.1.writing").write_bytes(b"half")
    assert set(a_cache(tmp_path).find(["k"])) == {"k"}
    stored.write_bytes(stored.read_bytes()[:-7])
    with pytest.raises(ArtifactError, match="cannot be read") as error:
        a_cache(tmp_path).find(["k"])
    assert error.value.where == str(stored)
