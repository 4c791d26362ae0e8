"""One exchange with one OpenAI-compatible server over HTTP, and what its outcome means.

Every outcome is a value: an answer, a refusal of this request, a refusal for now, or a failure of the server. The API
key is read from the environment, goes into a header, and is cut out of every text that a server sends back.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from corpus.errors import ConfigError, EnvironmentProblem
from rephrase.generator import Answer
from rephrase.openai_protocol import BadAnswer, Question, read_answer
from rephrase.server_identity import is_this_machine
from rephrase.server_pool import Server
from rephrase.server_settings import ServerSettings

if TYPE_CHECKING:
    import aiohttp

_CONNECT = 10.0  # seconds to open a connection
_KEEP_ALIVE = 3.0  # seconds an idle connection is kept: less than the 5 after which vLLM's server closes it


@dataclass(frozen=True, slots=True)
class Failed:
    """The server failed.

    `broken`: no HTTP answer came. `at_work`: the server may have been computing this request when it failed; not so
    where no connection was made, or where it said that it is not available (503).
    """

    reason: Literal["server_error", "timeout", "bad_answer"]
    detail: str
    broken: bool = False
    at_work: bool = True


@dataclass(frozen=True, slots=True)
class Busy:
    """Asked too much (429): seconds until the server wants to be asked again, null where it does not say."""

    seconds: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server says that it will not answer this, now or later; `status` is its HTTP status."""

    status: int
    detail: str


Outcome = Answer | Failed | Busy | Refused


class Http:
    """Sessions with servers, one each; to be used inside one event loop.

    Raises ConfigError when the variable that `api_key_env` names is not set, EnvironmentProblem without aiohttp.
    """

    def __init__(self, settings: ServerSettings) -> None:
        if find_spec("aiohttp") is None:
            raise EnvironmentProblem(
                "the Python package aiohttp is missing, which asks servers",
                fix=f"{sys.executable} -m pip install 'gradatim[server]'",
            )
        self._timeout = settings.timeout
        self._key = ""
        if settings.api_key_env:
            self._key = os.environ.get(settings.api_key_env, "").strip()
            if not self._key:
                raise ConfigError(
                    f"the environment variable {settings.api_key_env} is not set",
                    expected="the API key of the server",
                    where="api_key_env",
                    fix=f"export {settings.api_key_env}=..., in the shell that starts the run",
                )

    async def ask(self, server: Server, question: Question, *, timeout: float | None = None) -> Outcome:
        """Send one question and read its answer; never raises for what a server does."""
        text = json.dumps(question.payload, separators=(",", ":")).encode()
        found = await self._exchange(server, "POST", server.url + question.path, text, timeout or self._timeout)
        if isinstance(found, Failed):
            return found
        status, headers, body = found
        if status != 200:
            return self._not_ok(status, headers, body)
        try:
            return read_answer(json.loads(body), question)
        except BadAnswer as error:
            return Failed("bad_answer", str(error))
        except ValueError:
            return Failed("bad_answer", f"not JSON: {self._clean(body)}")

    async def get(self, server: Server, url: str, *, timeout: float) -> tuple[int, Any] | Failed:
        """Status and decoded body (null where it is no JSON) of a GET."""
        found = await self._exchange(server, "GET", url, None, timeout)
        if isinstance(found, Failed):
            return found
        status, _, body = found
        try:
            return status, json.loads(body)
        except ValueError:
            return status, None

    async def close(self, server: Server) -> None:
        """Close a server's connections."""
        if server.session is not None:
            await server.session.close()

    async def _exchange(
        self, server: Server, method: str, url: str, text: bytes | None, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes] | Failed:
        import aiohttp

        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(_CONNECT, timeout))
        try:
            async with self._session(server).request(
                method, url, data=text, timeout=limits, allow_redirects=False
            ) as response:
                return response.status, response.headers, await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Failed("server_error", self._clean(str(error)), broken=True, at_work=False)
        except TimeoutError:
            return Failed("timeout", f"no answer in {timeout:g} seconds")
        except (aiohttp.ClientError, OSError) as error:
            return Failed("server_error", f"{type(error).__name__}: {self._clean(str(error))}", broken=True)

    def _session(self, server: Server) -> "aiohttp.ClientSession":
        """The session of a server, opened at first use. Proxies of the environment count, but not for this machine."""
        import aiohttp

        if server.session is None:
            headers = {"Content-Type": "application/json"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            server.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=not is_this_machine(server.url),
                loop=asyncio.get_running_loop(),
            )
        session: aiohttp.ClientSession = server.session
        return session

    def _not_ok(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        detail = f"HTTP {status}: {self._clean(_message(body))}"
        if status == 429:
            return Busy(_seconds(headers.get("Retry-After")), detail)
        if status >= 500 or status in (408, 425):
            return Failed("server_error", detail, at_work=status != 503)
        return Refused(status, detail)

    def _clean(self, text: str | bytes) -> str:
        """A text of a server for an error: one line, short, and without the API key."""
        if isinstance(text, bytes):
            text = text[:4096].decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:300]


def _message(body: bytes) -> str | bytes:
    """The message inside an error body of the OpenAI protocol, or the body as it is."""
    try:
        error = json.loads(body)
        found = error.get("error", error)
        return str(found.get("message") or found)
    except (ValueError, AttributeError):
        return body


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds from now; it holds seconds or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when - datetime.now(UTC if when.tzinfo else None)).total_seconds())
