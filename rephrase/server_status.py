"""Ask one server how it is, without a client: /health, what it serves, and its version.

How it is used:  for line in status_lines("http://localhost:8000/v1", api_key=""): print(line)
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from corpus.errors import ConfigError, EnvironmentProblem
from rephrase.served_name import told_identity
from rephrase.server_identity import is_this_machine, root_of

_TIMEOUT = 30.0


def is_healthy(root: str, *, timeout: float) -> bool:
    """Whether GET /health of a server's root answers 200."""
    try:
        return _get(f"{root}/health", "", timeout)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def status_lines(url: str, *, api_key: str) -> list[str]:
    """Health, version and models of a running server, one line each.

    Raises EnvironmentProblem when it does not answer or is not healthy, ConfigError when it wants another key or is
    no OpenAI-compatible server.
    """
    try:
        health, _ = _get(f"{root_of(url)}/health", api_key, _TIMEOUT)
        status, models = _get(f"{url}/models", api_key, _TIMEOUT)
        told, version = _get(f"{root_of(url)}/version", api_key, _TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentProblem(
            f"{url} does not answer", found=str(error), fix="start it with `gradatim serve`, or check the URL"
        ) from error
    if status in (401, 403):
        raise ConfigError(f"{url} does not let us in", found=f"HTTP {status}", fix="name its key by --api-key-env")
    if status != 200 or not isinstance(models, dict) or not isinstance(models.get("data"), list):
        raise ConfigError(
            f"{url} is no OpenAI-compatible server", expected="a list under /models", found=f"HTTP {status}",
            fix="give the base URL, which most often ends in /v1",
        )  # fmt: skip
    if health >= 500:
        raise EnvironmentProblem(f"{url} is not healthy", found=f"/health: HTTP {health}", fix="read the server's log")
    engine = version.get("version", "unknown") if told == 200 and isinstance(version, dict) else "unknown"
    return [f"{url} is healthy, engine version {engine}", *_model_lines(models["data"])]


def _model_lines(rows: Sequence[Any]) -> Iterator[str]:
    """A line a model; the short name of one that also has a full name is left out."""
    contexts = {str(row["id"]): row.get("max_model_len") for row in rows if isinstance(row, dict) and "id" in row}
    short = {told["model"] for name in contexts if (told := told_identity(name))}
    for name, context in contexts.items():
        if name in short:
            continue
        told = told_identity(name)
        facts = [f"{key} {value}" for key, value in told.items()] if told else ["tells no identity"]
        facts += [f"context {context:,}"] if isinstance(context, int) else []
        yield f"  {name}: {', '.join(facts)}"


def _get(url: str, api_key: str, timeout: float) -> tuple[int, Any]:
    """Status and decoded body (null where it is no JSON). Raises OSError or HTTPException when nothing answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if is_this_machine(url) else None))
    try:
        with opener.open(request, timeout=timeout) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None
