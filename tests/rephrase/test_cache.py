"""A stored output is found again whatever was grouped with it, and a file is there whole or not at all."""

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
