"""Each question is asked once, through any kill; one that kills the engine is found; batches do not shift."""

import json
import multiprocessing
import os
import random
import signal
import time

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.errors import ConfigError
from rephrase import answering
from rephrase.answering import answers
from rephrase.cache import GenerationCache
from rephrase.generator import Generation, GenerationRequest, Message, Unanswered
from rephrase.sent_requests import SentRequests


def key(name):
    return xxhash.xxh3_128_hexdigest(str(name))


def question(i, length=0):
    return GenerationRequest((Message("user", f"question {i}" + " long" * length),), 5)


def questions(n):
    return {key(i): question(i) for i in range(n)}


def texts(n):
    return {key(i): f"question {i}" for i in range(n)}


def asked(folder, generator, n, **options):
    cache = GenerationCache(folder, generator=generator.identity)
    try:
        wanted = n if isinstance(n, dict) else questions(n)
        return answers(wanted, generator, cache, **{"seed": 3, "batch_size": 4, **options})
    finally:
        cache.close()


@pytest.mark.parametrize("keep", ["each", "batch"])
def test_answers_are_those_of_the_questions_in_their_order_and_are_asked_once(tmp_path, scripted, keep):
    first, second = scripted(shuffle=1), scripted()
    given = asked(tmp_path, first, 10, keep=keep)
    assert list(given) == list(questions(10))
    assert [given[key(i)].text for i in range(10)] == [f"question {i}" for i in range(10)]
    assert [len(texts) for _, texts in first.batches] == [4, 4, 2]
    assert asked(tmp_path, second, 10, keep=keep) == given
    assert second.batches == []


def test_the_longest_prompts_of_a_batch_go_first_and_equal_ones_by_key(tmp_path, scripted):
    generator = scripted()
    lengths = [1, 5, 3, 3, 0, 9]
    asked(tmp_path, generator, {key(i): question(i, length) for i, length in enumerate(lengths)})
    sent = [[int(text.split()[1]) for text in texts] for _, texts in generator.batches]
    assert sent == [[1, *sorted([2, 3], key=key), 0], [5, 4]]


@pytest.mark.parametrize("stop", range(11))
def test_with_keep_each_an_interrupted_run_loses_no_answer_and_asks_none_twice(tmp_path, scripted, stop):
    whole = asked(tmp_path / "whole", scripted(), 10)
    cut, rest = scripted(shuffle=stop, stops_after=stop), scripted()
    if stop < 10:
        with pytest.raises(KeyboardInterrupt):
            asked(tmp_path / "cut", cut, 10)
    else:
        asked(tmp_path / "cut", cut, 10)
    assert asked(tmp_path / "cut", rest, 10) == whole
    assert sorted(cut.asked + rest.asked) == sorted(f"question {i}" for i in range(10))
    assert len(cut.asked) == stop
    assert not list(tmp_path.rglob("sent-*"))


@pytest.mark.parametrize("stop", range(0, 10, 3))
def test_with_keep_batch_a_resume_asks_for_the_missing_batches_with_their_seeds(tmp_path, scripted, stop):
    whole, cut, rest = scripted(), scripted(stops_after=stop), scripted()
    asked(tmp_path / "whole", whole, 10, keep="batch")
    with pytest.raises(KeyboardInterrupt):
        asked(tmp_path / "cut", cut, 10, keep="batch")
    asked(tmp_path / "cut", rest, 10, keep="batch")
    assert cut.batches[:-1] + rest.batches == whole.batches


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30), unique=True), st.integers(1, 9))
def test_whatever_is_stored_already_each_missing_question_is_asked_once(tmp_path_factory, scripted, first, then, size):
    folder, before, after = tmp_path_factory.mktemp("cache"), scripted(), scripted(shuffle=size)
    asked(folder, before, {key(i): question(i) for i in first}, batch_size=size)
    given = asked(folder, after, {key(i): question(i) for i in then}, batch_size=size)
    assert {name: one.text for name, one in given.items()} == {key(i): f"question {i}" for i in then}
    assert sorted(after.asked) == sorted(f"question {i}" for i in then if i not in first)


def test_what_is_unanswered_is_given_back_and_asked_again_by_the_next_run(tmp_path, scripted):
    failed = Unanswered("timeout", "60 s")
    odd = Generation("\ud800", "stop", 1, 1)
    broken = scripted(lambda text: {"question 1": failed, "question 2": odd}.get(text, text))
    given = asked(tmp_path, broken, 4)
    assert given[key(1)] == failed
    assert given[key(2)].reason == "bad_answer"
    mended = scripted()
    given = asked(tmp_path, mended, 4)
    assert sorted(mended.asked) == ["question 1", "question 2"]
    assert {one.text for one in given.values()} == {f"question {i}" for i in range(4)}


