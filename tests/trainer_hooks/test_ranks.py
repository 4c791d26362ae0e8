"""Training on several ranks: the same losses as on one, under DDP and FSDP2, and resumed at another number of them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer_hooks.metrics import read_lines
from trainer_hooks.trainer import train

CHILD = """
import json, os, runpy, signal, sys
from pathlib import Path
import numpy as np
from corpus.tokens import read_token_shard
from curriculum.order import Order
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.trainer import train
helpers, where, folder, changes, last, spreading = sys.argv[1:]
tiny, order = runpy.run_path(helpers), Order.open(Path(where) / "order")
arrays = [read_token_shard(Path(where) / name) for name in order.shards]
heldout = {"web": HeldOut(np.asarray(arrays[0]), 4 * len(arrays[0]))} if last != "none" else {}
def stop(progress):
    if str(progress.step) == last: os.kill(os.getpid(), signal.SIGTERM)
train(order, arrays, heldout, tiny["TINY"], tiny["make_plan"](**json.loads(changes)), Path(folder), device="cpu",
      on_step=stop, spreading=spreading)
"""


def on_ranks(world: int, workspace, folder: Path, last: int | str = 0, spreading: str = "fsdp", **changes) -> None:
    """Run or resume a training as `torchrun` would, on so many processes; end it one step after `last`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    helpers, root = Path(__file__).with_name("conftest.py"), Path(__file__).parents[2]
    command = [sys.executable, "-c", CHILD, str(helpers), str(workspace.folder), str(folder), json.dumps(changes)]
    shared = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen(
            [*command, str(last), spreading], cwd=root, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    for child in children:
        output, _ = child.communicate(timeout=240)
        assert child.returncode == 0, output[-3000:]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_lines(folder / "metrics.jsonl") if "loss" in line]


@pytest.fixture(scope="module")
def alone(workspace, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train(workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), folder, device="cpu")
    return folder


def same_end(a: Path, b: Path, within: float) -> None:
    """Held-out losses and averages of two runs agree."""
    ends = [[line for line in read_lines(folder / "metrics.jsonl") if "heldout" in line] for folder in (a, b)]
    assert len(ends[0]) == len(ends[1]) > 0
    for x, y in zip(*ends, strict=True):
        assert (x["step"], x["weights"]) == (y["step"], y["weights"])
        assert x["nats_per_token"] == pytest.approx(y["nats_per_token"], abs=within)
    first, second = (load_file(folder / "averages/ema_debiased.safetensors") for folder in (a, b))
    assert all((first[name] - second[name]).abs().max() < 1e-4 for name in first)


@pytest.mark.parametrize("spreading", ["fsdp", "ddp"])
def test_two_ranks_take_the_steps_of_one(alone, workspace, tmp_path, spreading):
    on_ranks(2, workspace, tmp_path, spreading=spreading)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-6)
    same_end(alone, tmp_path, 1e-6)


def test_two_ranks_repeat_themselves_to_the_bit_also_when_stopped(workspace, tmp_path):
    on_ranks(2, workspace, tmp_path / "whole")
    on_ranks(2, workspace, tmp_path / "parts", last=7)
    assert len(losses(tmp_path / "parts")) == 8
    on_ranks(2, workspace, tmp_path / "parts")
    files = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]


def test_a_run_goes_on_at_another_number_of_ranks(alone, workspace, tiny, tmp_path):
    """Begun on one rank, stopped in the averaging window, on four under FSDP2, then on two under DDP, then on one."""
    args = (workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(*args, device="cpu", on_step=_interrupt_at_six)
    on_ranks(4, workspace, tmp_path, last=17)
    assert len(losses(tmp_path)) == 18
    on_ranks(2, workspace, tmp_path, last=21, spreading="ddp")
    assert len(losses(tmp_path)) == 22
    result = train(*args, device="cpu")
    assert result.resumed_from == 22
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-6)
    same_end(alone, tmp_path, 1e-6)


def _interrupt_at_six(progress) -> None:
    if progress.step == 6:
        raise KeyboardInterrupt


def test_masked_documents_are_normalised_over_all_ranks(workspace, tiny, tmp_path):
    args = (workspace.order, workspace.arrays, {}, tiny.model, tiny.plan(document_mask=True), tmp_path / "one")
    train(*args, device="cpu")
    on_ranks(2, workspace, tmp_path / "two", last="none", document_mask=True, micro_sequences=1)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-6)
