"""The log of one writer: what it stored since it last sealed, a line for each call, found again by every reader.

A line is a checksum, the time, the keys, and the rows as JSON; the first line holds the schema. A call's rows are on
one line, so they are there together or not at all. What a kill left half written has no valid checksum: it is counted
and passed over. Readers index the keys as the log grows and read texts only when asked.
"""

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rephrase.owned_files import OwnedFile, checked_line, payload_of
from rephrase.record_index import KeyIndex, Numbers, Places, halves

PREFIX, LOG = "records-", ".log"
TIME = pa.field("_at", pa.int64(), nullable=False)
"""When a record was stored, in microseconds since 1970: of two records with one key the earlier counts."""
_CHUNK_BYTES = 8 << 20
_ROWS_AT_ONCE = 1_000
_SCHEMA_LINE = b"schema "
_written = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LogWriter:
    """Appends rows to a log of its own in the folder."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._file = OwnedFile(folder, PREFIX, LOG)
        self.path, self.rows = self._file.path, 0
        try:
            self._file.write(checked_line(_SCHEMA_LINE + base64.b64encode(schema.serialize().to_pybytes())))
        except BaseException:
            self.path.unlink(missing_ok=True)
            self.close()
            raise

    @property
    def n_bytes(self) -> int:
        """Size of the log."""
        return self._file.n_bytes

    @property
    def usable(self) -> bool:
        """Whether it is still this process's, and still there."""
        return self._file.usable

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows, all of them once this returns. Raises EnvironmentProblem when the disk is full."""
        keys = "".join(row["key"] for row in rows)
        told = [{name: value for name, value in row.items() if name != "key" and value is not None} for row in rows]
        self._file.write(checked_line(f"{time.time_ns() // 1000} {keys} {_written(told)}".encode()))
        self.rows += len(rows)

    def close(self) -> None:
        """Let go of the log; it stays where it is."""
        self._file.close()


class Log:
    """A reader of one log, which may grow meanwhile. `torn`: lines that are not what was written."""

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, 0
        self.schema: pa.Schema | None = None
        self._read_to = 0
        self._row_of: dict[str, int] = {}
        self._rows: list[tuple[int, int, int]] = []  # of each row: offset and length of its line, place on the line
        self._keys: list[str] = []
        self._times: list[int] = []

    @property
    def rows(self) -> int:
        """Rows read so far."""
        return len(self._rows)

    @property
    def tail_bytes(self) -> int:
        """Bytes after the last whole line."""
        return self.path.stat().st_size - self._read_to

    def refresh(self) -> None:
        """Index what was appended since. Raises FileNotFoundError when the log is gone."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            rest = b""
            for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._index_line(line)
                    self._read_to += len(line) + 1

    def _index_line(self, line: bytes) -> None:
        payload = payload_of(line)
        if payload is None or (self.schema is None and not payload.startswith(_SCHEMA_LINE)):
            self.torn += 1
        elif payload.startswith(_SCHEMA_LINE):
            encoded = base64.b64decode(payload[len(_SCHEMA_LINE) :])
            self.schema = pa.ipc.read_schema(pa.py_buffer(encoded))
        else:
            at, keys, _ = payload.split(b" ", 2)
            for i in range(len(keys) // 32):
                key = keys[32 * i : 32 * i + 32].decode("ascii")
                self._row_of.setdefault(key, len(self._rows))
                self._rows.append((self._read_to, len(line), i))
                self._keys.append(key)
                self._times.append(int(at))

    @property
    def index(self) -> KeyIndex:
        """The rows read so far, by key."""
        return KeyIndex.of(halves(self._keys), np.array(self._times, np.int64))

    def find(self, keys: Sequence[str], _: Numbers) -> tuple[Places, Places]:
        """The row (-1: not here) and time of each key."""
        rows = [self._row_of.get(key, -1) for key in keys]
        times = [self._times[row] if row >= 0 else 0 for row in rows]
        return np.array(rows, np.int64), np.array(times, np.int64)

    def read(self, rows: Places, _: Sequence[str]) -> pa.Table:
        """The given rows, in their order. Raises FileNotFoundError when the log is gone."""
        told, line_at, line = [], -1, []
        with self.path.open("rb") as file:
            for row in rows.tolist():
                offset, length, place = self._rows[row]
                if offset != line_at:
                    file.seek(offset)
                    payload = payload_of(file.read(length)) or b""
                    line_at, line = offset, json.loads(payload.split(b" ", 2)[2])
                told.append({"key": self._keys[row], TIME.name: self._times[row], **line[place]})
        assert self.schema is not None
        for field in self.schema:
            if pa.types.is_nested(field.type):
                for one in told:
                    one[field.name] = _restored(one.get(field.name), field.type)
        return pa.Table.from_pylist(told, self.schema.append(TIME))

    def tables(self, keep: np.ndarray) -> Iterator[pa.Table]:
        """The rows where `keep` (shape (rows,), bool) is true, in their order, some at a time."""
        rows = np.flatnonzero(keep)
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            yield self.read(rows[first : first + _ROWS_AT_ONCE], ())

    def remove(self) -> None:
        """Delete the log."""
        self.path.unlink(missing_ok=True)


def _restored(value: Any, kind: pa.DataType) -> Any:
    """A value as Arrow takes it: JSON made lists of a map's pairs."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return [(_restored(key, kind.key_type), _restored(one, kind.item_type)) for key, one in value]
    if pa.types.is_struct(kind):
        return {field.name: _restored(value.get(field.name), field.type) for field in kind}
    return [_restored(one, kind.value_type) for one in value] if pa.types.is_nested(kind) else value