def test_progress_counts_what_was_stored_and_a_batch_of_none_is_refused(tmp_path, scripted, monkeypatch):
    seen = []
    asked(tmp_path, scripted(), 4)
    asked(tmp_path, scripted(), 9, progress=seen.append)
    assert [(one.done, one.total, one.from_cache, one.n_out) for one in seen] == [
        (4, 9, 4, 0),
        (8, 9, 4, 8),
        (9, 9, 4, 10),
    ]
    assert 0 <= seen[0].seconds <= seen[-1].seconds
    monkeypatch.setattr(answering, "_TELL_S", 0.0)
    seen.clear()
    asked(tmp_path / "other", scripted(), 3, progress=seen.append)
    assert [one.done for one in seen] == [1, 2, 3, 3]
    with pytest.raises(ConfigError, match="batch_size"):
        asked(tmp_path, scripted(), 1, batch_size=0)


def test_an_engine_that_raises_leaves_no_suspicion_and_keeps_what_it_answered(tmp_path, scripted):
    def rule(text):
        if text == "question 2":
            raise RuntimeError("broken")
        return text

    with pytest.raises(RuntimeError, match="broken"):
        asked(tmp_path, scripted(rule), questions(3) | {key(9): question(9, 3)})
    assert not list(tmp_path.rglob("sent-*"))
    rest = scripted()
    asked(tmp_path, rest, 3)
    assert "question 2" in rest.asked


# ------------------------------------------------------------------------------------------------ deaths

FORK = multiprocessing.get_context("fork")


def run_of(folder, generator, rule, n=40, keep="each"):
    """A process that asks `n` questions in batches of 16, notes each one it answers, and leaves its answers behind."""

    def noted(text):
        rule(text)
        with open(folder / "asked", "a") as file:
            file.write(text + "\n")
        return text

    def run():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it ignored
        cache = GenerationCache(folder / "cache", generator=generator().identity)
        made = generator(noted, shuffle=os.getpid())
        given = answers(questions(n), made, cache, seed=3, batch_size=16, keep=keep)
        told = {name: getattr(one, "text", None) or one.reason for name, one in given.items()}
        (folder / "given").write_text(json.dumps(told))

    process = FORK.Process(target=run)
    process.start()
    return process


def finished(process):
    process.join()
    return process.exitcode


def nap(_):
    time.sleep(0.004)


def answered(folder):
    return (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []


@pytest.mark.parametrize("keep", ["each", "batch"])
def test_a_request_that_kills_its_process_is_found_and_all_others_are_answered(tmp_path, scripted, keep):
    def kills(text):
        if text == "question 21":
            os._exit(9)

    deaths = 0
    while finished(run_of(tmp_path, scripted, kills, keep=keep)):
        deaths += 1
    assert 2 <= deaths <= (3 if keep == "each" else 4)
    given = json.loads((tmp_path / "given").read_text())
    assert given == {**texts(40), key(21): "poison"}
    if keep == "each":
        assert sorted(answered(tmp_path)) == sorted(text for text in texts(40).values() if text != "question 21")
    before = answered(tmp_path)
    assert finished(run_of(tmp_path, scripted, kills, keep=keep)) == 0
    assert (json.loads((tmp_path / "given").read_text()), answered(tmp_path)) == (given, before)


def test_requests_of_an_innocent_kill_are_asked_again_and_none_is_poison(tmp_path, scripted):
    """Killed at random points over and over: each answer is had once, but for those being handed over at a kill."""
    random.seed(3)
    kills = 4
    for _ in range(kills):
        process, had = run_of(tmp_path, scripted, nap, n=60), len(answered(tmp_path))
        while len(answered(tmp_path)) < had + 8:
            time.sleep(random.random() * 0.01)
        process.kill()
        assert finished(process) == -signal.SIGKILL
    assert finished(run_of(tmp_path, scripted, nap, n=60)) == 0
    assert json.loads((tmp_path / "given").read_text()) == texts(60)
    assert set(answered(tmp_path)) == set(texts(60).values())
    assert len(answered(tmp_path)) <= 60 + kills


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_asked_to_end_ends_in_order_and_leaves_no_suspicion(tmp_path, scripted, number):
    process = run_of(tmp_path, scripted, nap)
    while len(answered(tmp_path)) < 5:
        time.sleep(0.005)
    os.kill(process.pid, number)
    assert finished(process) not in (0, -number)
    cache = GenerationCache(tmp_path / "cache", generator=scripted().identity)
    assert len(cache.find(list(questions(40)))) >= 5 - 1
    assert cache.deaths(list(questions(40))) == {}
    assert finished(run_of(tmp_path, scripted, nap)) == 0
    assert len(answered(tmp_path)) <= 41
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_suspects_are_asked_after_the_others_and_in_small_groups(tmp_path, scripted):
    generator = scripted()
    cache = GenerationCache(tmp_path, generator=generator.identity)
    dead = SentRequests(cache.folder)
    dead.mark([key(i) for i in range(9)])
    dead._file.close()
    answers(questions(12), generator, cache, seed=3, batch_size=12)
    assert [len(texts) for _, texts in generator.batches] == [3, 3, 3, 3]
    assert sorted(generator.batches[0][1]) == ["question 10", "question 11", "question 9"]
    assert os.listdir(cache.folder) != []
    cache.close()
