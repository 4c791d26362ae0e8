"""Run vLLM's OpenAI-compatible server with the tuned settings, under the names that carry its identity.

It is set up by the same settings as the engine in this process, so that a client of it finds the same cache keys, and
kept running by rephrase/kept_server.py.

How it is used:  serve(VllmSettings(), address=("127.0.0.1", 8000), log=path, say=print)
"""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from corpus.errors import EnvironmentProblem
from rephrase.context_length import longest_context
from rephrase.kept_server import KeptServer
from rephrase.packaged_models import model_folder
from rephrase.served_name import full_name
from rephrase.vllm_engine import vllm_identity
from rephrase.vllm_problems import start_problem
from rephrase.vllm_settings import VllmSettings, engine_arguments, engine_environment, vllm_version

Address = tuple[str, int]


def serve(
    settings: VllmSettings, *, address: Address, log: Path, say: Callable[[str], None], api_key: str = ""
) -> None:
    """Serve until SIGINT or SIGTERM; must be called from the main thread.

    Args:
        settings: the engine's.
        address: host and port to listen on.
        log: file that takes all that the server prints, appended.
        say: takes a line for the user.
        api_key: what clients must send; empty: nothing.

    Raises EnvironmentProblem when vLLM is missing, the port is taken, or the server does not start or ends again and
    again; ConfigError for a model that cannot be used.
    """
    installed = vllm_version()
    _check_port(address)
    identity = vllm_identity(settings)
    folder = model_folder(settings.model)
    max_context = longest_context(folder.path, wanted=settings.max_context)
    names = (identity["model"], full_name(identity))
    say(f"starting vLLM {installed} with {settings.model}; log: {log}")
    KeptServer(
        module=server_module(settings, folder.path, names=names, address=address, max_context=max_context),
        environment=engine_environment(settings) | ({"VLLM_API_KEY": api_key} if api_key else {}),
        root=root_url(address),
        log=log,
        say=say,
        ready=_ready(root_url(address), identity),
        problem=lambda error, since: start_problem(error, settings, log, since=since),
    ).run()


def server_module(
    settings: VllmSettings, folder: Path, *, names: tuple[str, ...], address: Address, max_context: int
) -> list[str]:
    """vLLM's server as a module with its arguments: the engine's settings as its options."""
    arguments: dict[str, Any] = {
        "model": str(folder),
        "host": address[0],
        "port": address[1],
        **engine_arguments(settings, max_context=max_context),
        "generation_config": "vllm",  # what a request leaves out is neutral, not the model's own default
        "uvicorn_log_level": "warning",  # no line for each request
    }
    if settings.data_parallel > 1:
        arguments["data_parallel_size"] = settings.data_parallel
    options = [part for name, value in arguments.items() for part in _option(name, value)]
    # `vllm serve` asks for the metadata of a distribution named vllm, which CPU builds lack
    return ["vllm.entrypoints.openai.api_server", *options, "--served-model-name", *names]


def root_url(address: Address) -> str:
    """Where a client on this machine finds a server that listens on an address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])
    return f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"


def _option(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", json.dumps(value) if isinstance(value, Mapping) else str(value)]


def _ready(root: str, identity: Mapping[str, str]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in identity.items())
    return (
        f"ready: {root}/v1\n  {told}\n  served as {identity['model']} and {full_name(identity)}\n"
        f"  as a generator: {{kind: server, urls: [{root}/v1], model: {identity['model']}}}"
    )


def _check_port(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose last server just ended is free
        try:
            probe.bind(address)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot listen on {address[0]} port {address[1]}",
                found=str(error),
                fix="choose another --port, or end what listens there"
                f" (`gradatim serve --check {root_url(address)}/v1` tells what it is)",
            ) from error
