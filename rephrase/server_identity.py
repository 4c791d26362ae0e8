"""What a server says about the model it serves: names, context, and whether it is one that `gradatim serve` started.

How it is used: `served_model(await http.get(server, server.url + "/models", ...), settings, server.url)`
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from corpus.config import nearest
from corpus.errors import ConfigError
from rephrase.served_name import told_identity
from rephrase.server_settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Served:
    """A served model.

    `name`: what a request calls it. `told`: model, weights, chat_template and dtype, null where the server does not
    tell. `max_context`: null where it does not tell. `version`: the engine's, "unknown" where it does not tell.
    """

    name: str
    told: Mapping[str, str] | None
    max_context: int | None
    version: str = "unknown"

    def describe(self) -> str:
        """One line for errors and for `gradatim serve --check`."""
        context = f"context {self.max_context:,}" if self.max_context else "unknown context"
        return f"{self.name}, {context}, engine version {self.version}"


def root_of(url: str) -> str:
    """The server's root, which holds /health and /version: the base URL without /v1."""
    return url.removesuffix("/v1")


def is_this_machine(url: str) -> bool:
    """Whether a URL leads to this machine, where no proxy belongs in between."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def listed_model(status: int, body: Any, settings: ServerSettings, url: str) -> Served:
    """The model of the settings in the answer of /models. Raises ConfigError that says what is wrong with the URL,
    the key, or the name."""
    if status in (401, 403):
        raise key_refused(url, f"HTTP {status}", settings)
    rows = body.get("data") if isinstance(body, dict) else None
    if status != 200 or not isinstance(rows, list):
        raise ConfigError(
            f"{url} does not answer as an OpenAI-compatible server",
            expected="a list of models under /models",
            found=f"HTTP {status}" if status != 200 else "a body of another shape",
            where="urls",
            fix="give the base URL, which most often ends in /v1" if not url.endswith("/v1") else "check the URL",
        )
    models = {row["id"]: row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)}
    full = [name for name in models if (told := told_identity(name)) and settings.model in (name, told["model"])]
    if len(full) > 1:
        raise ConfigError(
            f"{url} serves several models called {settings.model!r}", found=", ".join(full), fix="name one of them"
        )
    name = full[0] if full else settings.model
    if name not in models:
        raise ConfigError(f"{url} does not serve {name!r}{nearest(name, models)}", where="model")
    row = models[name]
    length = row.get("max_model_len") or row.get("context_length")
    return Served(name, told_identity(name), length if isinstance(length, int) else None)


def key_refused(url: str, found: str, settings: ServerSettings) -> ConfigError:
    """The error for a server that wants another API key, or any at all."""
    name = settings.api_key_env
    return ConfigError(
        f"{url} does not let us in",
        expected=f"the API key in the environment variable {name}" if name else "an API key",
        found=found,
        where="api_key_env",
        fix=f"check the key in {name}" if name else "put the key in an environment variable and name that here",
    )


def must_equal(first: Served, first_url: str, second: Served, second_url: str) -> None:
    """Raises ConfigError, naming both, when two servers, or one before and after, do not serve the same."""
    if first != second:
        again = "served something else before" if first_url == second_url else f"differs from {first_url}"
        raise ConfigError(
            f"{second_url} {again}: answers of both would lie in one output",
            expected=first.describe(),
            found=second.describe(),
            where="urls",
            fix="serve the same model with the same version and context everywhere, or leave one out",
        )
