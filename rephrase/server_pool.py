"""Which of several servers takes the next request, and which are set aside until they answer again.

The least loaded server that is in service goes first. A server that breaks a connection, or fails without answering
anything afterwards, is probed; while probes fail it gets nothing. A request that was at work when a server died is a
suspect: after one death it shares a server with few others, after two with none, so that a request which kills the
engine is found in three deaths and takes no other one with it.

All of it runs in one event loop; nothing here knows HTTP. How it is used: see rephrase/server_client.py.
"""

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from corpus.errors import EnvironmentProblem, GradatimError

Verdict = Literal["alive", "silent", "down"]
_GRACE = 1.0  # seconds in which a server that failed one request may prove itself by answering another
_SLOWEST_PROBE = 10.0  # seconds between probes of a server that stays down


@dataclass(eq=False)
class Server:
    """One base URL: what is in flight there, how much may be, and whether it is in service.

    `limit` shrinks when the server says that it is asked too much and grows back with its answers; `suspects` counts
    requests in flight by their deaths, one or more; `why` is the last thing that went wrong.
    """

    url: str
    most: int
    session: Any = None
    limit: float = 0.0
    flying: int = 0
    suspects: list[int] = field(default_factory=lambda: [0, 0])
    up: bool = True
    resumes: float = 0.0
    down_since: float = 0.0
    why: str = ""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    probing: asyncio.Task[Verdict] | None = None
    recovering: asyncio.Task[None] | None = None

    def room(self, deaths: int) -> bool:
        """Whether one more request, of so many deaths, may be in flight beside those that are."""
        if deaths > 1 or self.suspects[1]:
            return self.flying == 0
        limit = max(1, int(self.limit))
        return self.flying < (math.isqrt(limit) if deaths or self.suspects[0] else limit)

    def count(self, deaths: int, change: int) -> None:
        """Enter (+1) or leave (-1) one request."""
        self.flying += change
        if deaths:
            self.suspects[min(deaths, 2) - 1] += change


@dataclass(eq=False)
class Job:
    """One request on its way: its number in the order of asking, and what has happened to it so far."""

    number: int
    failures: int = 0
    deaths: int = 0
    refusals: int = 0
    refused_since: float | None = None
    avoid: Server | None = None
    weight: int = 0  # deaths when it was last placed


