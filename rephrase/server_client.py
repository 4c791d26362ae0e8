"""Ask OpenAI-compatible servers many questions at once, and bring back an answer or a reason for each.

The client lives in a thread of its own with one event loop; the caller hands questions in and takes answers as they
finish. What is worth asking again is asked again: refusals for being asked too much (after the time the server
names), errors of the server, time-outs, broken connections, bodies that cannot be read. A failure counts against a
request only if the server proves to be alive afterwards; else it counts against the server (rephrase/server_pool.py).

aiohttp, not httpx, whose cost for each request grows with the number in flight.

How it is used: `batch = ServerClient(settings, log=path).batch()`, then `batch.add(place, question)` for each, then
`batch.answers()`, and `batch.cancel()` in any case.
"""

import asyncio
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from corpus.errors import ConfigError, EnvironmentProblem
from corpus.keyed_random import keyed_uniforms
from rephrase.generator import Answer, Generation, Unanswered
from rephrase.openai_protocol import Question, trivial
from rephrase.server_http import Busy, Failed, Http, Refused
from rephrase.server_identity import Served, key_refused, listed_model, must_equal, root_of
from rephrase.server_pool import Job, Pool, Server, Verdict
from rephrase.server_settings import ServerSettings

_DEATHS = 3  # of the server, each time while it worked on the same request, until that request is poison
_PROBE = 60.0  # seconds that a probe may take, at most
_LONGEST_PAUSE = 30.0  # seconds between retries of one request

Result = TypeVar("Result")


