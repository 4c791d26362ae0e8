"""A small OpenAI-compatible server with scripted faults, in a thread of its own; for tests of clients.

It answers a prompt with its words in capitals. Before that it asks the script what to do with the prompt, given as
text, and the number of its earlier tries: null answers it, a name is one of the faults in `FAULTS`.
"""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

FAULTS = (
    "500", "502", "503", "429", "429 now", "400", "403", "truncated", "no json", "other shape", "no reason", "filter",
    "cut before", "cut within", "hang", "die",
)  # fmt: skip


class ScriptedServer:
    """Args:
        script: fault or null for a prompt and the number of its earlier tries.
        names: what /v1/models lists, each with its context.
        seconds: how long an answer takes.
        decode: turns token ids into the text of a prompt.
        key: the API key it wants; null: none.

    `tries`: how often each prompt came in; `answered`: how often each was answered whole; `most`: the most requests at
    a time; `alone`: prompts that were in flight alone when they died.
    """

    def __init__(
        self,
        script: Callable[[str, int], str | None] = lambda text, tries: None,
        *,
        names: Mapping[str, int | None] | None = None,
        version: str = "1.2.3",
        seconds: float = 0.0,
        decode: Callable[[list[int]], str] = lambda ids: bytes(ids).decode(),
        key: str | None = None,
        back_after: float = 0.1,
        usage: bool = True,
    ) -> None:
        self.script, self.names, self.version, self.seconds = script, dict(names or {"toy": 4096}), version, seconds
        self.decode, self.key, self.back_after, self.usage = decode, key, back_after, usage
        self.tries: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.payloads: list[dict[str, Any]] = []
        self.busy = self.most = self.deaths = 0
        self.in_flight: list[set[str]] = []
        self._now: set[str] = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "ScriptedServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def kill(self) -> None:
        """Close the port and cut every connection."""
        asyncio.run_coroutine_threadsafe(self._kill(), self._loop).result()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _kill(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None or runner.server is None:
            return
        for site in list(runner.sites):
            await site.stop()
        for protocol in list(runner.server.connections):
            if protocol.transport is not None:
                protocol.transport.abort()
        await runner.cleanup()

    async def _die(self) -> None:
        self.deaths += 1
        self.in_flight.append(set(self._now))
        await self._kill()
        await asyncio.sleep(self.back_after)
        await self._start()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    async def _models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self._error(401, f"wrong key {request.headers.get('Authorization')}")
        return web.json_response({"data": [{"id": name, "max_model_len": n} for name, n in self.names.items()]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        payload = await request.json()
        text = self.decode(payload["prompt"]) if "prompt" in payload else payload["messages"][-1]["content"]
        tries, self.tries[text] = self.tries[text], self.tries[text] + 1
        self.payloads.append(payload)
        self.busy += 1
        self._now.add(text)
        self.most = max(self.most, self.busy)
        try:
            await asyncio.sleep(self.seconds)
            fault = self.script(text, tries)
            if fault == "die":
                dying = asyncio.ensure_future(self._die())  # it ends this handler, too
                await asyncio.wait([dying])
            response = await self._faulty(fault, request) if fault else self._whole(text, payload)
            self.answered[text] += fault is None
            return response
        finally:
            self.busy -= 1
            self._now.discard(text)

    async def _faulty(self, fault: str, request: web.Request) -> web.StreamResponse:
        assert fault in FAULTS, fault
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault.startswith("429"):
            after = {"Retry-After": "0.3"} if fault == "429" else {}
            return self._error(429, "slow down", after)
        if fault.isdigit():
            return self._error(int(fault), f"no\nluck with {request.headers.get('Authorization', 'this')}")
        if fault in ("cut before", "cut within"):
            assert request.transport is not None
            if fault == "cut within":
                request.transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"choices": [{')
                await asyncio.sleep(0.01)
            request.transport.abort()
        bodies = {
            "truncated": '{"choices": [{"text": "hal',
            "no json": "<html>Bad gateway</html>",
            "other shape": '{"choices": {"text": "x"}}',
            "no reason": '{"choices": [{"text": "x", "message": {"content": "x"}, "finish_reason": null}]}',
            "filter": '{"choices": [{"text": "", "message": {"content": null}, "finish_reason": "content_filter"}]}',
        }
        return web.Response(text=bodies.get(fault, ""), content_type="application/json")

    def _whole(self, text: str, payload: Mapping[str, Any]) -> web.Response:
        said = text.upper()
        choice: dict[str, Any] = {"finish_reason": "length" if payload["max_tokens"] == 1 else "stop", "index": 0}
        if "prompt" in payload:
            choice["text"] = said
            asked = payload.get("logprob_token_ids")
            if asked:
                choice["logprobs"] = {"top_logprobs": [{f"token_id:{token}": -token / 100 for token in asked}]}
        else:
            choice["message"] = {"role": "assistant", "content": said}
        body: dict[str, Any] = {"choices": [choice]}
        if self.usage:
            body["usage"] = {"prompt_tokens": 1000 + len(text), "completion_tokens": len(said)}
        return web.Response(text=json.dumps(body), content_type="application/json")

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
        return web.json_response({"error": {"message": message}}, status=status, headers=headers)
