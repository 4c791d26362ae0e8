"""Records kept by key in a folder that many processes, on many machines, read and append to at once.

Each writer appends to a log of its own, so nobody waits for anybody, and a record is there once `append` returned,
however the process ends. (A machine that loses its power may lose what was stored in its last seconds.) A log becomes a
Parquet segment when it has enough rows, and when its writer closes; `compact` merges segments and the logs of dead
writers. Texts are read only for the keys that are asked for.

How it is used: `store = RecordStore(folder, schema); store.append(rows); store.find(keys); store.close()`
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.errors import ArtifactError
from rephrase.owned_files import abandoned
from rephrase.record_compaction import common_schema, compact, tidy
from rephrase.record_index import Numbers, Places, halves, later_copies
from rephrase.record_log import LOG, PREFIX, TIME, Log, LogWriter
from rephrase.record_segment import INDEX, SEGMENT, Recent, Segment, StaleIndexError, conformed, write_segment

T = TypeVar("T")
SEAL_ROWS = 50_000
SEAL_BYTES = 64 << 20
_TRIES = 100  # looks at a folder whose files are merged all the time


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What a store holds: distinct `records`, `bytes` on the disk, files, `torn` lines of logs, and `duplicates`
    (records whose key is there already; a compaction drops them)."""

    records: int
    bytes: int
    segments: int
    logs: int
    torn: int
    duplicates: int


