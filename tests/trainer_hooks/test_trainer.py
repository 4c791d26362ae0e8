"""The bundled trainer: learns, repeats itself bit for bit, survives kill -9, and refuses to mix runs."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from corpus.errors import ArtifactError, ConfigError, EnvironmentProblem, TaskError
from trainer_hooks.averaging import merge
from trainer_hooks.checkpoints import MODEL, checkpoints_in
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.metrics import read_lines
from trainer_hooks.resolution import resolve
from trainer_hooks.trainer import train

CHILD = """
import os, runpy, signal, sys
from pathlib import Path
from trainer_hooks.trainer import train
helpers, where, kill_step, kill_flush = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
tiny = runpy.run_path(helpers)
def die(): os.kill(os.getpid(), signal.SIGKILL)
flush, flushes = os.fsync, [0]
def counted(handle):
    flushes[0] += 1
    die() if flushes[0] == kill_flush else flush(handle)
workspace = tiny["build_workspace"](where / "workspace")
os.fsync = counted
train(workspace.order, workspace.arrays, workspace.heldout, tiny["TINY"], tiny["make_plan"](), where / "run",
      on_step=lambda step, steps, loss: die() if step == kill_step else None, device="cpu")
"""


def run(workspace, tiny, folder: Path, **changes):
    return train(
        workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(**changes), folder, device="cpu"
    )


def content(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "events.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def finished(workspace, tiny, tmp_path_factory):
    return run(workspace, tiny, tmp_path_factory.mktemp("run"))


def test_a_run_learns_and_reports_raw_and_averaged_loss(finished):
    steps = [line for line in read_lines(finished.folder / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 25))
    assert steps[-1]["tokens"] == finished.tokens == 24 * 64
    assert steps[0]["loss"] == pytest.approx(np.log(128), abs=0.3)
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5
    losses = finished.losses["web"]
    assert set(losses) == {"raw", "averaged"}
    assert losses["raw"].bits_per_byte == pytest.approx(losses["raw"].nats_per_token / np.log(2) / 4)
    assert losses["averaged"].nats_per_token != losses["raw"].nats_per_token


def test_the_rate_of_each_step_is_the_plans(finished, tiny):
    logged = [line["lr"] for line in read_lines(finished.folder / "metrics.jsonl") if "lr" in line]
    assert logged == step_learning_rates(resolve(tiny.plan())).tolist()


def test_no_time_is_in_anything_but_events(finished):
    lines = list(read_lines(finished.folder / "metrics.jsonl"))
    assert {key for line in lines for key in line} == {
        "step",
        "tokens",
        "lr",
        "loss",
        "grad_norm",
        "heldout",
        "weights",
        "nats_per_token",
        "bits_per_byte",
    }
    assert [line["event"] for line in read_lines(finished.folder / "events.jsonl")][-1] == "trained"


def test_the_last_and_the_averaged_checkpoints_stay_and_merge_to_the_average(finished, tiny):
    kept = checkpoints_in(finished.folder / "checkpoints")
    assert list(kept) == [16, 20, 24]
    merged = merge([path / MODEL for path in kept.values()], resolve(tiny.plan()).coefficients)
    from safetensors.torch import load_file

    average = load_file(finished.average)
    assert all(torch.equal(merged[name], average[name]) for name in average)
    facts = json.loads((finished.average.parent / "average.json").read_text())
    assert [mark["tokens"] for mark in facts["checkpoints"]] == [1024, 1280, 1536]
    assert sum(facts["coefficients"]) == pytest.approx(1)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_call_gives_the_same_bytes(workspace, tiny, tmp_path, threads):
    for name in ("a", "b"):
        run(workspace, tiny, tmp_path / name, threads=threads)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_finished_run_returns_at_once(finished, workspace, tiny):
    before = content(finished.folder)
    again = run(workspace, tiny, finished.folder)
    assert again.resumed_from == 24
    assert again.losses == finished.losses
    assert content(finished.folder) == before


def test_kill_9_and_the_same_call_give_the_same_bytes(finished, tiny, workspace, tmp_path):
    """Killed before the first checkpoint, while one is written, and inside the averaging window; then finished."""
    for kill_step, kill_flush in ((3, 0), (0, 9), (18, 0), (0, 12)):
        command = [sys.executable, "-c", CHILD, str(Path(__file__).with_name("conftest.py")), str(tmp_path)]
        root = Path(__file__).parents[2]
        child = subprocess.run([*command, str(kill_step), str(kill_flush)], cwd=root, timeout=120, check=False)
        assert child.returncode == -signal.SIGKILL
    result = run(workspace, tiny, tmp_path / "run")
    assert result.resumed_from
    assert content(tmp_path / "run") == content(finished.folder)


def test_a_half_written_line_of_a_killed_run_is_dropped(finished, workspace, tiny, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(
            workspace.order,
            workspace.arrays,
            workspace.heldout,
            tiny.model,
            tiny.plan(),
            tmp_path,
            on_step=_interrupt,
            device="cpu",
        )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "tok')
    run(workspace, tiny, tmp_path)
    assert content(tmp_path) == content(finished.folder)


def _interrupt(step: int, steps: int, loss: float) -> None:
    if step == 12:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peak_lr": 0.02}, "resolved.plan.peak_lr was 0.01, is now 0.02"),
        ({"phases": [{"stable": "100%"}]}, "resolved.phases"),
        ({"seed": 1}, "resolved.plan.seed"),
    ],
)
def test_a_folder_keeps_its_settings(finished, workspace, tiny, change, named):
    with pytest.raises(ConfigError, match="other settings") as caught:
        run(workspace, tiny, finished.folder, **change)
    assert named in str(caught.value)


def test_another_order_or_model_is_refused(finished, workspace, tiny, tmp_path):
    other = tiny.workspace(tmp_path, repeats=9)
    with pytest.raises(ConfigError, match="order was 'order-8', is now 'order-9'"):
        run(other, tiny, finished.folder)
    model = tiny.model.model_copy(update={"layers": 1})
    with pytest.raises(ConfigError, match=r"model\.layers"):
        train(workspace.order, workspace.arrays, workspace.heldout, model, tiny.plan(), finished.folder, device="cpu")


def test_a_plan_longer_than_its_order_is_refused_before_anything_is_written(workspace, tiny, tmp_path):
    with pytest.raises(ConfigError, match="no step"):
        run(
            workspace,
            tiny,
            tmp_path / "run",
            tokens=10**6,
            average={"kind": "none"},
            eval_every="50%",
            checkpoint_every="50%",
        )
    assert not (tmp_path / "run" / "plan.yaml").exists()


def test_a_damaged_checkpoint_is_named(workspace, tiny, tmp_path):
    result = run(workspace, tiny, tmp_path)
    path = result.checkpoint / MODEL
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="damaged"):
        run(workspace, tiny, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(workspace, tiny, tmp_path):
    with pytest.raises(TaskError, match="stopped being finite"):
        run(workspace, tiny, tmp_path, peak_lr=1e30)


def test_a_full_disk_is_named_and_the_run_goes_on_once_there_is_space(finished, workspace, tiny, tmp_path, monkeypatch):
    flush, flushes = os.fsync, iter(range(10**6))

    def full(handle: int) -> None:
        if next(flushes) == 11:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentProblem, match="disk is full"):
            run(workspace, tiny, tmp_path)
    run(workspace, tiny, tmp_path)
    assert content(tmp_path) == content(finished.folder)


def test_without_averaging_only_the_last_checkpoint_stays(workspace, tiny, tmp_path):
    result = run(workspace, tiny, tmp_path, average={"kind": "none"})
    assert result.average is None
    assert set(result.losses["web"]) == {"raw"}
    assert list(checkpoints_in(tmp_path / "checkpoints")) == [24]


def test_evaluation_reads_every_token_but_the_first(workspace, tiny):
    from trainer_hooks.evaluation import evaluate
    from trainer_hooks.model import Decoder

    model, data = Decoder(tiny.model, 1), workspace.heldout["web"]
    ids = torch.from_numpy(data.tokens.astype(np.int64))
    total, last = 0.0, len(ids) - 1
    for start in range(0, last, 16):
        end = min(start + 16, last)
        total += float(model.loss(ids[None, start:end], ids[None, start + 1 : end + 1]).detach()) * (end - start)
    for batch in (1, 3, 50):
        assert evaluate(model, data, 16, batch).nats_per_token == pytest.approx(total / last, rel=1e-5)
