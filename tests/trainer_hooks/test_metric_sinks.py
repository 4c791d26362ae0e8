"""Metrics in TensorBoard files: the numbers of metrics.jsonl, also after a kill; and packages that are absent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.errors import ConfigError, EnvironmentProblem
from trainer_hooks.metric_sinks import open_sinks, scalars
from trainer_hooks.metrics import read_lines
from trainer_hooks.trainer import train

CHILD = """
import os, runpy, signal, sys
from pathlib import Path
from trainer_hooks.trainer import train
tiny = runpy.run_path(sys.argv[1])
where, dies_after = Path(sys.argv[2]), int(sys.argv[3])
def killed(progress):
    if progress.step == dies_after:
        os.kill(os.getpid(), signal.SIGKILL)
workspace = tiny["build_workspace"](where / "workspace")
train(workspace.order, workspace.arrays, workspace.heldout, tiny["TINY"], tiny["make_plan"](), where / "run",
      on_step=killed, device="cpu", sinks=("tensorboard",))
"""


def written(folder: Path) -> dict[tuple[str, int], list[float]]:
    """What TensorBoard shows: tag and step -> values, as its own reader has them."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    found: dict[tuple[str, int], list[float]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            found.setdefault((tag, event.step), []).append(event.value)
    return found


def recorded(folder: Path) -> dict[tuple[str, int], list[float]]:
    """The same of metrics.jsonl."""
    return {
        (name, line["step"]): [pytest.approx(value, rel=1e-6)]
        for line in read_lines(folder / "metrics.jsonl")
        for name, value in scalars(line).items()
    }


def test_tensorboard_shows_what_the_metrics_record(workspace, tiny, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    train(workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), tmp_path / "run",
          device="cpu", sinks=("tensorboard", "tensorboard"))  # fmt: skip
    shown = written(tmp_path / "run")
    assert shown == recorded(tmp_path / "run")
    assert {("train/loss", step) for step in range(1, 25)} < shown.keys()
    assert ("heldout/web/ema_debiased/nats_per_token", 24) in shown
    plain = tmp_path / "plain"
    train(workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), plain, device="cpu")
    assert (plain / "metrics.jsonl").read_bytes() == (tmp_path / "run" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("dies_after", [3, 13])  # before the first checkpoint; three steps after the second
def test_after_a_kill_tensorboard_shows_each_step_once(tiny, tmp_path, dies_after):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    helpers = str(Path(__file__).with_name("conftest.py"))
    root = Path(__file__).parents[2]
    call = [sys.executable, "-c", CHILD, helpers, str(tmp_path)]
    killed = subprocess.run([*call, str(dies_after)], cwd=root, env={**os.environ, "PYTHONPATH": python_path(root)})
    assert killed.returncode == -signal.SIGKILL
    lines = list(read_lines(tmp_path / "run" / "metrics.jsonl"))
    workspace = tiny.workspace(tmp_path / "workspace")
    result = train(workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), tmp_path / "run",
                   device="cpu", sinks=("tensorboard",))  # fmt: skip
    assert result.resumed_from in ((None,) if dies_after == 3 else (5, 10))  # the newest may not have been whole
    assert len(lines) < len(list(read_lines(tmp_path / "run" / "metrics.jsonl")))
    assert written(tmp_path / "run") == recorded(tmp_path / "run")


def python_path(root: Path) -> str:
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_what_a_dead_run_wrote_beyond_its_checkpoint_is_hidden(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (first,) = open_sinks(["tensorboard"], tmp_path, 0, {})
    (path,) = (tmp_path / "tensorboard").iterdir()
    for step in (1, 2, 3):
        first.write({"step": step, "loss": float(step)})
    first.close()
    assert written(tmp_path) == {("train/loss", step): [step] for step in (1, 2, 3)}
    (second,) = open_sinks(["tensorboard"], tmp_path, 1, {})
    second.write({"step": 2, "loss": 20.0})
    second.flush()
    assert max((tmp_path / "tensorboard").iterdir()) != path  # read later, though written in the same second
    assert written(tmp_path) == {("train/loss", 1): [1.0], ("train/loss", 2): [20.0]}
    second.close()


def test_only_numbers_are_sent_and_evaluations_say_of_what():
    step = {
        "step": 7,
        "tokens": 448,
        "lr": 0.5,
        "loss": None,
        "skipped": "not finite",
        "loss_by_source/web": 2,
        "x": True,
    }
    assert scalars(step) == {"train/lr": 0.5, "train/loss_by_source/web": 2.0}
    evaluation = {
        "step": 8,
        "tokens": 512,
        "heldout": "web",
        "weights": "wma",
        "bits_per_byte": 1.5,
        "standard_error": None,
    }
    assert scalars(evaluation) == {"heldout/web/wma/bits_per_byte": 1.5}


def test_an_unknown_sink_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'tensorbord'.*tensorboard(.|\n)*tensorboard, wandb"):
        open_sinks(["tensorbord"], tmp_path, 0, {})


@pytest.mark.parametrize(("sink", "module"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_named_before_the_run_begins(workspace, tiny, tmp_path, monkeypatch, sink, module):
    for name in [name for name in sys.modules if name.split(".")[0] == module or "utils.tensorboard" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # what makes `import` raise as if it were not installed
    with pytest.raises(EnvironmentProblem, match=f"not installed(.|\n)*pip install {sink}"):
        train(workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), tmp_path / "run",
              device="cpu", sinks=(sink,))  # fmt: skip
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_wandb_takes_a_run_offline_and_goes_on_in_it(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for after_step in (0, 2):
        (sink,) = open_sinks(["wandb"], tmp_path, after_step, {"steps": 4})
        for step in (after_step + 1, after_step + 2):
            sink.write({"step": step, "loss": float(step)})
        sink.flush()
        sink.close()
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    name = (tmp_path / "wandb-id.txt").read_text().strip()
    assert {folder.name.rpartition("-")[2] for folder in folders} == {name}
    assert sum(len(list(folder.glob("*.wandb"))) for folder in folders) >= 1
