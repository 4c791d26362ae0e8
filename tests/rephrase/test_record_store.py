"""Records are there once append returned: for any number of writers, through any kill, while segments are merged."""

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from corpus.errors import ArtifactError, ConfigError, EnvironmentProblem
from rephrase import owned_files, record_compaction, record_segment, record_store
from rephrase.record_index import KeyIndex, halves, later_copies
from rephrase.record_store import RecordStore, stores_in

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("text", pa.string()), ("n", pa.int32())])
REPOSITORY = Path(__file__).parents[2]


def key(name):
    return hashlib.md5(str(name).encode()).hexdigest()


def row(name, text=None, n=0):
    return {"key": key(name), "text": text or f"text {name}", "n": n}


def texts(store, names):
    found = store.find([key(name) for name in names])
    return dict(zip(found.column("key").to_pylist(), found.column("text").to_pylist(), strict=True))


def is_whole(folder, names):
    """A fresh reader finds exactly these records, with their texts, and in the order they are asked for."""
    names = list(names)
    found = RecordStore(folder, SCHEMA).find([key(name) for name in names])
    assert found.column("key").to_pylist() == [key(name) for name in names]
    assert found.column("text").to_pylist() == [f"text {name}" for name in names]


def files(folder, ending):
    return sorted(path for path in folder.glob("records-*") if path.name.endswith(ending))


def leave_dead(folder, *names):
    """A log whose writer is gone: its store is dropped without being closed."""
    store = RecordStore(folder, SCHEMA)
    for name in names:
        store.append([row(name)])
    store._forget_writer()


def in_a_process(code, *arguments, **options):
    script = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], **options)


# ------------------------------------------------------------------------------------------------ one process


def test_records_come_in_the_order_they_are_asked_for_each_once(tmp_path):
    store = RecordStore(tmp_path / "s", SCHEMA)
    assert store.find([key(0)]).num_rows == 0
    assert store.find([key(0)]).schema == SCHEMA
    store.append([row(i) for i in range(1000)])
    store.seal()
    store.append([row(i) for i in range(1000, 1010)])
    asked = [1005, 3, 999, 5000, 3, 1000, 0]
    assert store.find([key(i) for i in asked]).column("text").to_pylist() == [
        f"text {i}" for i in (1005, 3, 999, 1000, 0)
    ]
    assert store.holds([key(i) for i in asked]).tolist() == [True, True, True, False, True, True, True]
    store.close()
    is_whole(tmp_path / "s", reversed(range(1010)))
    assert len(files(tmp_path / "s", ".parquet")) == 2
    assert not files(tmp_path / "s", ".log")
    assert stores_in(tmp_path) == [tmp_path / "s"]


def test_rows_of_every_kind_come_back_equal_from_a_log_and_from_a_segment(tmp_path):
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False), ("flag", pa.bool_()), ("score", pa.float64()),
            ("map", pa.map_(pa.string(), pa.float32())),
            ("deep", pa.list_(pa.struct([("a", pa.int64()), ("m", pa.map_(pa.string(), pa.list_(pa.string())))]))),
        ]
    )  # fmt: skip
    row = {
        "key": key(0), "flag": False, "score": float("-inf"), "map": [("π\n\u2028", 0.5), ("b", None)],
        "deep": [{"a": 2**62, "m": [("x", ["y", "\x00"])]}, {"a": None, "m": None}, None],
    }  # fmt: skip
    rows = [row, {"key": key(1)}, {"key": key(2), "map": [], "deep": []}]
    store = RecordStore(tmp_path, schema)
    store.append(rows)
    expected = pa.Table.from_pylist(rows, schema)
    assert store.find([key(i) for i in range(3)]).equals(expected)
    store.close()
    assert RecordStore(tmp_path).find([key(i) for i in range(3)]).equals(expected)


def test_a_column_that_older_files_lack_is_null_and_none_is_lost_by_merging(tmp_path):
    old = pa.schema([SCHEMA.field("key"), pa.field("old", pa.string(), nullable=False)])
    store = RecordStore(tmp_path, old)
    store.append([{"key": key(0), "old": "o"}])
    store.close()
    new = RecordStore(tmp_path, SCHEMA)
    new.append([row(1)])
    new.close()
    asked = [key(0), key(1)]
    before = new.find(asked).to_pylist()
    assert before == [{"key": key(0), "text": None, "n": None}, {"key": key(1), "text": "text 1", "n": 0}]
    assert new.compact()
    assert len(files(tmp_path, ".parquet")) == 1
    assert RecordStore(tmp_path, SCHEMA).find(asked).to_pylist() == before
    assert RecordStore(tmp_path).find(asked).column("old").to_pylist() == ["o", None]


