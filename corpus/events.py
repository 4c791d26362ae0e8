"""The event log: times and counts of work done, one JSON line each, in the order it happened.

Times live here and not in manifests or metrics, so that two good runs have the same manifests and metrics.
"""

import errno
import json
import time
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"


def log_event(log: Path, **fields: Any) -> None:
    """Append one event with the time of day. On a full disk the event is lost, and nothing else: it is only a log."""
    line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields}) + "\n"
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
