"""A stored output is found again by what was asked, whoever stored it; who died with what in flight is known."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time

import pytest
import xxhash

from corpus.fingerprints import canonical, fingerprint
from rephrase.cache import IDENTITY, GenerationCache, cache_key
from rephrase.generator import Decoding, Generation, GenerationRequest, Message
from rephrase.sent_requests import Deaths

CHAT = (Message("system", "s"), Message("user", "text \U0001f600\n"))
REQUEST = GenerationRequest(CHAT, 9, Decoding(temperature=0.5, stop=("x",)), "Sure:", ("a",))
PARTS = {"generator": {"model": "m", "weights": "0"}, "request": REQUEST, "document_id": "d", "rollout": 0}


def changed(**fields):
    return dataclasses.replace(REQUEST, **fields)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("generator", {"model": "m", "weights": "1"}),
        ("request", changed(messages=(Message("system", "s"), Message("user", "text")))),
        ("request", changed(messages=(Message("user", "s"), Message("user", "text \U0001f600\n")))),
        ("request", changed(messages=REQUEST.messages[1:])),
        ("request", changed(max_tokens=10)),
        ("request", changed(decoding=Decoding(temperature=0.6, stop=("x",)))),
        ("request", changed(opening="Sure")),
        ("request", changed(choices=("a", "b"))),
        ("document_id", "e"),
        ("rollout", 1),
    ],
)
def test_every_part_of_a_key_counts(part, other):
    assert cache_key(**PARTS) == cache_key(**{**PARTS, "generator": {"weights": "0", "model": "m"}})
    assert cache_key(**PARTS) != cache_key(**{**PARTS, part: other})


def test_a_key_is_the_hash_of_the_canonical_json_of_everything_asked():
    assert cache_key(**PARTS) == xxhash.xxh3_128_hexdigest(canonical(PARTS).encode())
    assert cache_key(**PARTS) == "a3186a788e40612da8488812ff621f12"


def key(name):
    return xxhash.xxh3_128_hexdigest(str(name))


def a_cache(folder, **generator):
    return GenerationCache(folder, generator={"model": "m", **generator})


def test_stored_outputs_are_found_by_a_fresh_cache_of_the_same_generator_only(tmp_path):
    outputs = {
        key(1): Generation("one \U0001f600\n", "stop", 3, 4),
        key(2): Generation("", "length", 5, 0),
        key(3): Generation("3", "length", 9, 1, {"0": -0.1, "3": -2.302585092994046, "4": float("-inf")}),
        key(4): Generation("4", "length", 9, 1, {}),
    }
    cache = a_cache(tmp_path)
    assert cache.find(list(outputs)) == {}
    cache.store(outputs)
    for _ in range(2):  # from a log, then from a segment
        found = a_cache(tmp_path).find([key(2), key(1), key(9), key(3), key(4)])
        assert found == outputs
        assert list(found) == [key(2), key(1), key(3), key(4)]
        cache.close()
    assert a_cache(tmp_path, weights="1").find([key(1)]) == {}
    assert [path.name for path in tmp_path.iterdir()] == [fingerprint({"model": "m"})]
    assert json.loads((cache.folder / IDENTITY).read_text()) == {"model": "m"}


def test_a_cache_sees_what_it_stored_itself_and_storing_again_changes_nothing(tmp_path):
    cache = a_cache(tmp_path)
    cache.store({})
    for text in ("first", "second"):
        cache.store({key(1): Generation(text, "stop", 1, 1)})
    assert cache.find([key(1)])[key(1)].text == "first"


# --------------------------------------------------------------------------------------------- deaths


def child(folder, work):
    """A process of its own that does `work` with a cache of the folder."""
    process = multiprocessing.get_context("fork").Process(target=lambda: work(a_cache(folder)))
    process.start()
    process.join()


def sent_files(folder):
    return sorted(folder.rglob("sent-*"))


def ends(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("end", [lambda: os._exit(3), ends(signal.SIGKILL)])
def test_who_was_in_flight_at_a_death_is_known_until_it_is_answered(tmp_path, end):
    sent = [key(i) for i in range(3)]

    def die_with_two_unanswered(cache):
        cache.mark_sent(sent)
        cache.store({sent[0]: Generation("x", "stop", 1, 1)})
        end()

    child(tmp_path, die_with_two_unanswered)
    cache = a_cache(tmp_path)
    assert cache.find(sent).keys() == {sent[0]}
    assert cache.deaths([*sent, key(9)]) == {sent[1]: Deaths(1, 3, 3), sent[2]: Deaths(1, 3, 3)}
    child(tmp_path, lambda dying: (dying.mark_sent([sent[1]]), end()))
    assert cache.deaths(sent) == {sent[1]: Deaths(2, 1, 3), sent[2]: Deaths(1, 3, 3)}
    cache.store({one: Generation("x", "stop", 1, 1) for one in sent[1:]})
    assert cache.deaths(sent) == {}
    assert sent_files(tmp_path) == []


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("empties", [True, False])
def test_a_clean_end_leaves_no_suspicion(tmp_path, closes, empties):
    def end(cache):
        cache.mark_sent([key(1), key(2)])
        if empties:
            cache.mark_sent(())
        if closes:
            cache.close()
        os._exit(3)

    child(tmp_path, end)
    assert a_cache(tmp_path).deaths([key(1), key(2)]).keys() == (set() if closes or empties else {key(1), key(2)})
    assert len(sent_files(tmp_path)) == (0 if closes or empties else 1)


def test_the_requests_of_a_living_process_are_no_suspects_and_a_torn_mark_was_never_sent(tmp_path):
    living = a_cache(tmp_path)
    living.mark_sent([key(1)])
    assert a_cache(tmp_path).deaths([key(1)]) == {}
    living.mark_sent([key(2)])
    (path,) = sent_files(tmp_path)
    assert key(1).encode() not in path.read_bytes()
    living.close()
    assert sent_files(tmp_path) == []
    child(tmp_path, lambda dying: (dying.mark_sent([key(1)]), os._exit(3)))
    (path,) = sent_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    assert a_cache(tmp_path).deaths([key(1)]) == {}
    assert sent_files(tmp_path) == []


def test_marks_cost_one_line_a_group(tmp_path, monkeypatch):
    cache, writes = a_cache(tmp_path), []
    cache.mark_sent([key(0)])
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(len(data)) or real(fd, data))
    cache.mark_sent([key(i) for i in range(500)])
    cache.mark_sent(())
    assert len(writes) == 1
    monkeypatch.undo()
    cache.close()


def test_a_fork_that_outlives_its_parent_does_not_hide_the_parents_death(tmp_path):
    def die_with_a_child_left(cache):
        cache.mark_sent([key(1)])
        told, tell = os.pipe()
        if os.fork() == 0:
            os.write(tell, b"runs")
            time.sleep(1)
        else:
            os.read(told, 4)
        os._exit(3)

    child(tmp_path, die_with_a_child_left)
    assert a_cache(tmp_path).deaths([key(1)]) == {key(1): Deaths(1, 1, 1)}
