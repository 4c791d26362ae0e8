"""Where an OpenAI-compatible server is and how patiently it is asked: the settings of `kind: server`.

They stand alone so that recipes and the command line can read them without loading a client. Only `model`, `api`,
`tokenizer` and `revision` say what answers; the rest is about speed and patience and never part of an identity.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from corpus.config import Config

Api = Literal["auto", "completions", "chat"]


def base_url(url: str) -> str:
    """A base URL without a slash at its end. Raises ValueError for anything but http(s)://host..., or a password."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:  # before the URL is quoted in any message
        raise ValueError("a URL of a server holds a user name or a password; name a variable in api_key_env instead")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not the base URL of a server; write for example http://localhost:8000/v1")
    return url.rstrip("/")


def _each_once(urls: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({url for url in urls if urls.count(url) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is listed twice")
    return urls


class ServerSettings(Config):
    """Servers that answer by the OpenAI protocol: started by `gradatim serve`, or any other."""

    kind: Literal["server"] = "server"
    urls: Annotated[tuple[Annotated[str, AfterValidator(base_url)], ...], AfterValidator(_each_once)] = Field(
        min_length=1, description="base URLs, such as http://host:8000/v1; all must serve the same model"
    )
    model: str = Field(min_length=1, description="the served model's name, as /v1/models lists it")
    tokenizer: str | None = Field(
        None, description="a folder with the model's tokenizer, or a packaged model's name; null: the model's own name"
    )
    api: Api = Field(
        "auto",
        description="completions: prompts are tokenised here; chat: the server's own chat template; "
        "auto: completions where `gradatim serve` answers, else chat",
    )
    revision: str | None = Field(
        None, min_length=1, description="which weights a server holds that does not tell; part of every cache key"
    )
    max_context: int | None = Field(
        None, ge=128, description="tokens of prompt and output together; null: what the server says"
    )
    max_concurrent: int = Field(64, ge=1, description="requests in flight at each URL")
    timeout: float = Field(600, gt=0, description="seconds that one answer may take")
    attempts: int = Field(5, ge=1, description="failures of one request, while others are answered, until it is left")
    retry_after: float = Field(0.5, gt=0, description="seconds before the first retry; doubled each time, up to 30")
    patience: float = Field(900, gt=0, description="seconds to wait while no URL answers, until the run stops")
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the environment variable that holds the API key"
    )
