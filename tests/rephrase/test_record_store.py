"""Records come back as they were stored: from logs and segments, of several writers, with columns that changed."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from stored_rows import SCHEMA, files, is_whole, key, leave_dead, row, texts

from corpus.errors import ArtifactError, ConfigError
from rephrase import record_compaction, record_store
from rephrase.record_index import KeyIndex, halves, later_copies
from rephrase.record_store import RecordStore, stores_in


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