def test_a_row_that_breaks_the_schema_is_refused_and_nothing_of_its_call_is_stored(tmp_path):
    store = RecordStore(tmp_path, SCHEMA)
    with pytest.raises(pa.ArrowException):
        store.append([row(0), {"key": key(1), "text": 3}])
    for wrong in ("0" * 31, "g" * 32, "A" * 32, " " * 32, "0" * 64):
        with pytest.raises(ConfigError, match="key"):
            store.append([row(0), {"key": wrong}])
        with pytest.raises(ConfigError, match="key"):
            store.find([key(0), wrong])
    assert store.find([key(0)]).num_rows == 0
    with pytest.raises(ArtifactError, match="no records"):
        RecordStore(tmp_path / "none").find([key(0)]).schema and RecordStore(tmp_path / "none").schema


def test_of_equal_keys_the_first_stays_before_and_after_merging(tmp_path):
    for text in ("first", "second", "third"):
        store = RecordStore(tmp_path, SCHEMA)
        store.append([row("same", text), row(text), row("same", "copy")])
        store.close()
    assert texts(store, ["same"]) == {key("same"): "first"}
    assert store.statistics().duplicates == 5
    assert store.compact()
    assert texts(RecordStore(tmp_path, SCHEMA), ["same"]) == {key("same"): "first"}
    statistics = store.statistics()
    assert (statistics.records, statistics.duplicates, statistics.segments) == (4, 0, 1)


def test_a_log_is_sealed_when_it_is_long_and_many_small_segments_merge_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(record_store, "SEAL_ROWS", 10)
    store = RecordStore(tmp_path, SCHEMA)
    for i in range(400):
        store.append([row(i)])
    assert len(files(tmp_path, ".parquet")) < 2 * record_compaction.TIER
    assert len(files(tmp_path, ".log")) <= 1
    store.close()
    is_whole(tmp_path, range(400))


def test_full_segments_are_left_alone_unless_they_hold_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(record_compaction, "FULL_ROWS", 20)
    for first in (0, 20, 40):
        store = RecordStore(tmp_path, SCHEMA)
        store.append([row(i) for i in range(first, first + 20)])
        store.close()
    leave_dead(tmp_path, 60, 61)
    before = files(tmp_path, ".parquet")
    assert store.compact()
    after = files(tmp_path, ".parquet")
    assert set(before) < set(after)
    leave_dead(tmp_path, 0)
    assert store.compact()
    assert store.statistics().duplicates == 0
    is_whole(tmp_path, range(62))


# ------------------------------------------------------------------------------------------------ damage


