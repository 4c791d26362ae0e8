"""What a workspace knows of its raw inputs: their files and the checksums that enter fingerprints.

Checksums are taken once and kept in `inputs.json` with the file's size and time of change; a file whose size or
time differs is read again. A changed content changes the fingerprint of the documents made from it, so
everything that depends on it is rebuilt; a mere copy or touch is not a change.
"""

import json
from pathlib import Path

from corpus.artifacts import InputRef
from corpus.fingerprints import file_checksum
from corpus.shards import write_text

INPUTS = "inputs.json"


class InputChecksums:
    """Checksums of raw input files, remembered in a workspace."""

    def __init__(self, root: Path) -> None:
        self._path = root / INPUTS
        self._known: dict[str, dict[str, int | str]] = {}
        self._new = False
        self.changed: list[str] = []
        if self._path.exists():
            self._known = json.loads(self._path.read_text())

    def ref(self, file: Path, name: str) -> InputRef:
        """The input reference of a file: `name` and its content's checksum."""
        stat = file.stat()
        key = str(file.resolve())
        known = self._known.get(key)
        if known is None or (known["size"], known["mtime_ns"]) != (stat.st_size, stat.st_mtime_ns):
            checksum = file_checksum(file)
            if known is not None and known["xxh3"] != checksum:
                self.changed.append(str(file))
            self._known[key] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "xxh3": checksum}
            self._new = True
        return InputRef(name=name, fingerprint=str(self._known[key]["xxh3"]))

    def save(self) -> None:
        """Remember the checksums taken since this was opened."""
        if self._new:
            write_text(self._path, json.dumps(self._known, indent=1, sort_keys=True) + "\n")
            self._new = False
