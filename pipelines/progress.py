"""The progress display: one line a stage, a bar while it runs, and a check mark with its count and time after.

On a terminal the bar moves; in a log file only finished stages are printed. Everything goes to standard
error, so that a command's own output can be piped.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

Advance = Callable[[int], None]
Watch = Callable[[], tuple[int, int] | tuple[int, int, str] | None]
WATCH_SECONDS = 0.5


@contextmanager
def _watching(watch: Watch | None, bars: Bars, bar: TaskID) -> Iterator[None]:
    """Move a bar by what `watch` answers, from a thread of its own, until the block ends."""
    if watch is None or bars.disable:
        yield
        return
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(WATCH_SECONDS):
            if seen := watch():
                done, total, *note = seen
                bars.update(bar, completed=done, total=total, note=note[0] if note else "")

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


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
    def stage(self, name: str, *, total: int | None, done: int, watch: Watch | None = None) -> Iterator[Advance]:
        """Show one stage; the yielded function is called once for each finished task, with its number of records.

        `watch` is asked twice a second how far the work inside the tasks is: what is done, of how much, and perhaps a
        few words beside the bar.
        """
        self.ran += 1
        started = time.monotonic()
        records = 0
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<24}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bars(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            bar = bars.add_task(name, total=total, completed=done, note="")

            def advance(count: int) -> None:
                nonlocal records
                records += count
                bars.advance(bar)

            with _watching(watch, bars, bar):
                yield advance
        count = f"{records:>9,} records" if records else " " * 17
        self.console.print(f"  [green]done[/] {name:<24} {count} {time.monotonic() - started:>7.1f} s", highlight=False)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False)
