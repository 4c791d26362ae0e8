"""`gradatim train`: a run file followed, stopped and resumed, refused without harm, and on two processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError, ConfigError
from pipelines.commands.train import said, train_command
from trainer_hooks.throughput import Progress

PLAN = {
    "tokens": 40 * 256,
    "sequence_length": 64,
    "batch_sequences": 4,
    "peak_lr": 3e-3,
    "phases": [{"warmup": 8 * 256}, {"stable": 32 * 256}],
    "average": {"kind": "sma", "last": 3, "window": 10 * 256},
    "eval_every": "50%",
    "checkpoint_every": 5 * 256,
    "threads": 1,
    "precision": "fp32",
}
RUN = {
    "order": {"visits": "mixture/mix", "policy": {"kind": "sorted", "by": "length"}},
    "heldout": None,
    "model": {"hidden": 32, "layers": 1, "heads": 1, "head_size": 32, "intermediate": 64},
    "plan": PLAN,
}


@pytest.fixture
def workspace(mixed, tmp_path):
    """A copy of a workspace with a mixture, in which a run may be made."""
    return Path(shutil.copytree(mixed, tmp_path / "work"))


def write(folder: Path, name: str = "climb", **changes) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**RUN, **changes}))
    return path


def losses(workspace: Path, name: str = "climb") -> list[float]:
    lines = (workspace / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


def test_a_run_file_is_followed_exported_and_done_once(workspace, tmp_path, capsys):
    file = write(tmp_path)
    assert train_command(file, workspace, device="cpu") is None
    run = Artifact(workspace / "runs/climb")
    assert run.manifest.totals["steps"] == 40
    assert {ref.name for ref in run.manifest.inputs} >= {"orders/climb", "sources/tokenizer"}
    held = {part.file for part in run.manifest.parts}
    assert {"export/config.json", "averages/sma.safetensors", "metrics.jsonl", "result.json", "plan.yaml"} <= held
    assert len(losses(workspace)) == 40
    capsys.readouterr()
    assert train_command(file, workspace, device="cpu") is None
    assert "nothing to do" in capsys.readouterr().out


def test_a_refused_change_leaves_a_finished_run_finished(workspace, tmp_path):
    file = write(tmp_path)
    train_command(file, workspace, device="cpu")
    with pytest.raises(ConfigError, match="other settings"):
        train_command(file, workspace, ("plan.peak_lr=1e-3",), device="cpu")
    with pytest.raises(ConfigError, match="its past would have been another one"):
        train_command(file, workspace, ("plan.peak_lr=1e-3",), device="cpu", accept_changes=True)
    Artifact(workspace / "runs/climb")


def test_a_finished_run_goes_on_for_longer_where_that_changes_nothing_before(workspace, tmp_path):
    plain = {**PLAN, "average": None}
    file = write(tmp_path, plan=plain)
    train_command(file, workspace, device="cpu")
    longer = {
        **plain,
        "tokens": 50 * 256,
        "phases": [{"warmup": 8 * 256}, {"stable": 32 * 256}, {"decay": 2560, "to": 0.1}],
    }
    write(tmp_path, plan={**longer, "eval_every": 20 * 256})
    train_command(file, workspace, device="cpu", accept_changes=True)
    assert len(losses(workspace)) == 50
    assert Artifact(workspace / "runs/climb").manifest.totals["steps"] == 50


def test_an_order_of_another_tokenizer_is_refused(workspace, tmp_path):
    other = Path(shutil.copytree(workspace / "sources/tokenizer", workspace / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "f" * 16, "name": "other"}))
    with pytest.raises(ConfigError, match="another tokenizer"):
        train_command(write(tmp_path, tokenizer="other"), workspace, device="cpu")
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"order": "orders/none"}, "none"),
        ({"model": "9K"}, "model"),
        ({"plan": {**PLAN, "peak_rl": 1}}, "peak_lr"),
        ({"plan": {**PLAN, "tokens": "900M", "phases": [{"stable": "100%"}]}}, "no step"),
    ],
)
def test_what_cannot_be_followed_is_named(workspace, tmp_path, changes, named):
    with pytest.raises((ConfigError, ArtifactError), match=named):
        train_command(write(tmp_path, **changes), workspace, device="cpu")


def test_progress_is_one_line():
    progress = Progress(
        step=7, steps=2_000, tokens=7_000, loss=3.14159, rate=0.003, tokens_per_s=12_345.6, seconds_left=7_380,
        mfu=0.456, memory=2_100_000_000,
    )  # fmt: skip
    assert said(progress) == (
        "7/2,000 · loss 3.1416 · rate 0.003 · 12,346 tokens/s · MFU 45.6% · 2.1 GB · 2 h 03 min left"
    )


@pytest.mark.slow
def test_the_command_is_stopped_by_sigterm_and_goes_on_under_torchrun(workspace, tmp_path):
    """One process alone, ended by SIGTERM; two processes finish; the losses are those of one undisturbed run."""
    file, gradatim = write(tmp_path, order="orders/mix"), Path(sys.executable).with_name("gradatim")
    train_command(write(tmp_path, "whole", order="orders/mix"), workspace, device="cpu")
    alone = [str(gradatim), "train", str(file), "-w", str(workspace), "--device", "cpu"]
    child = subprocess.Popen(alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = workspace / "runs/climb/checkpoints"
    while not list(metrics.glob("step-*/state.json")) and child.poll() is None:
        pass
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=120)
    assert child.returncode in (0, 1), output
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = [str(gradatim.with_name("torchrun")), "--nproc-per-node", "2", "--master-port", str(port)]
    ended = subprocess.run(
        [*torchrun, *alone], capture_output=True, text=True, timeout=240, check=False, env={**os.environ}
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert losses(workspace) == pytest.approx(losses(workspace, "whole"), rel=1e-4)  # AdamW amplifies rounding
    Artifact(workspace / "runs/climb")
