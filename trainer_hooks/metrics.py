"""The two logs of a run: metrics.jsonl, which two equal runs share byte for byte, and events.jsonl with times.

Metrics hold one line a step and one a held-out evaluation, each with `step` and `tokens`. On resume they are cut
back to the checkpoint's step, so a killed and resumed run leaves the same file as an undisturbed one.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from corpus.whole_files import saying_when_full, write_text
from trainer_hooks.metric_sinks import Sink

METRICS = "metrics.jsonl"


class Metrics:
    """The metrics file of a run, opened for appending after a given step, and copies of its lines elsewhere."""

    def __init__(self, folder: Path | None, after_step: int, sinks: Sequence[Sink] = ()) -> None:
        """Keep the lines up to `after_step`, drop later and half-written ones, and open the file for more.

        Without a folder nothing is written: only one of several ranks keeps the record.
        """
        self._file: TextIO | None = None
        self._sinks = sinks
        if folder is None:
            return
        path = folder / METRICS
        kept = [line for line in read_lines(path) if line["step"] <= after_step]
        write_text(path, "".join(_text(line) for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        if self._file is not None:
            self._file.write(_text(line))
        for sink in self._sinks:
            sink.write(line)

    def flush(self) -> None:
        """Force what was written to the disk; called before a checkpoint is made."""
        if self._file is not None:
            with saying_when_full(Path(self._file.name)):
                self._file.flush()
                os.fsync(self._file.fileno())
        for sink in self._sinks:
            sink.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()
        for sink in self._sinks:
            sink.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log, as mappings; a line that a kill left unfinished ends the reading."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