class RecordStore:
    """The records of one folder. For one thread; each process opens its own.

    Args:
        folder: made by the first append.
        schema: of the records; the first column is `key`, a string of 32 hex digits. Columns of JSON's kinds: texts,
            numbers, booleans, and lists, structs and maps of them. Null: the columns that are stored.
    """

    def __init__(self, folder: Path, schema: pa.Schema | None = None) -> None:
        assert schema is None or schema.names[0] == "key"
        self.folder, self._schema = folder, schema
        self._sources: dict[str, Segment | Log] = {}
        self._recent: Recent = {}
        self._writer: LogWriter | None = None
        self._looked = False

    @property
    def schema(self) -> pa.Schema:
        """The columns that `find` gives. Raises ArtifactError where nothing tells them."""
        if self._schema is None:
            self.refresh()
            found = common_schema(list(self._sources.values()))
            if found is None:
                raise ArtifactError("no records are stored here", where=str(self.folder))
            self._schema = pa.schema([field for field in found if field.name != TIME.name])
        return self._schema

    def find(self, keys: Sequence[str]) -> pa.Table:
        """The records among `keys` that are stored, in the order of the keys; `key` tells which. Each key once.

        What others stored since the last look is seen when some key is not known yet. Raises ArtifactError for a
        damaged segment.
        """
        keys = list(dict.fromkeys(keys))
        numbers = halves(keys)
        return self._repeated(lambda: self._read(keys, *self._located(keys, numbers)[:2]))

    def holds(self, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of the keys are stored, shape (n,), without reading the records."""
        numbers = halves(keys)
        return self._repeated(lambda: self._located(keys, numbers)[0] >= 0)

    def stored_at(self, keys: Sequence[str]) -> Places:
        """When each of the keys was stored, in microseconds since 1970, shape (n,); of a key that is not, the largest
        number there is."""
        numbers = halves(keys)
        return self._repeated(lambda: self._located(keys, numbers)[2])

    def latest(self, n: int) -> list[str]:
        """The keys that were stored last, at most `n`, the last one first."""
        self.refresh()
        tables = [one.index.table[:3] for one in self._sources.values()]
        last = [table[:, np.argsort(table[2])[-n:]] for table in tables]
        found = np.hstack([np.empty((3, 0), np.uint64), *last])
        order = np.argsort(found[2])[::-1][:n]
        return [f"{high:016x}{low:016x}" for high, low in found[:2, order].T.tolist()]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows: all of them once this returns, none if it does not. Null where a row lacks a column.

        Raises EnvironmentProblem when the disk is full; what was stored before stays readable.
        """
        if not rows:
            return
        halves([row["key"] for row in rows])
        checked = pa.array([dict(row) for row in rows], pa.struct(list(self.schema)))
        for field, column in zip(self.schema, checked.flatten(), strict=True):
            assert field.nullable or not column.null_count, f"{field.name} is null"
        if self._writer is None or not self._writer.usable:
            self._forget_writer()
            self._writer = LogWriter(self.folder, self.schema)
        try:
            self._writer.append(checked.to_pylist())
        except BaseException:
            self._forget_writer()  # its end may be torn; the next row begins a new log
            raise
        if self._writer.rows >= SEAL_ROWS or self._writer.n_bytes >= SEAL_BYTES:
            self.seal()

    def seal(self) -> None:
        """Make a segment of what this process appended, and merge small ones where many have gathered."""
        if self._writer is None or not self._writer.usable:
            return
        log = Log(self._writer.path)
        log.refresh()
        if log.rows:
            tables = log.tables(np.ones(log.rows, bool))
            write_segment(log.path.with_suffix(SEGMENT), tables, self.schema.append(TIME))
        log.remove()
        self._forget_writer()
        tidy(self.folder)

    def compact(self) -> bool:
        """Merge segments and the logs of dead writers; of records with one key the earliest stays.

        Others may read and write meanwhile, and a kill loses nothing. False when another process is compacting.
        Takes some 100 bytes of memory a record. Raises ArtifactError for a damaged segment.
        """
        return not self.folder.is_dir() or compact(self.folder)

    def statistics(self) -> StoreStatistics:
        """Count everything. Reads indexes and logs, no text of a segment."""
        return self._repeated(self._counted)

    def close(self) -> None:
        """Seal what was appended. The store may be used again after it."""
        self.seal()
        self._sources, self._looked = {}, False
        self._recent.clear()

    def refresh(self) -> None:
        """See what others stored, sealed or merged since the last look."""
        for _ in range(_TRIES):
            names = _stable_listing(self.folder)
            wanted = {
                name
                for name in names
                if name.endswith(SEGMENT) or (name.endswith(LOG) and name.removesuffix(LOG) + SEGMENT not in names)
            }
            self._sources = {name: one for name, one in self._sources.items() if name in wanted}
            for name in sorted(wanted - self._sources.keys()):
                path = self.folder / name
                self._sources[name] = Segment(path, self._recent) if name.endswith(SEGMENT) else Log(path)
            try:
                for one in self._sources.values():
                    if isinstance(one, Log):
                        one.refresh()
            except FileNotFoundError:  # sealed or merged in this moment
                continue
            self._looked = True
            return
        raise AssertionError(f"{self.folder} changed {_TRIES} times while it was listed")

    def _repeated(self, look: Callable[[], T]) -> T:
        """The result of `look`; after another refresh where a file was merged into another one meanwhile."""
        for _ in range(_TRIES):
            try:
                if not self._looked:
                    self.refresh()
                return look()
            except StaleIndexError:
                continue
            except OSError as error:
                if not isinstance(error, FileNotFoundError) and error.errno != errno.ESTALE:
                    raise
                self._looked = False
        raise AssertionError(f"{self.folder} changed {_TRIES} times while it was read")

    def _located(self, keys: Sequence[str], numbers: Numbers) -> tuple[Places, Places, Places]:
        """The source (its place among the sources; -1: none), row and time of each key."""
        found = self._located_now(keys, numbers)
        if (found[0] < 0).any():
            self.refresh()
            found = self._located_now(keys, numbers)
        return found

    def _located_now(self, keys: Sequence[str], numbers: Numbers) -> tuple[Places, Places, Places]:
        source, row = np.full(len(keys), -1), np.zeros(len(keys), np.int64)
        earliest = np.full(len(keys), np.iinfo(np.int64).max)
        for i, one in enumerate(self._sources.values()):
            rows, times = one.find(keys, numbers)
            better = (rows >= 0) & (times < earliest)
            source[better], row[better], earliest[better] = i, rows[better], times[better]
        return source, row, earliest

    def _read(self, keys: Sequence[str], source: Places, row: Places) -> pa.Table:
        if not (source >= 0).any():
            return self._schema.empty_table() if self._schema else pa.table({"key": pa.array([], pa.string())})
        sources = list(self._sources.values())
        parts, places = [], []
        for i in np.unique(source[source >= 0]).tolist():
            here = np.flatnonzero(source == i)
            here = here[np.argsort(row[here], kind="stable")]
            part = sources[i].read(row[here], [keys[place] for place in here.tolist()])
            parts.append(conformed(part, self.schema))
            places.append(here)
        return pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate(places))))

    def _counted(self) -> StoreStatistics:
        self.refresh()
        segments = [one for one in self._sources.values() if isinstance(one, Segment)]
        logs = [one for one in self._sources.values() if isinstance(one, Log)]
        indexes = [one.index for one in self._sources.values()]
        records = sum(map(len, indexes)) - sum(map(len, later_copies(indexes)))
        rows = sum(one.rows for one in self._sources.values())
        n_bytes = 0
        for one in self._sources.values():
            index = one.path.with_suffix(INDEX)
            n_bytes += one.path.stat().st_size + (index.stat().st_size if index.exists() else 0)
        with ExitStack() as held:
            dead = [log for log in logs if held.enter_context(abandoned(log.path))]
            torn = sum(log.torn for log in logs) + sum(log.tail_bytes > 0 for log in dead)
        return StoreStatistics(records, n_bytes, len(segments), len(logs), torn, rows - records)

    def _forget_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def stores_in(root: Path) -> list[Path]:
    """Folders at or below `root` that hold records."""
    return sorted({path.parent for path in root.rglob(f"{PREFIX}*") if path.name.endswith((SEGMENT, LOG))})


def _stable_listing(folder: Path) -> frozenset[str]:
    """Names of the files of records. A merged file has its name before its parts are deleted, but a listing that
    is under way may miss both; two equal ones miss nothing."""
    before = None
    while True:
        try:
            names = frozenset(name for name in os.listdir(folder) if name.startswith(PREFIX))
        except FileNotFoundError:
            return frozenset()
        if names == before:
            return names
        before = names
