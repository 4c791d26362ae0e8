"""Rows for tests of record stores, and what a store must give back."""

import hashlib

import pyarrow as pa

from rephrase.record_store import RecordStore

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("text", pa.string()), ("n", pa.int32())])


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
