"""The example scripts as a user runs them: killed in mid-run, started again, and equal to an undisturbed run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corpus.artifacts import describe_part, finish

ROOT = Path(__file__).parents[2]
STEPS, DIES_IN = 24, 17
PLAN = {
    "tokens": STEPS * 64, "sequence_length": 16, "batch_sequences": 4, "peak_lr": 0.01,
    "schedule": {"kind": "constant", "warmup": "10%"},
    "average": {"wma": {"kind": "wma", "last": 3, "window": 8 * 64}, "ema": {"kind": "step_ema", "half_life": "10%"}},
    "eval_every": 8 * 64, "checkpoint_every": 5 * 64, "threads": 1, "precision": "fp32",
}  # fmt: skip
RUN = """
import os, pathlib, signal, torch
from torch.optim.optimizer import register_optimizer_step_post_hook
torch.set_num_threads(1)
torch.manual_seed(0)
from trainer_hooks.examples.{name} import main
steps = []
def die(*_):
    steps.append(1)
    if len(steps) == {dies_in}:
        os.kill(os.getpid(), signal.SIGKILL)
register_optimizer_step_post_hook(die)
main(pathlib.Path({workspace!r}), "order", "tokens/web-00001.npy", pathlib.Path({folder!r}), {plan!r})
"""


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """The tiny workspace with its token shards in a finished artifact, as a command would leave them."""
    folder = tmp_path_factory.mktemp("finished")
    built = tiny.workspace(folder)
    parts = [describe_part(folder / "tokens", folder / name) for name in built.order.shards]
    finish(
        folder / "tokens", kind="tokens", name="tokens", fingerprint="t", config={}, inputs=[], parts=parts, totals={}
    )
    return folder


def run(name, workspace, folder, dies_in=0):
    code = RUN.format(name=name, workspace=str(workspace), folder=str(folder), plan=PLAN, dies_in=dies_in)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def run_killed_and_whole(name, workspace, tmp_path):
    """Run a script to its end, and another time with a kill; what the last of each said."""
    whole = run(name, workspace, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = run(name, workspace, tmp_path / "killed", DIES_IN)
    assert killed.returncode == -9
    again = run(name, workspace, tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    return whole, again


def assert_equal_files(tmp_path, names):
    for name in names:
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


@pytest.mark.slow
def test_the_plain_loop_goes_on_after_a_kill_to_the_same_bits(finished, tmp_path):
    whole, again = run_killed_and_whole("plain_loop", finished, tmp_path)
    reports = whole.stdout.splitlines()
    assert [line.split()[0] for line in reports] == ["8", "16", "24"]
    assert reports[-1].split()[1::2] == ["raw", "wma", "ema"]
    assert again.stdout.splitlines() == reports[1:]  # it goes on after step 15
    one, other = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "killed"))
    assert one["loader"]["next_sample"] == STEPS * 4
    for name in ("wma", "ema"):
        tensors = one["averages"][name][1]
        assert tensors.keys() == other["averages"][name][1].keys()
        assert all(torch.equal(value, other["averages"][name][1][key]) for key, value in tensors.items())
    assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())


def test_the_main_loop_of_the_plain_example_has_at_most_fifteen_lines():
    lines = (ROOT / "trainer_hooks/examples/plain_loop.py").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("    for step in "))
    assert lines.index("", first) - first <= 15


@pytest.mark.slow
def test_the_hugging_face_example_goes_on_after_a_kill_to_the_same_bits(finished, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    run_killed_and_whole("hugging_face", finished, tmp_path)
    models = ["checkpoint-24", "averages/wma", "averages/ema"]
    assert_equal_files(tmp_path, [f"{model}/model.safetensors" for model in models])


@pytest.mark.slow
def test_the_lightning_example_goes_on_after_a_kill_to_the_same_bits(finished, tmp_path):
    pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")
    run_killed_and_whole("lightning", finished, tmp_path)
    assert_equal_files(tmp_path, ["averages/wma.safetensors", "averages/ema.safetensors"])
