"""What the tests of hooks share: runs that are cut off and resumed, and a run of one small module for golden values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import safe_open
from torch import nn

from corpus.artifacts import InputRef
from curriculum.order import Order, write_order
from trainer_hooks.metrics import read_lines
from trainer_hooks.parallel import Parallel
from trainer_hooks.resolution import resolve
from trainer_hooks.trainer import RunResult, train

QUICK = {"average": None, "eval_every": 24 * 64, "checkpoint_every": 6 * 64}


class Cut(Exception):
    """A run ends here, as if it had been killed."""


@dataclass
class SmallRun:
    """The parts of a run that hooks need to see one module trained, without an order or files."""

    model: nn.Module
    optimizer: Any = None
    resolved: Any = None
    folder: Path = Path()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    parallel: Parallel = field(default_factory=Parallel)
    step: int = 0
    rate: float = 0.1
    loss: float = 1.0
    grad_norm: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    stop: str | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)

    def note(self, event: str, **facts: Any) -> None:
        self.notes.append({"event": event, **facts})


def small_run(tiny, model: nn.Module, **changes: Any) -> SmallRun:
    return SmallRun(model, resolved=resolve(tiny.plan(average=None, **changes)))


def train_with(workspace, tiny, folder: Path, hooks: list[Any], *, cut: int | None = None, **changes: Any) -> RunResult:
    """A run of the tiny plan with hooks; `cut` ends it after so many steps, as a kill would."""

    def on_step(progress):
        if progress.step == cut:
            raise Cut

    return train(
        workspace.order, workspace.arrays, workspace.heldout, tiny.model,
        tiny.plan(hooks=hooks, **{**QUICK, **changes}), folder, device="cpu", on_step=on_step,
    )  # fmt: skip


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(folder / "metrics.jsonl") if "loss" in line]


def events_of(folder: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in read_lines(folder / "events.jsonl") if line["event"] == event]


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return found


def assert_resumes(workspace, tiny, where: Path, hooks: list[Any], cuts: tuple[int, ...], **changes: Any) -> RunResult:
    """An undisturbed run and one cut off after each of these steps leave equal metrics and tensors, to the bit."""
    whole = train_with(workspace, tiny, where / "whole", hooks, **changes)
    for cut in cuts:
        try:
            train_with(workspace, tiny, where / "cut", hooks, cut=cut, **changes)
        except Cut:
            continue
        raise AssertionError(f"the run was not cut at {cut}")
    resumed = train_with(workspace, tiny, where / "cut", hooks, **changes)
    assert resumed.resumed_from is not None
    assert resumed.resumed_from > 0
    assert (whole.folder / "metrics.jsonl").read_bytes() == (resumed.folder / "metrics.jsonl").read_bytes()
    before, after = tensors_of(whole.checkpoint), tensors_of(resumed.checkpoint)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return whole


def with_sources(workspace, folder: Path, sources: list[str], scores: Any = None) -> Order:
    """The workspace's order with another source for each shard and, if given, other scores."""
    table = workspace.order.table()
    named = [sources[shard] for shard in table["shard"].to_pylist()]
    columns = {name: table[name] for name in table.column_names} | {"source": pa.array(named)}
    if scores is not None:
        columns["score"] = pa.array(scores, pa.float32())
    write_order(
        folder, pa.table(columns), name="order", fingerprint="sources", config={},
        inputs=[InputRef(name="tokens", fingerprint="t")], shards=workspace.order.shards,
    )  # fmt: skip
    return Order.open(folder)
