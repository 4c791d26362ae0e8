"""Records survive torn lines, damaged files, a full disk, and kills at any point; readers miss nothing meanwhile."""

import errno
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_rows import SCHEMA, files, is_whole, key, leave_dead, row, texts

from corpus.errors import ArtifactError, EnvironmentProblem
from rephrase import owned_files, record_compaction, record_segment, record_store
from rephrase.record_index import KeyIndex
from rephrase.record_store import RecordStore


def in_a_process(work, *arguments):
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def write(folder, who, n, told=None):
    """Store `n` records, a call each, in segments of 50; a line of `told` for each that is stored."""
    record_store.SEAL_ROWS = 50
    store = RecordStore(folder, SCHEMA)
    for i in range(n):
        store.append([row(f"{who}-{i}", n=i)])
        if told:
            with open(told, "a") as file:
                file.write("is stored\n")
    store.close()


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


def test_writers_in_processes_readers_and_compactions_miss_nothing(tmp_path):
    """While three processes write and seal, this one compacts, and a reader never misses what it once could find."""
    writers = [in_a_process(write, tmp_path, who, 400) for who in range(3)]
    reader, seen = RecordStore(tmp_path, SCHEMA), set()
    names = [f"{who}-{i}" for who in range(3) for i in range(400)]
    by_key = {key(name): name for name in names}
    while any(writer.is_alive() for writer in writers):
        if tmp_path.is_dir() and files(tmp_path, ".parquet"):
            RecordStore(tmp_path, SCHEMA).compact()
        found = texts(reader, names)
        assert seen <= found.keys()
        assert all(text == f"text {by_key[one]}" for one, text in found.items())
        seen = set(found)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    is_whole(tmp_path, names)
    assert RecordStore(tmp_path, SCHEMA).compact()
    statistics = RecordStore(tmp_path, SCHEMA).statistics()
    assert (statistics.records, statistics.segments, statistics.logs, statistics.torn) == (1200, 1, 0, 0)
    is_whole(tmp_path, names)


def test_a_killed_writer_keeps_every_record_it_was_told_is_stored(tmp_path):
    random.seed(5)
    names, folder = [], tmp_path / "store"
    for who in range(6):
        told = tmp_path / str(who)
        writer = in_a_process(write, folder, who, 100_000, told)
        while not told.exists() or told.stat().st_size < 10 * random.randrange(1, 200):
            time.sleep(0.001)
        writer.kill()
        writer.join()
        stored = told.read_text().split("\n")[:-1]  # what follows the last line end was not told whole
        names += [f"{who}-{i}" for i in range(len(stored))]
        is_whole(folder, names)
    assert RecordStore(folder, SCHEMA).compact()
    is_whole(folder, names)


def compact_forever(folder):
    record_compaction.FULL_ROWS = 150
    while True:
        RecordStore(folder).compact()


def test_a_compaction_killed_at_random_loses_nothing(tmp_path):
    random.seed(6)
    names = []
    for _ in range(3):
        for _ in range(12):
            leave_dead(tmp_path, *range(len(names), len(names) + 40))
            names += range(len(names), len(names) + 40)
        compactor = in_a_process(compact_forever, tmp_path)
        time.sleep(random.random() * 0.15)
        compactor.kill()
        compactor.join()
        is_whole(tmp_path, names)
    assert RecordStore(tmp_path, SCHEMA).compact()
    is_whole(tmp_path, names)
    assert RecordStore(tmp_path, SCHEMA).statistics().duplicates == 0
