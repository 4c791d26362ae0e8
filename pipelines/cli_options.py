"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Workspace = Annotated[
    Path, typer.Option("--workspace", "-w", help="The folder that holds the artifacts.", show_default=True)
]
DEFAULT = Path("workspace")
Runtime = Annotated[str, typer.Option(help="[b]local[/b] or [b]spark[/b]; the same bytes either way.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes. Default: one a core.")]
Master = Annotated[str | None, typer.Option(help="A Spark master, such as spark://host:7077. Default: this machine.")]
Explain = Annotated[bool, typer.Option("--explain", help="Print every setting with its meaning, and stop.")]
