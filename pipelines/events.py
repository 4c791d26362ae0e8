"""The workspace's event log: times and counts of work done, one JSON line each, in the order it happened.

Times live here and not in manifests, so that two good runs have the same manifests.
"""

import json
import time
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"


def log_event(root: Path, **fields: Any) -> None:
    """Append one event with the time of day."""
    with (root / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields}) + "\n")
