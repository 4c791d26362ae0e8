"""The progress display: one line a stage, a bar while it runs, and a check mark with its count and time after.

On a terminal the bar moves; in a log file only finished stages are printed. Everything goes to standard
error, so that a command's own output can be piped.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

Advance = Callable[[int], None]


class Progress:
    """Shows stages as they run. `quiet` shows nothing (tests, library use)."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        self.skipped = 0
        self.ran = 0

    def skip(self, name: str) -> None:
        """Count a stage that was finished before."""
        self.skipped += 1

    @contextmanager
    def stage(self, name: str, *, total: int | None, done: int) -> Iterator[Advance]:
        """Show one stage; the yielded function is called once for each finished task, with its number of records."""
        self.ran += 1
        started = time.monotonic()
        records = 0
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<24}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            bar = bars.add_task(name, total=total, completed=done)

            def advance(count: int) -> None:
                nonlocal records
                records += count
                bars.advance(bar)

            yield advance
        count = f"{records:>9,} records" if records else " " * 17
        self.console.print(f"  [green]done[/] {name:<24} {count} {time.monotonic() - started:>7.1f} s", highlight=False)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False)
