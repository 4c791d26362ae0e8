"""How far a rephrasing run is, and how fast it went: notes that its tasks leave while they work.

Nothing depends on a note but the progress line and estimates; a note that is lost changes no byte of any artifact.
A task writes what it did into its note twice a second and, when it ends, how much it generated from when to when into
the workspace's events. From those intervals comes the rate of later estimates.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from corpus.artifacts import TASKS
from corpus.events import log_event
from rephrase.answering import Progress

SUFFIX = ".note"
_EVERY_S = 0.5


@dataclass
class TaskNote:
    """What one task has done: requests answered, tokens it generated itself, and outputs judged and kept.

    `begun`: when its first tokens were there, `before` how many those were; the rate leaves out what came before, so
    that loading a model does not slow it down on paper.
    """

    folder: Path
    task: str
    done: int = 0
    n_out: int = 0
    judged: int = 0
    kept: int = 0
    begun: float | None = None
    before: int = 0
    written: float = 0.0
    call: Progress | None = None

    def tell(self, state: Progress) -> None:
        """Take in how far a call to the generator is; calls follow each other, each counting from nothing."""
        last = self.call if self.call is not None and state.seconds >= self.call.seconds else None
        self.done += state.done - (last.done if last else 0)
        self.n_out += state.n_out - (last.n_out if last else 0)
        if self.begun is None and self.n_out:
            self.begun, self.before = time.time(), self.n_out
        self.call = state
        self.write()

    def write(self, *, now: bool = False) -> None:
        """Leave the note, at most twice a second unless `now`."""
        if not now and time.time() - self.written < _EVERY_S:
            return
        self.written = time.time()
        path = self.folder / TASKS / f"{self.task}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        names = ("done", "n_out", "judged", "kept", "begun", "before")
        path.write_text(json.dumps({name: getattr(self, name) for name in names}))

    def log(self, events: Path, generator: str) -> None:
        """Note what was generated in the events, if anything was. `generator`: its fingerprint."""
        if self.begun is not None and self.n_out > self.before:
            log_event(
                events, rephrased=self.task, generator=generator, n_out=self.n_out - self.before,
                begun=round(self.begun, 2), ended=round(time.time(), 2),
            )  # fmt: skip


def seen(folder: Path, total: int) -> tuple[int, int, str] | None:
    """Requests done of `total`, and the speed, the time to finish and the share kept; null without notes."""
    notes = []
    for path in (folder / TASKS).glob(f"*{SUFFIX}"):
        try:
            notes.append(json.loads(path.read_text()))
        except (FileNotFoundError, json.JSONDecodeError):  # being written, or the artifact was just finished
            continue
    if not notes:
        return None
    done = min(total, sum(note["done"] for note in notes))
    begun = [note["begun"] for note in notes if note["begun"] is not None]
    said = []
    if begun and (seconds := time.time() - min(begun)) > 1:
        said.append(f"{sum(note['n_out'] - note['before'] for note in notes) / seconds:,.0f} tokens/s")
        said += [f"{_clock(seconds * (total - done) / done)} to go"] if 0 < done < total else []
    if judged := sum(note["judged"] for note in notes):
        said.append(f"{sum(note['kept'] for note in notes) / judged:.0%} kept")
    return done, total, ", ".join(said)


def noted_rate(events: Path, generator: str) -> float | None:
    """Tokens per second of a generator over all runs in a workspace, all its engines together; null without any.

    Tokens over the time in which at least one task generated: tasks side by side count their common time once.
    """
    if not events.exists():
        return None
    spans, n_out = [], 0
    for line in events.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # a line torn by a kill
            continue
        if "rephrased" in event and event.get("generator") == generator:
            spans.append((event["begun"], event["ended"]))
            n_out += event["n_out"]
    seconds, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        seconds += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return n_out / seconds if seconds > 0 else None


def _clock(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}"
