"""`gradatim serve`: run a vLLM server until it is stopped, or ask one that runs."""

import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from corpus.config import apply_overrides, validated
from corpus.errors import ConfigError
from pipelines.commands.run import settings_lines
from pipelines.progress import Progress
from rephrase.server_settings import base_url
from rephrase.vllm_settings import VllmSettings


def serve_command(settings: VllmSettings, *, host: str, port: int, log: Path, api_key_env: str | None) -> None:
    """Serve until SIGINT or SIGTERM; raises as `rephrase.serving.serve` does."""
    from rephrase.serving import serve

    progress = Progress()
    serve(
        settings,
        address=(host, port),
        log=log,
        say=lambda text: progress.console.print(text, highlight=False, markup=False, soft_wrap=True),
        api_key=_key(api_key_env),
    )
    progress.say("stopped")


def check_command(url: str, api_key_env: str | None) -> None:
    """Print the health and the models of a running server; raises where it is not healthy."""
    from rephrase.server_status import status_lines

    try:
        base = base_url(url)
    except ValueError as error:
        raise ConfigError(str(error), where="--check") from None
    for line in status_lines(base, api_key=_key(api_key_env)):
        Console().print(line, highlight=False, markup=False, soft_wrap=True)


def explain_engine(settings: VllmSettings) -> None:
    """Print every engine setting as resolved, with its meaning."""
    for line in settings_lines(settings):
        Console().print(line, highlight=False)


def engine_settings(named: Mapping[str, object], overrides: tuple[str, ...]) -> VllmSettings:
    """The engine's settings from the command's own options and its `--set`s, which win. Raises ConfigError."""
    return validated(VllmSettings, apply_overrides(dict(named), overrides), "gradatim serve --set")


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {variable} is not set", where="--api-key-env")
    return key
