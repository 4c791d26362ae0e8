"""Whatever a server does, each request is answered exactly once, or with the reason that is its own."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from corpus.config import validated
from corpus.errors import ConfigError, EnvironmentProblem
from rephrase.generator import Answer, Generation, Unanswered
from rephrase.openai_protocol import Question, trivial
from rephrase.server_client import ServerClient
from rephrase.server_settings import ServerSettings
from tests.rephrase.scripted_server import ScriptedServer

TEXTS = [f"words {number}" for number in range(40)]


def question(text: str) -> Question:
    payload = {"model": "toy", "messages": [{"role": "user", "content": text}], "max_tokens": 5}
    return Question("/chat/completions", payload, {}, 1)


class Asking:
    """A client of some servers, that is closed at the end, and what it is asked."""

    def __init__(self, *servers: ScriptedServer, log: Path | None = None, **settings: object) -> None:
        quick = {"retry_after": 0.01, "timeout": 30.0, "patience": 60.0, "attempts": 3}
        urls = [server.url for server in servers]
        given = {"urls": urls, "model": "toy", **quick, **settings}
        self.client = ServerClient(validated(ServerSettings, given, "test"), log=log)

    def __enter__(self) -> "Asking":
        try:
            self.served = self.client.connect()
        except BaseException:
            self.client.close()
            raise
        self.client.arm(trivial(question(""), []), [])
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        batch = self.client.batch()
        try:
            for place, text in enumerate(texts):
                batch.add(place, question(text))
            yield from batch.answers()
        finally:
            batch.cancel()

    def ask(self, texts: Sequence[str]) -> list[Answer]:
        """Answers by place; asserts that each place is answered once."""
        found = list(self.stream(texts))
        assert sorted(place for place, _ in found) == list(range(len(texts)))
        return [answer for _, answer in sorted(found, key=lambda pair: pair[0])]


def said(answers: Sequence[Answer]) -> list[str]:
    return [answer.text if isinstance(answer, Generation) else answer.reason for answer in answers]


HANGS = 1.5  # seconds after which a request that hangs is given up, where one does

TRANSIENT = ["500", "502", "503", "429", "429 now", "truncated", "no json", "other shape", "no reason", "cut before",
             "cut within", "hang"]  # fmt: skip


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_passes_is_asked_again_and_nothing_else_is(fault):
    bad = TEXTS[3]
    with (
        ScriptedServer(lambda text, tries: fault if text == bad and tries < 2 else None, seconds=0.01) as server,
        Asking(server, timeout=HANGS if fault == "hang" else 30, attempts=9) as asking,
    ):
        answers = asking.ask(TEXTS)
    assert said(answers) == [text.upper() for text in TEXTS]
    if fault != "hang":  # on a busy machine others may take as long
        assert server.tries[bad] == 3
        assert all(server.tries[text] == 1 for text in TEXTS if text != bad)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("500", "server_error"), ("cut before", "server_error"), ("cut within", "server_error"), ("hang", "timeout"),
     ("truncated", "bad_answer"), ("other shape", "bad_answer")],
)  # fmt: skip
def test_a_request_that_keeps_failing_alone_is_left_with_its_reason(fault, reason):
    bad = TEXTS[3]
    with (
        ScriptedServer(lambda text, tries: fault if text == bad else None, seconds=0.01) as server,
        Asking(server, timeout=HANGS if fault == "hang" else 30) as asking,
    ):
        answers = asking.ask(TEXTS)
        alone = asking.ask([bad])  # nothing else proves that the server is alive: a probe does
    assert said(answers) == [reason if text == bad else text.upper() for text in TEXTS]
    assert said(alone) == [reason]
    assert server.tries[bad] == 6, "three attempts each time"


@pytest.mark.parametrize("fault", ["400", "403", "filter"])
def test_a_refused_request_is_not_sent_again(fault):
    bad = TEXTS[0]  # the first one: nothing was answered before
    with (
        ScriptedServer(lambda text, tries: fault if text == bad else None, seconds=0.01) as server,
        Asking(server, max_concurrent=1) as asking,
    ):
        answers = asking.ask(TEXTS)
    assert said(answers) == ["server_error", *(text.upper() for text in TEXTS[1:])]
    assert server.tries[bad] == 1


def test_a_server_that_refuses_all_requests_of_a_kind_stops_the_run():
    with (
        ScriptedServer(lambda text, tries: "400") as server,
        Asking(server) as asking,
        pytest.raises(ConfigError, match="refuses even the shortest request of toy") as caught,
    ):
        asking.ask(TEXTS)
    assert "no luck" in caught.value.found


def test_429_is_waited_out_as_long_as_the_server_says_and_lowers_what_is_in_flight():
    with (
        ScriptedServer(lambda text, tries: "429" if tries == 0 else None, seconds=0.01) as server,
        Asking(server, max_concurrent=40) as asking,
    ):
        began = time.monotonic()
        answers = asking.ask(TEXTS)
        assert time.monotonic() - began >= 0.3
        assert asking.client._pool.servers[0].limit < 40
    assert said(answers) == [text.upper() for text in TEXTS]


def test_429_without_end_stops_the_run_as_the_users_problem():
    with (
        ScriptedServer(lambda text, tries: "429 now") as server,
        Asking(server, patience=0.5) as asking,
        pytest.raises(EnvironmentProblem, match="refuse everything"),
    ):
        asking.ask(TEXTS)


def test_a_server_that_is_killed_in_the_middle_and_started_again_loses_nothing(tmp_path):
    log = tmp_path / "log"
    with ScriptedServer(seconds=0.05) as server, Asking(server, max_concurrent=8, log=log) as asking:
        stream = asking.stream(TEXTS)
        first = [next(stream) for _ in range(9)]
        server.kill()
        threading.Timer(0.3, server.start).start()
        rest = list(stream)
    found = dict(first + rest)
    assert len(first + rest) == len(found) == len(TEXTS)
    assert said([found[place] for place in range(len(TEXTS))]) == [text.upper() for text in TEXTS]
    assert all(server.tries[TEXTS[place]] == 1 for place, _ in first), "finished ones are never sent again"
    assert sum(server.tries[text] - 1 for text in TEXTS) <= 8, "only what was in flight is sent again"
    assert "is set aside" in log.read_text()
    assert "is back in service" in log.read_text()


def test_who_kills_the_server_each_time_is_found_and_takes_nobody_with_it():
    texts, poison = [f"words {number}" for number in range(120)], "words 70"
    with (
        ScriptedServer(lambda text, tries: "die" if text == poison else None, seconds=0.02) as server,
        Asking(server, max_concurrent=25) as asking,
    ):
        answers = asking.ask(texts)
    assert said(answers) == ["poison" if text == poison else text.upper() for text in texts]
    assert server.deaths == 3
    _, second, third = map(len, server.in_flight)
    assert second <= 5, "no more than the square root of 25 beside a suspect"
    assert third == 1


def test_when_no_server_answers_for_too_long_the_run_stops_and_goes_on_later():
    with ScriptedServer(seconds=0.01) as server, Asking(server, patience=0.4, max_concurrent=4) as asking:
        stream = asking.stream(TEXTS)
        done = [next(stream)[0] for _ in range(5)]
        server.kill()
        with pytest.raises(EnvironmentProblem, match="no server answers") as caught:
            done += [place for place, _ in stream]
        assert server.url in caught.value.found
        assert "gradatim serve" in caught.value.fix
        server.start()
        missing = [text for place, text in enumerate(TEXTS) if place not in done]
        assert said(asking.ask(missing)) == [text.upper() for text in missing]
    assert all(server.tries[TEXTS[place]] == 1 for place in done)


def test_a_server_that_fails_at_everything_is_its_own_fault_not_that_of_the_requests():
    with (
        ScriptedServer(lambda text, tries: "500") as server,
        Asking(server, patience=0.5) as asking,
        pytest.raises(EnvironmentProblem, match="no server answers"),
    ):
        asking.ask(TEXTS)


def test_another_server_takes_over_and_both_are_used_when_both_are_well():
    with (
        ScriptedServer(seconds=0.02) as one,
        ScriptedServer(seconds=0.02) as two,
        Asking(one, two, max_concurrent=5) as asking,
    ):
        assert said(asking.ask(TEXTS)) == [text.upper() for text in TEXTS]
        assert min(one.tries.total(), two.tries.total()) >= len(TEXTS) / 4
        two.kill()
        assert said(asking.ask(TEXTS)) == [text.upper() for text in TEXTS]
        two.start()
        time.sleep(0.3)
        before = two.tries.total()
        assert said(asking.ask(TEXTS)) == [text.upper() for text in TEXTS]
        assert two.tries.total() > before, "it is used again once it is back"
    assert max(one.most, two.most) <= 5


def test_a_server_that_is_away_at_first_is_waited_for():
    with ScriptedServer() as server:
        server.kill()
        threading.Timer(0.3, server.start).start()
        with Asking(server) as asking:
            assert said(asking.ask(["a"])) == ["A"]


def test_all_kinds_of_faults_at_once_lose_and_double_nothing():
    texts = [f"words {number}" for number in range(200)]

    def script(text: str, tries: int) -> str | None:
        number = int(text.split()[1]) if text.startswith("words") else 3
        return TRANSIENT[number % len(TRANSIENT)] if number % 5 == 0 and tries < 2 else None

    with (
        ScriptedServer(script, seconds=0.01) as one,
        ScriptedServer(script, seconds=0.01) as two,
        Asking(one, two, attempts=6, max_concurrent=16, timeout=HANGS) as asking,
    ):
        assert said(asking.ask(texts)) == [text.upper() for text in texts]
    tries = one.tries + two.tries
    assert all(tries[text] == 1 for number, text in enumerate(texts) if number % 5), "the well ones are sent once"


def test_closing_the_iterator_gives_up_what_is_in_flight():
    with ScriptedServer(seconds=0.1) as server, Asking(server, max_concurrent=4) as asking:
        stream = asking.stream(TEXTS)
        next(stream)
        stream.close()
        time.sleep(0.3)
        sent = server.tries.total()
        assert sent < len(TEXTS) / 2
        assert server.busy == 0
        assert said(asking.ask(["a", "b"])) == ["A", "B"], "and the client answers what comes next"


def test_servers_that_differ_are_refused_by_their_names():
    with (
        ScriptedServer(names={"toy": 4096}) as one,
        ScriptedServer(names={"toy": 2048}) as two,
        pytest.raises(ConfigError, match="differs from") as caught,
        Asking(one, two),
    ):
        pass
    assert one.url in str(caught.value)
    assert two.url in str(caught.value)


def test_a_server_that_comes_back_as_another_model_stops_the_run():
    with (
        ScriptedServer(names={"toy": 4096, "toy@aa.bb.float32": 4096}, seconds=0.05) as server,
        Asking(server, max_concurrent=4) as asking,
    ):
        stream = asking.stream(TEXTS)
        next(stream)
        server.kill()
        server.names = {"toy": 4096, "toy@ac.bb.float32": 4096}
        server.start()
        with pytest.raises(ConfigError, match="served something else before"):
            list(stream)


def test_the_key_is_sent_and_never_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_KEY", "sk-secret-1")
    bad, log = TEXTS[2], tmp_path / "log"
    script = lambda text, tries: "500" if text == bad else None  # noqa: E731
    with ScriptedServer(script, key="sk-secret-1") as server:
        with Asking(server, api_key_env="TOY_KEY", log=log) as asking:
            answers = asking.ask(TEXTS[:5])
        assert isinstance(answers[2], Unanswered)
        assert "***" in answers[2].detail
        server.key = "another"
        with pytest.raises(ConfigError, match="does not let us in") as caught, Asking(server, api_key_env="TOY_KEY"):
            pass
        monkeypatch.delenv("TOY_KEY")
        with pytest.raises(ConfigError, match="TOY_KEY is not set"), Asking(server, api_key_env="TOY_KEY"):
            pass
    shown = [answers, str(caught.value), repr(asking.client._settings), log.read_text() if log.exists() else ""]
    assert "sk-secret-1" not in str(shown)
    assert "TOY_KEY" in str(caught.value)


def test_a_wrong_url_or_name_says_what_to_change():
    with ScriptedServer() as server:
        with pytest.raises(ConfigError, match="does not serve 'tou'; did you mean 'toy'"), Asking(server, model="tou"):
            pass
        wrong = server.url.removesuffix("/v1") + "/v2"
        with (
            pytest.raises(ConfigError, match="does not answer as an OpenAI-compatible server") as caught,
            Asking(server, urls=[wrong]),
        ):
            pass
    assert "/v1" in caught.value.fix


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ([], "at least 1 item"),
        (["localhost:8000/v1"], "http://localhost:8000/v1"),
        (["http://me:secret@host/v1"], "api_key_env"),
        (["http://a/v1", "http://a/v1/"], "listed twice"),
    ],
)
def test_urls_that_cannot_be_meant(urls, said):
    with pytest.raises(ConfigError, match=said) as caught:
        validated(ServerSettings, {"urls": urls, "model": "toy"}, "test")
    assert "secret" not in str(caught.value)


def test_no_more_is_in_flight_than_allowed_and_a_closed_client_leaves_no_thread():
    with ScriptedServer(seconds=0.02) as server:
        before = threading.active_count()
        with Asking(server, max_concurrent=3) as asking:
            asking.ask(TEXTS)
        assert threading.active_count() == before
        asking.client.close()
    assert server.most <= 3
    assert Counter(server.answered.values()) == {1: len(TEXTS)}