def test_a_torn_end_is_passed_over_and_counted_and_stops_nobody(tmp_path):
    leave_dead(tmp_path, 1, 2, 3)
    (log,) = files(tmp_path, ".log")
    whole = log.read_bytes()
    begin_of_last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(begin_of_last + 1, len(whole)):
        log.write_bytes(whole[:cut])
        store = RecordStore(tmp_path, SCHEMA)
        assert set(texts(store, [1, 2, 3])) == {key(1), key(2)}
        assert store.statistics().torn == 1
    store.append([row(3)])
    store.close()
    assert store.compact()
    is_whole(tmp_path, [1, 2, 3])
    assert store.statistics().torn == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_byte_of_a_log_costs_its_line_at_most(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    leave_dead(folder, *range(5))
    (log,) = files(folder, ".log")
    raw = bytearray(log.read_bytes())
    header = raw.index(b"\n") + 1
    at = data.draw(st.integers(header, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    log.write_bytes(raw)
    store = RecordStore(folder, SCHEMA)
    found = texts(store, range(5))
    assert len(found) >= 3  # a damaged line end joins two lines
    assert found == {key(i): f"text {i}" for i in range(5) if key(i) in found}
    assert store.statistics().torn >= 1


def test_a_damaged_segment_is_named_with_its_way_out(tmp_path):
    store = RecordStore(tmp_path, SCHEMA)
    store.append([row(i, text="x" * 200 + str(i)) for i in range(100)])
    store.close()
    (path,) = files(tmp_path, ".parquet")
    raw = bytearray(path.read_bytes())
    for damaged in (raw[:-9], b"", raw[:300] + bytes([raw[300] ^ 1]) + raw[301:]):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="cannot be read") as error:
            RecordStore(tmp_path, SCHEMA).find([key(i) for i in range(100)])
        assert error.value.where == str(path)
        assert "delete this file" in error.value.fix
    path.unlink()
    assert RecordStore(tmp_path, SCHEMA).find([key(0)]).num_rows == 0


def test_an_index_that_is_missing_cut_or_tells_of_other_rows_is_made_again(tmp_path):
    store = RecordStore(tmp_path, SCHEMA)
    store.append([row(i) for i in range(50)])
    store.close()
    (path,) = files(tmp_path, ".index.npy")
    right = path.read_bytes()
    wrong = KeyIndex.load(path)
    wrong.table[3] = (wrong.table[3] + 7) % 60
    wrong.save(path)
    swapped = path.read_bytes()
    for other in (swapped, right[:200], b""):
        path.write_bytes(other)
        is_whole(tmp_path, range(50))
        assert path.read_bytes() == right
    path.unlink()
    is_whole(tmp_path, range(50))
    assert path.read_bytes() == right


def test_a_full_disk_is_said_and_the_store_stays_readable_and_goes_on(tmp_path, monkeypatch):
    store = RecordStore(tmp_path, SCHEMA)
    store.append([row(0)])
    real, calls = os.write, []

    def full(fd, data):
        calls.append(real(fd, data[: len(data) // 2]) if not calls else 0)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return calls[-1]

    monkeypatch.setattr(owned_files.os, "write", full)
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        store.append([row(1)])
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        store.append([row(1)])
    monkeypatch.undo()
    is_whole(tmp_path, [0])
    assert RecordStore(tmp_path, SCHEMA).statistics().torn == 0
    store.append([row(1)])
    is_whole(tmp_path, [0, 1])
    monkeypatch.setattr(record_segment, "atomic_path", no_room)
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        store.close()
    monkeypatch.undo()
    is_whole(tmp_path, [0, 1])
    store.close()
    assert store.compact()
    is_whole(tmp_path, [0, 1])


def no_room(path):
    from corpus.shards import disk_full

    raise disk_full(path)


# ------------------------------------------------------------------------------------------------ the index


keys_of = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), max_size=40)


def as_key(high, low):
    return f"{high:016x}{low:016x}"


@given(st.lists(keys_of, min_size=1, max_size=4))
def test_an_index_finds_what_a_dictionary_finds_also_among_equal_halves(lists):
    indexes, first = [], {}
    for i, entries in enumerate(lists):
        mine = {}
        for number, (high, low, at) in enumerate(entries):
            if (high, low) not in mine or at < mine[high, low][0]:
                mine[high, low] = (at, number)
        names = [as_key(high, low) for high, low, _ in entries]
        index = KeyIndex.of(halves(names), np.array([at for *_, at in entries], np.int64))
        asked = [(high, low) for high in range(5) for low in range(5)]
        rows, times = index.find(halves([as_key(*one) for one in asked]))
        assert rows.tolist() == [mine.get(one, (0, -1))[1] for one in asked]
        assert [at for at, row in zip(times.tolist(), rows, strict=True) if row >= 0] == [
            mine[one][0] for one in asked if one in mine
        ]
        indexes.append(index)
        for one, (at, number) in mine.items():
            first[one] = min(first.get(one, (9, 9, 9)), (at, i, number))
    kept = set()
    for i, (index, lost) in enumerate(zip(indexes, later_copies(indexes), strict=True)):
        high, low, _, rows = index.table.tolist()
        kept |= {(high[j], low[j], i, row) for j, row in enumerate(rows) if row not in lost.tolist()}
    assert kept == {(high, low, i, number) for (high, low), (_, i, number) in first.items()}


# ------------------------------------------------------------------------------------------------ stateful


class ManyStores(RuleBasedStateMachine):
    """Three writers and a reader of one folder against a dictionary that keeps the first of each key."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.stores = [RecordStore(self.folder, SCHEMA) for _ in range(3)]
        self.reader = RecordStore(self.folder, SCHEMA)
        self.model, self.n = {}, 0

    @rule(who=st.integers(0, 2), names=st.lists(st.integers(0, 12), min_size=1, max_size=4))
    def append(self, who, names):
        rows = []
        for name in names:
            self.n += 1
            rows.append(row(name, f"{name} {self.n}"))
            self.model.setdefault(name, f"{name} {self.n}")
        self.stores[who].append(rows)
        time.sleep(2e-6)  # the clock of records counts microseconds

    @rule(who=st.integers(0, 2))
    def close(self, who):
        self.stores[who].close()

    @rule(who=st.integers(0, 2))
    def die(self, who):
        self.stores[who]._forget_writer()
        self.stores[who] = RecordStore(self.folder, SCHEMA)

    @rule(who=st.integers(0, 2))
    def compact(self, who):
        assert self.stores[who].compact()

    @rule()
    def lose_an_index(self):
        for path in files(self.folder, ".index.npy")[:1]:
            path.unlink()

    @invariant()
    def everything_is_found(self):
        fresh = RecordStore(self.folder, SCHEMA)
        expected = {key(name): text for name, text in self.model.items()}
        assert texts(fresh, range(13)) == expected
        assert texts(self.reader, range(13)).keys() == expected.keys()
        statistics = fresh.statistics()
        assert (statistics.records, statistics.torn) == (len(expected), 0)

    def teardown(self):
        import shutil

        for store in self.stores:
            store.close()
        shutil.rmtree(self.folder)


TestManyStores = ManyStores.TestCase
TestManyStores.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


# ------------------------------------------------------------------------------------------------ compaction


class KilledError(BaseException):
    pass


def steps_of(monkeypatch, stop):
    """Every change to the folder counts; the one numbered `stop` does not happen, nor does anything after it."""
    count = [0]

    def counted(real):
        def call(*arguments, **options):
            count[0] += 1
            if count[0] > stop:
                raise KilledError
            return real(*arguments, **options)

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    return count


def test_compaction_killed_before_any_step_loses_nothing_and_the_next_one_ends_it(tmp_path, monkeypatch):
    n_steps = 99
    stop = 0
    while stop <= n_steps:
        folder = tmp_path / str(stop)
        for first in (0, 10):
            store = RecordStore(folder, SCHEMA)
            store.append([row(i) for i in range(first, first + 12)])
            store.close()
        leave_dead(folder, 30, 31)
        with monkeypatch.context() as patched:
            count = steps_of(patched, stop)
            try:
                store.compact()
                n_steps = count[0]
            except KilledError:
                pass
        everything = [*range(22), 30, 31]
        is_whole(folder, everything)
        assert RecordStore(folder, SCHEMA).compact()
        is_whole(folder, everything)
        statistics = RecordStore(folder, SCHEMA).statistics()
        assert (statistics.segments, statistics.logs, statistics.duplicates) == (1, 0, 0)
        stop += 1
    assert n_steps > 5


def test_sealing_killed_before_any_step_leaves_each_record_once(tmp_path, monkeypatch):
    for stop in range(5):
        folder = tmp_path / str(stop)
        store = RecordStore(folder, SCHEMA)
        store.append([row(i) for i in range(5)])
        with monkeypatch.context() as patched:
            steps_of(patched, stop)
            try:
                store.close()
            except KilledError:
                store._forget_writer()
        is_whole(folder, range(5))
        assert RecordStore(folder, SCHEMA).statistics().duplicates == 0
        assert store.compact()
        is_whole(folder, range(5))


def test_a_living_writer_is_left_alone_and_only_one_process_compacts(tmp_path):
    store = RecordStore(tmp_path, SCHEMA)
    store.append([row(0)])
    leave_dead(tmp_path, 1)
    assert RecordStore(tmp_path, SCHEMA).compact()
    assert len(files(tmp_path, ".log")) == 1
    store.append([row(2)])
    is_whole(tmp_path, [0, 1, 2])
    with record_compaction._alone(tmp_path) as alone:
        assert alone
        assert not RecordStore(tmp_path, SCHEMA).compact()
    store.close()


def test_a_log_of_another_machine_is_read_at_once_and_taken_when_it_was_quiet_for_a_day(tmp_path):
    leave_dead(tmp_path, 1)
    (log,) = files(tmp_path, ".log")
    elsewhere = log.rename(log.with_name(log.name.replace(owned_files.machine(), "feedbeef")))
    store = RecordStore(tmp_path, SCHEMA)
    is_whole(tmp_path, [1])
    assert store.compact()
    assert elsewhere.exists()
    old = time.time() - owned_files.QUIET_S - 60
    os.utime(elsewhere, (old, old))
    assert store.compact()
    assert not elsewhere.exists()
    is_whole(tmp_path, [1])


def test_a_writer_whose_log_was_taken_begins_another_one(tmp_path):
    store = RecordStore(tmp_path, SCHEMA)
    store.append([row(0)])
    for log in files(tmp_path, ".log"):
        log.unlink()
    store.append([row(1)])
    is_whole(tmp_path, [1])
    store.close()
    is_whole(tmp_path, [1])


def test_a_fork_writes_a_log_of_its_own(tmp_path):
    store = RecordStore(tmp_path, SCHEMA)
    store.append([row(0)])
    child = os.fork()
    if child == 0:
        store.append([row(1)])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store.append([row(2)])
    assert len(files(tmp_path, ".log")) == 2
    is_whole(tmp_path, [0, 1, 2])
    store.close()


# ------------------------------------------------------------------------------------------------ many processes

WRITER = """
import hashlib, pyarrow as pa
from rephrase import record_store
from rephrase.record_store import RecordStore
schema = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("text", pa.string()), ("n", pa.int32())])
record_store.SEAL_ROWS = 50
store, who, n = RecordStore(sys.argv[1], schema) if 0 else None, sys.argv[2], int(sys.argv[3])
from pathlib import Path
store = RecordStore(Path(sys.argv[1]), schema)
for i in range(n):
    name = f"{who}-{i}"
    store.append([{"key": hashlib.md5(name.encode()).hexdigest(), "text": f"text {name}", "n": i}])
    print(i, flush=True)
store.close()
"""


def test_writers_in_processes_readers_and_compactions_miss_nothing(tmp_path):
    """While three processes write and seal, this one compacts, and a reader never misses what it once could find."""
    writers = [in_a_process(WRITER, tmp_path, who, 400, stdout=subprocess.DEVNULL) for who in range(3)]
    reader, seen = RecordStore(tmp_path, SCHEMA), set()
    names = [f"{who}-{i}" for who in range(3) for i in range(400)]
    by_key = {key(name): name for name in names}
    while any(writer.poll() is None for writer in writers):
        if tmp_path.is_dir() and files(tmp_path, ".parquet"):
            RecordStore(tmp_path, SCHEMA).compact()
        found = texts(reader, names)
        assert seen <= found.keys()
        assert all(text == f"text {by_key[one]}" for one, text in found.items())
        seen = set(found)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    is_whole(tmp_path, names)
    assert RecordStore(tmp_path, SCHEMA).compact()
    statistics = RecordStore(tmp_path, SCHEMA).statistics()
    assert (statistics.records, statistics.segments, statistics.logs, statistics.torn) == (1200, 1, 0, 0)
    is_whole(tmp_path, names)


def test_a_killed_writer_keeps_every_record_it_was_told_is_stored(tmp_path):
    random.seed(5)
    told = []
    for who in range(4):
        writer = in_a_process(WRITER, tmp_path, who, 100_000, stdout=subprocess.PIPE)
        stop = random.randrange(1, 300)
        for _ in range(stop):
            line = writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        told += [f"{who}-{i}" for i in range(int((rest or [line])[-1]) + 1)]
        is_whole(tmp_path, told)
    assert RecordStore(tmp_path, SCHEMA).compact()
    is_whole(tmp_path, told)


COMPACTOR = """
import pyarrow as pa
from pathlib import Path
from rephrase import record_compaction
from rephrase.record_store import RecordStore
record_compaction.FULL_ROWS = 150
print("begun", flush=True)
while True:
    RecordStore(Path(sys.argv[1])).compact()
"""


def test_a_compaction_killed_at_random_loses_nothing(tmp_path):
    random.seed(6)
    names = []
    for _ in range(3):
        for _ in range(12):
            leave_dead(tmp_path, *range(len(names), len(names) + 40))
            names += range(len(names), len(names) + 40)
        compactor = in_a_process(COMPACTOR, tmp_path, stdout=subprocess.PIPE)
        compactor.stdout.readline()
        time.sleep(random.random() * 0.15)
        compactor.kill()
        compactor.wait()
        compactor.stdout.close()
        is_whole(tmp_path, names)
    assert RecordStore(tmp_path, SCHEMA).compact()
    is_whole(tmp_path, names)
    assert RecordStore(tmp_path, SCHEMA).statistics().duplicates == 0
