"""A tiny order over two token shards, made by the real writers, and the plan and model that fit it."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch loads; on shared cores long spinning crawls

import numpy as np
import pyarrow as pa
import pytest

from corpus.artifacts import InputRef
from corpus.config import validated
from corpus.tokens import DOCS_SCHEMA, read_token_shard, write_token_shard
from curriculum.order import Order, write_order
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan

VOCABULARY = 128
LENGTHS = ((40, 1, 77, 30), (55, 90, 16, 120, 33))


@dataclass
class Workspace:
    """An order, its open token shards, and what its whole stream of tokens is."""

    folder: Path
    order: Order
    arrays: list[Any]
    stream: np.ndarray
    heldout: dict[str, HeldOut]


def make_shard(path: Path, lengths: tuple[int, ...], seed: int) -> None:
    """Write a shard of documents that repeat short patterns, so that a small model learns something."""
    rng = np.random.default_rng(seed)
    documents = [np.resize(rng.integers(1, VOCABULARY, 5), n) for n in lengths]
    for document in documents:
        document[-1] = 0
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    docs = pa.table(
        {
            "id": [f"{seed:016d}{i:016d}" for i in range(len(lengths))],
            "start": starts,
            "length": lengths,
            "source": ["web"] * len(lengths),
            "n_bytes": [4 * n for n in lengths],
        },
        schema=DOCS_SCHEMA,
    )
    write_token_shard(path, np.concatenate(documents).astype(np.uint16), docs)


def build_workspace(folder: Path, repeats: int = 8) -> Workspace:
    """Write two shards and an order that visits every document `repeats` times in a seeded shuffle."""
    names = []
    for index, lengths in enumerate(LENGTHS):
        names.append(f"tokens/web-{index:05d}.npy")
        if not (folder / names[-1]).exists():
            make_shard(folder / names[-1], lengths, seed=index)
    rows = [
        (shard, doc, sum(lengths[:doc]), length, visit)
        for visit in range(repeats)
        for shard, lengths in enumerate(LENGTHS)
        for doc, length in enumerate(lengths)
    ]
    rows = [rows[i] for i in np.random.default_rng(7).permutation(len(rows))]
    columns = dict(zip(("shard", "doc", "start", "length", "visit"), map(list, zip(*rows, strict=True)), strict=True))
    n = len(rows)
    table = pa.table(
        {
            **{name: pa.array(values, pa.int64()) for name, values in columns.items()},
            "source": ["web"] * n,
            "phase": ["all"] * n,
            "rule": ["test"] * n,
            "score": pa.array(np.linspace(0, 1, n), pa.float32()),
        }
    )
    write_order(
        folder / "order",
        table,
        name="order",
        fingerprint=f"order-{repeats}",
        config={},
        inputs=[InputRef(name="tokens", fingerprint="t")],
        shards=names,
    )
    arrays = [read_token_shard(folder / name) for name in names]
    stream = np.concatenate([arrays[shard][start : start + length] for shard, _, start, length, _ in rows])
    heldout = {"web": HeldOut(np.asarray(arrays[0]), 4 * len(arrays[0]))}
    return Workspace(folder, Order.open(folder / "order"), arrays, stream, heldout)


def make_plan(**changes: Any) -> Plan:
    """A plan of 24 steps of 4 x 16 tokens with the last three checkpoints averaged."""
    data = {
        "tokens": 24 * 64,
        "sequence_length": 16,
        "batch_sequences": 4,
        "peak_lr": 0.01,
        "phases": [{"warmup": "12.5%"}, {"stable": "62.5%"}, {"decay": "25%", "to": "1/3"}],
        "average": {"kind": "ema_debiased", "last": 3, "window": 8 * 64},
        "eval_every": 8 * 64,
        "checkpoint_every": 5 * 64,
        "threads": 1,
        "precision": "fp32",
    }
    return validated(Plan, {**data, **changes}, "plan")


TINY = ModelConfig(vocabulary=VOCABULARY, hidden=32, layers=2, heads=2, kv_heads=1, head_size=32, intermediate=64)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """What the tests build tiny runs from: `model`, `plan(**changes)` and `workspace(folder, repeats)`."""
    return SimpleNamespace(model=TINY, plan=make_plan, workspace=build_workspace)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The shared tiny workspace, read only."""
    return build_workspace(tmp_path_factory.mktemp("workspace"))