class ServerClient:
    """Questions to servers, from any thread.

    Args:
        settings: see ServerSettings.
        log: file that takes a line whenever a server is set aside or comes back; null: none does.

    Raises ConfigError when the API key's variable is not set, EnvironmentProblem without aiohttp.
    """

    def __init__(self, settings: ServerSettings, *, log: Path | None = None) -> None:
        self._settings, self._log = settings, log
        self._http = Http(settings)
        self._served: tuple[Served, str] | None = None
        self._canary: Question | None = None
        self._trivial_prompt: list[int] = []
        self._any_answered = False
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gradatim-server-client", daemon=True)
        self._thread.start()
        self._pool: Pool = self._run(self._make_pool())

    def connect(self) -> Served:
        """Ask every server what it serves; wait for the first one as long as the settings' patience.

        Raises ConfigError for a wrong URL, key or model, and when servers differ; EnvironmentProblem when none answers.
        """
        return self._run(self._connect())

    def arm(self, canary: Question, prompt: list[int]) -> None:
        """Say what a healthy server always answers; probes ask it from now on. `prompt`: one token or a few."""
        self._canary, self._trivial_prompt = canary, prompt

    def batch(self) -> "Batch":
        """A group of questions that are asked together and may be given up together."""
        return Batch(self)

    def close(self) -> None:
        """Give up what is in flight and end the thread; a closed client asks nothing more."""
        if not self._loop.is_closed():
            self._run(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def answer(self, question: Question) -> Answer:
        """One answer, however often it must be asked for; runs in the client's loop. Raises what stops the run."""
        job = Job(next(self._numbers))
        while True:
            server = await self._pool.place(job)
            try:
                outcome = await self._http.ask(server, question)
            finally:
                self._pool.leave(server, job)
            if isinstance(outcome, Generation | Unanswered):
                self._any_answered = True
                self._pool.worked(server)
                return outcome
            job.avoid = server
            if isinstance(outcome, Busy):
                reason = await self._busy(outcome, job, server)
            elif isinstance(outcome, Refused):
                reason = await self._refused(outcome, job, server, question)
            else:
                reason = await self._failed(outcome, job, server)
            if reason is not None:
                return reason

    async def _failed(self, outcome: Failed, job: Job, server: Server) -> Unanswered | None:
        verdict = await self._pool.verdict(server, outcome.detail, broken=outcome.broken)
        if verdict == "down":
            job.deaths += outcome.at_work
            if job.deaths >= _DEATHS:
                return Unanswered("poison", f"the server died {job.deaths} times at it; last: {outcome.detail}")
            return None
        return await self._charged(outcome.reason, outcome.detail, job)

    async def _charged(self, reason: Any, detail: str, job: Job) -> Unanswered | None:
        """A failure that is this request's own: pause, or give it up."""
        job.failures += 1
        if job.failures >= self._settings.attempts:
            return Unanswered(reason, f"{job.failures} times; last: {detail}")
        await asyncio.sleep(self._backoff(job, job.failures))
        return None

    async def _busy(self, outcome: Busy, job: Job, server: Server) -> Unanswered | None:
        now = asyncio.get_running_loop().time()
        job.refused_since = job.refused_since or now
        waited, patience = now - job.refused_since, self._settings.patience
        if waited > patience:
            if self._pool.last_answer > now - patience:
                return Unanswered("server_error", f"refused for {waited:.0f} seconds; last: {outcome.detail}")
            raise EnvironmentProblem(
                f"the servers refuse everything for {waited:.0f} seconds",
                found=outcome.detail,
                where=server.url,
                fix="wait until the quota is free again, or lower max_concurrent; then run the same command",
            )
        job.refusals += 1
        seconds = outcome.seconds if outcome.seconds is not None else self._backoff(job, job.refusals)
        self._pool.pause(server, min(max(seconds, 0.05), patience))
        return None

    async def _refused(self, outcome: Refused, job: Job, server: Server, question: Question) -> Unanswered | None:
        """A request that is refused for good; or all of its kind, which the shortest one of it tells."""
        if self._any_answered and outcome.status not in (401, 403, 404, 405) and outcome.status >= 400:
            self._pool.worked(server)
            return Unanswered("server_error", outcome.detail)
        short = await self._http.ask(server, trivial(question, self._trivial_prompt))
        if isinstance(short, Refused):
            raise self._all_refused(short, server, question)
        if isinstance(short, Generation | Unanswered):
            self._any_answered = True
            self._pool.worked(server)
            return Unanswered("server_error", outcome.detail)
        return await self._charged("server_error", outcome.detail, job)

    def _all_refused(self, short: Refused, server: Server, question: Question) -> ConfigError:
        if short.status in (401, 403):
            return key_refused(server.url, short.detail, self._settings)
        if short.status < 400:
            return ConfigError(f"{server.url} sends requests elsewhere", found=short.detail, where="urls")
        sent = ", ".join(sorted(question.payload.keys() - {"model", "prompt", "messages"}))
        return ConfigError(
            f"{server.url}{question.path} refuses even the shortest request of {self._settings.model}",
            expected=f"a server that takes {sent}",
            found=short.detail,
            fix="leave out of the style's decoding what this server does not know, or name another api, model or URL",
        )

    def _backoff(self, job: Job, times: int) -> float:
        """Seconds before the next try: doubled each time, with a jitter of a half to three halves keyed by the job."""
        jitter = 0.5 + float(keyed_uniforms(times, [str(job.number)])[0])
        return min(_LONGEST_PAUSE, self._settings.retry_after * 2.0 ** (times - 1)) * jitter

    async def _connect(self) -> Served:
        await asyncio.gather(*(self._first_look(server) for server in self._pool.servers))
        job = Job(next(self._numbers))
        self._pool.leave(await self._pool.place(job), job)
        assert self._served is not None
        return self._served[0]

    async def _first_look(self, server: Server) -> None:
        if await self._probe(server) != "alive":
            self._pool.set_aside(server, server.why)

    async def _probe(self, server: Server) -> Verdict:
        """Ask for /health, for what is served, and for the shortest answer."""
        timeout = min(_PROBE, self._settings.timeout)
        health = await self._http.get(server, root_of(server.url) + "/health", timeout=timeout)
        if isinstance(health, Failed) or health[0] >= 500:
            return _doubt(server, health if isinstance(health, Failed) else f"/health: HTTP {health[0]}")
        models = await self._http.get(server, server.url + "/models", timeout=timeout)
        if isinstance(models, Failed) or models[0] >= 500 or models[0] == 429:
            return _doubt(server, models if isinstance(models, Failed) else f"/models: HTTP {models[0]}")
        try:
            served = listed_model(*models, self._settings, server.url)
        except ConfigError:
            if self._served is None or models[0] != 200:
                raise
            if isinstance(models[1], dict) and isinstance(models[1].get("data"), list):
                raise  # it serves other models now
            return _doubt(server, "/models: a body of another shape")
        if served.told:
            version = await self._http.get(server, root_of(server.url) + "/version", timeout=timeout)
            if isinstance(version, Failed) or not isinstance(version[1], dict) or "version" not in version[1]:
                return _doubt(server, version if isinstance(version, Failed) else "/version: no version")
            served = Served(served.name, served.told, served.max_context, str(version[1]["version"]))
        if self._served is None:
            self._served = (served, server.url)
        must_equal(*self._served, served, server.url)
        return await self._sings(server, timeout)

    async def _sings(self, server: Server, timeout: float) -> Verdict:
        """Whether the canary is answered; a refusal, too, comes from a server that is alive."""
        if self._canary is None:
            return "alive"
        outcome = await self._http.ask(server, self._canary, timeout=timeout)
        if isinstance(outcome, Failed):
            return _doubt(server, outcome)
        return "alive"

    def _note(self, line: str) -> None:
        if self._log is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    async def _make_pool(self) -> Pool:
        settings = self._settings
        return Pool(
            settings.urls,
            most=settings.max_concurrent,
            patience=settings.patience,
            first_pause=settings.retry_after,
            probe=self._probe,
            note=self._note,
        )

    async def _shut(self) -> None:
        await self._pool.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for server in self._pool.servers:
            await self._http.close(server)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, call: Any, *arguments: Any) -> None:
        """Call something in the client's loop."""
        self._loop.call_soon_threadsafe(call, *arguments)


class Batch:
    """Questions asked together: each answer comes back once, with the place it was given; see ServerClient."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client
        self._asked = 0
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._finished: queue.SimpleQueue[tuple[int, Answer | BaseException]] = queue.SimpleQueue()

    def add(self, place: int, question: Question) -> None:
        """Ask one question; it is sent as soon as a server has room."""
        self._asked += 1
        self._client.soon(self._begin, place, question)

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """Every answer as it arrives. Raises what stops the run."""
        for _ in range(self._asked):
            place, answer = self._finished.get()
            if isinstance(answer, BaseException):
                raise answer
            yield place, answer

    def cancel(self) -> None:
        """Give up what is not answered yet."""
        with contextlib.suppress(RuntimeError):  # the client was closed before
            self._client.soon(self._cancel)

    def _begin(self, place: int, question: Question) -> None:
        task = asyncio.ensure_future(self._client.answer(question))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(place, task))

    def _done(self, place: int, task: "asyncio.Task[Answer]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._finished.put((place, EnvironmentProblem("the client was closed while it was asked")))
        else:
            self._finished.put((place, task.exception() or task.result()))

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def _doubt(server: Server, found: Failed | str) -> Verdict:
    """A probe that failed: silent where it took too long, else down."""
    server.why = found if isinstance(found, str) else found.detail
    return "silent" if isinstance(found, Failed) and found.reason == "timeout" else "down"
