"""End a run gracefully, with a checkpoint, when a stop decision lies in its folder.

`trainer_hooks.early_kill` writes such files, and so may anyone: `{"reason": "..."}` in stop.json. A resumed run ends
again after its next step, until the file is removed.
"""

import json
from pathlib import Path

from corpus.shards import write_text
from trainer_hooks.hooks.base import Hook, TrainingRun
from trainer_hooks.hooks.kinds import StopFile

STOP_FILE = "stop.json"


def write_stop(folder: Path, reason: str) -> None:
    """Ask the run in a folder to end."""
    write_text(folder / STOP_FILE, json.dumps({"reason": reason}) + "\n")


class StopFileHook(Hook):
    """Looks for the file after every n-th step; the first rank looks for all."""

    kind = "stop_file"

    def __init__(self, settings: StopFile) -> None:
        self.settings = settings

    def after_step(self, run: TrainingRun) -> None:
        """Set `run.stop` where the file is there."""
        if run.step % self.settings.every:
            return
        path = run.folder / STOP_FILE
        asked = path.read_text(encoding="utf-8").strip() if run.parallel.first and path.exists() else None
        asked = run.parallel.told(asked)
        if asked is not None:
            run.stop = f"{STOP_FILE}: {asked}"
