"""Open a workshop for one command: the workspace, the runtime that its options name, and the progress display."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipelines.build import Workshop
from pipelines.progress import Progress
from pipelines.runtime import make_runtime

LOG_WIDTH = 120


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how work runs; never part of what comes out."""

    runtime: str = "local"
    workers: int | None = None
    master: str | None = None
    strict: bool = False

    @property
    def n_workers(self) -> int:
        """The workers asked for; one a core where none were."""
        return self.workers or os.cpu_count() or 1


def table_console() -> Console:
    """A console for tables: as wide as the terminal, or as a log line where there is no terminal to fit into."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


@contextmanager
def open_workshop(workspace: Path, options: RuntimeOptions) -> Iterator[Workshop]:
    """A workshop whose runtime and scratch space end with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="gradatim-") as scratch,
        closing(
            make_runtime(options.runtime, workers=options.n_workers, master=options.master, scratch=Path(scratch))
        ) as engine,
    ):
        yield Workshop(workspace, engine, strict=options.strict, progress=Progress())
