"""`gradatim merge` from the command line: a run's checkpoints or files, and errors that say what to write."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small_recipe import gradatim

from corpus.config import validated
from corpus.errors import ConfigError
from pipelines.commands.merge import merge_command
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve

OPTIONS = {"dtype": "float32", "accumulate": "float32", "prefix": None, "trust_dcp": False}


@pytest.fixture
def files(tmp_path):
    """Three safetensors files whose one weight is 1, 2, 4."""
    paths = [tmp_path / f"{value}.safetensors" for value in (1, 2, 4)]
    for value, path in zip((1.0, 2.0, 4.0), paths, strict=True):
        save_file({"w": torch.full((3,), value)}, path)
    return paths


@pytest.fixture
def run(tmp_path):
    """A run's folder of three checkpoints whose one weight is 1, 2, 4."""
    folder = tmp_path / "runs" / "climb"
    data = {"tokens": 400, "sequence_length": 10, "batch_sequences": 1, "peak_lr": 1.0, "phases": [{"stable": "100%"}]}
    resolved = resolve(validated(Plan, data, "plan"))
    for step, value in ((20, 1.0), (30, 2.0), (40, 4.0)):
        path = folder / "checkpoints" / f"step-{step:08d}"
        path.mkdir(parents=True)
        save_file({"model|w": torch.full((3,), value), "optimizer|w|step": torch.zeros(1)}, path / "all.safetensors")
        (path / "state.json").write_text(json.dumps({"step": step, "tokens": step * 10}))
    (folder / "plan.yaml").write_text(yaml.safe_dump({"resolved": resolved.model_dump(mode="json")}))
    return folder


def test_a_run_is_merged_from_the_command_line(run, tmp_path):
    out = tmp_path / "out.safetensors"
    done = gradatim("merge", "--run", run, "--average", "{kind: wma, last: 3}", "--to", out)
    assert done.returncode == 0, done.stderr
    assert "step-00000030" in done.stdout
    assert "0.3333" in done.stdout
    torch.testing.assert_close(load_file(out)["w"], torch.full((3,), (1 + 4 + 12) / 6))
    assert [part["tokens"] for part in json.loads(out.with_suffix(".json").read_text())["checkpoints"]] == [
        200,
        300,
        400,
    ]
    failed = gradatim("merge", "--run", run, "--average", "{kind: wma, last: 4}", "--to", out)
    assert failed.returncode == 2
    assert "newest 4" in failed.stderr


def test_files_are_merged_with_weights_and_curves(files, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    merge_command(files, out, None, "{kind: weights, weights: [0.5, 0.25, 0.25]}", None, OPTIONS)
    assert torch.equal(load_file(out)["w"], torch.full((3,), 2.0))
    merge_command(files, out, None, "{kind: curve, shape: linear}", "1K,2K,5K", OPTIONS)
    torch.testing.assert_close(load_file(out)["w"], torch.full((3,), 0.125 * 1 + 0.5 * 2 + 0.375 * 4))
    assert "1,000" in capsys.readouterr().out


def test_what_is_asked_wrongly_is_refused(files, run, tmp_path):
    out = tmp_path / "out.safetensors"
    for checkpoints, folder, average, tokens, message in (
        ([], None, "sma", None, "nothing says"),
        (files, run, "sma", None, "named twice"),
        ([], run, "{kind: sma, last: 3}", "1K,2K,3K", "--tokens"),
        (files, None, "{kind: smaa}", None, "did you mean 'sma'"),
        (files, None, "none", None, "one average"),
        (files, None, "{a: {kind: sma}, b: {kind: ema}}", None, "one average"),
        (files, None, "sma", "1K,2K", "rising token positions"),
        (files, None, "sma", "1K,2K,many", "counts with commas"),
        (files, None, "curve", None, "positions"),
        (files, None, "{kind: step_ema, half_life: 1K}", None, "every optimizer step"),
    ):
        with pytest.raises(ConfigError, match=message):
            merge_command(checkpoints, out, folder, average, tokens, OPTIONS)
    assert not out.exists()