class Pool:
    """Servers, and the requests that wait for one.

    Args:
        urls: base URLs.
        most: requests in flight at each.
        patience: seconds without any server in service until those who wait are refused.
        first_pause: seconds between the first probes of a server that is down; doubled each time.
        probe: asks a server for a sign of life; it may raise GradatimError, which stops all who wait.
        note: takes a line whenever a server is set aside or comes back.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        most: int,
        patience: float,
        first_pause: float,
        probe: Callable[[Server], Awaitable[Verdict]],
        note: Callable[[str], None],
    ) -> None:
        self.servers = [Server(url, most, limit=float(most)) for url in urls]
        self._patience, self._first_pause, self._probe, self._note = patience, first_pause, probe, note
        self._waiting: list[tuple[int, int, asyncio.Future[Server], Job]] = []
        self.last_answer = _now()

    async def place(self, job: Job) -> Server:
        """Wait until a server has room for this request, and enter it there. Raises what stops the run."""
        future: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-job.deaths, job.number, future, job))
        for server in self.servers:
            if not server.up and server.recovering is None:
                server.recovering = asyncio.create_task(self._recover(server))
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self.leave(future.result(), job)
            raise

    def leave(self, server: Server, job: Job) -> None:
        """The request is no longer in flight."""
        server.count(job.weight, -1)
        self._dispatch()

    def worked(self, server: Server) -> None:
        """A server answered a request: proof that it is alive, for all who doubted it."""
        self.last_answer = _now()
        server.limit = min(float(server.most), server.limit + 1 / server.limit)
        server.answered.set()
        server.answered = asyncio.Event()
        self._in_service(server)

    def pause(self, server: Server, seconds: float) -> None:
        """Send nothing for a while to a server that is asked too much, and half as much at a time afterwards."""
        now = _now()
        if now >= server.resumes:
            server.limit = max(1.0, server.limit / 2)
        server.resumes = max(server.resumes, now + seconds)
        asyncio.get_running_loop().call_later(server.resumes - now + 0.001, self._dispatch)

    async def verdict(self, server: Server, why: str, *, broken: bool) -> Verdict:
        """Whether a server that just failed a request is alive: it answers another one, or a probe.

        Args:
            broken: no answer came at all; nothing more is sent to it before a probe has passed.
        """
        server.why = why
        if broken:
            self.set_aside(server, why)
        elif server.flying:
            try:
                await asyncio.wait_for(server.answered.wait(), _GRACE)
                return "alive"
            except TimeoutError:
                pass
        if server.probing is None:
            server.probing = asyncio.create_task(self._probed(server))
        return await asyncio.shield(server.probing)

    def set_aside(self, server: Server, why: str) -> None:
        """Send nothing to this server until a probe has passed."""
        server.why = why
        if server.up:
            server.up, server.down_since = False, _now()
            self._note(f"{server.url} is set aside: {why}")
        if server.recovering is None:
            server.recovering = asyncio.create_task(self._recover(server))

    def stop(self, error: GradatimError) -> None:
        """Refuse all who wait."""
        for _, _, future, _ in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    async def close(self) -> None:
        """End the probes."""
        tasks = [task for server in self.servers for task in (server.probing, server.recovering) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _dispatch(self) -> None:
        while self._waiting:
            _, _, future, job = self._waiting[0]
            if not future.done():
                server = self._best(job)
                if server is None:
                    return
                job.weight = job.deaths
                server.count(job.weight, 1)
                future.set_result(server)
            heapq.heappop(self._waiting)

    def _best(self, job: Job) -> Server | None:
        now = _now()
        free = [server for server in self.servers if server.up and server.resumes <= now and server.room(job.deaths)]
        return min(free, key=lambda server: (server is job.avoid, server.flying), default=None)

    def _in_service(self, server: Server) -> None:
        if not server.up:
            server.up = True
            self._note(f"{server.url} is back in service")
            self._dispatch()

    async def _probed(self, server: Server) -> Verdict:
        try:
            verdict = await self._probe(server)
            if verdict == "alive":
                self._in_service(server)
            else:
                self.set_aside(server, server.why)
            return verdict
        except GradatimError as error:
            self.stop(error)
            raise
        finally:
            server.probing = None

    async def _recover(self, server: Server) -> None:
        """Probe a server until it is in service again; give up with all who wait when none is for too long."""
        pause = self._first_pause
        try:
            while not server.up:
                if server.probing is None:
                    server.probing = asyncio.create_task(self._probed(server))
                try:
                    await asyncio.shield(server.probing)
                except GradatimError:
                    return  # those who wait were told; the next failure starts anew
                if server.up:
                    return
                self._check_patience()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _SLOWEST_PROBE)
        finally:
            server.recovering = None

    def _check_patience(self) -> None:
        now = _now()
        if any(server.up for server in self.servers):
            return
        waited = now - max(server.down_since for server in self.servers)
        if waited > self._patience:
            if self._waiting:
                self.stop(nothing_answers(self.servers, waited))
            for server in self.servers:  # whoever asks next is given the whole time
                server.down_since = now


def nothing_answers(servers: Sequence[Server], waited: float) -> EnvironmentProblem:
    """The error when no server is in service for longer than the settings' patience."""
    return EnvironmentProblem(
        f"no server answers for {waited:.0f} seconds",
        found="; ".join(f"{server.url}: {server.why}" for server in servers),
        fix="start the servers (`gradatim serve`) and run the same command: what was answered is kept",
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
