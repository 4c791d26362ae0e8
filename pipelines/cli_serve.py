"""`gradatim serve`: a vLLM server for `kind: server` generators. Nothing heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Workspace


def serve(
    model: Annotated[
        str, typer.Argument(help="A packaged model's name, or a Hugging Face folder.")
    ] = "smollm2-135m-instruct",
    host: Annotated[str, typer.Option(help="Where to listen; [b]0.0.0.0[/b] lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    data_parallel: Annotated[int, typer.Option(min=1, help="Engines behind this one URL.")] = 1,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="Devices that share an engine.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change an engine setting: [b]--set max_context=4096[/b]. Repeatable."),
    ] = None,
    workspace: Workspace = DEFAULT,
    log: Annotated[
        Path | None, typer.Option(help="File for what vLLM prints. Default: logs/serve-PORT.log in the workspace.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="The environment variable with the key that clients must send.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a running server for its health and identity instead, and stop."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every engine setting with its meaning, and stop.")
    ] = False,
) -> None:
    """Start a vLLM server with the tuned settings, and start it again when it dies.

    It lists its model under a name that carries the identity, so that `kind: server` generators find the answers that
    the engine in a run's own process would store, and the reverse. Ctrl-C ends it.

    Example:  gradatim serve models/Qwen3-1.7B --data-parallel 8 --set max_batched_tokens=32K
    """
    from pipelines.commands.serve import check_command, engine_settings, explain_engine, serve_command

    if check is not None:
        check_command(check, api_key_env)
        return
    named = {"model": model, "data_parallel": data_parallel, "tensor_parallel": tensor_parallel}
    settings = engine_settings(named, tuple(overrides or ()))
    if explain:
        explain_engine(settings)
    else:
        log = log or workspace / "logs" / f"serve-{port}.log"
        serve_command(settings, host=host, port=port, log=log, api_key_env=api_key_env)
