"""Offline merges: the running average bit for bit, one tensor at a time, with a manifest that says what was merged."""

import json
import weakref
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from corpus.config import validated
from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import file_checksum
from trainer_hooks.average_kinds import CurveAverage, ExplicitAverage, LastCheckpoints, StepEma
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.checkpoints import STATE
from trainer_hooks.merge_choice import checkpoints_of, chosen
from trainer_hooks.merging import merge, merged_tensors, read_weights
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
from trainer_hooks.trainer import train

STEP = 10


class Net(torch.nn.Module):
    """Weights that differ from mark to mark, tied, with a buffer to average and one to copy."""

    def __init__(self, seed, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(seed)
        self.a = torch.nn.Linear(7, 5, dtype=dtype)
        self.b = torch.nn.Linear(7, 5, bias=False, dtype=dtype)
        self.b.weight = self.a.weight
        self.register_buffer("mean", torch.randn(3, dtype=dtype))
        self.register_buffer("steps", torch.tensor(seed))


def resolved_plan(average, phases=({"stable": "100%"},)):
    data = {"tokens": 2000, "sequence_length": STEP, "batch_sequences": 1, "peak_lr": 1.0, "phases": list(phases),
            "average": average}  # fmt: skip
    return resolve(validated(Plan, data, "plan"))


def make_run(folder, plan, steps, dtype=torch.float32):
    """The part of a run's folder that a merge reads: the plan, and checkpoints after these steps."""
    folder.mkdir(exist_ok=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump({"resolved": plan.model_dump(mode="json")}))
    for step in steps:
        path = folder / "checkpoints" / f"step-{step:08d}"
        path.mkdir(parents=True)
        tensors = {f"model|{name}": value.detach() for name, value in unique_tensors(Net(step, dtype)).items()}
        save_file(tensors, path / "shard-00001-model-00001-of-00001.safetensors")
        sums = {file.name: file_checksum(file) for file in path.iterdir()}
        (path / STATE).write_text(json.dumps({"step": step, "tokens": step * STEP, "checksums": sums}))
    return folder


AVERAGES = [
    {"kind": "sma", "last": 5, "window": "20%"},
    {"kind": "ema", "last": 5, "window": "20%"},
    {"kind": "ema_debiased", "last": 5, "window": "20%", "end": "50%"},
    {"kind": "wma", "last": 5, "window": "20%"},
    {"kind": "curve", "last": 5, "window": "20%", "to": "1/3"},
    {"kind": "weights", "weights": [0.1, 0.2, 0.3, 0.15, 0.25], "window": "20%"},
    {"kind": "lawa", "last": 3, "every": "5%"},
    {"kind": "pma", "last": 4, "every": "5%", "weights": "ema"},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("average", AVERAGES, ids=lambda average: average["kind"])
def test_a_merge_equals_the_running_average_bit_for_bit(average, dtype, tmp_path):
    plan = resolved_plan(average)
    (asked,) = plan.averages.values()
    running = asked.averager(Net(0, dtype))
    for mark in asked.marks:
        running.update(Net(mark // STEP, dtype), mark)
    run = make_run(tmp_path / "run", plan, [int(mark) // STEP for mark in asked.final().marks], dtype)
    merge(checkpoints_of(run, asked.average), tmp_path / "out.safetensors")
    merged = load_file(tmp_path / "out.safetensors")
    assert set(merged) == set(running.average())
    for name, value in running.average().items():
        assert merged[name].dtype == value.dtype
        assert torch.equal(merged[name], value)


def test_float64_sums_and_one_rounding(tmp_path):
    run = make_run(tmp_path / "run", resolved_plan("none"), range(10, 60, 10))
    asked = checkpoints_of(run, LastCheckpoints(kind="wma", last=5))
    merge(asked, tmp_path / "exact.safetensors", dtype="float64", accumulate="float64")
    merge(asked, tmp_path / "half.safetensors", dtype="bfloat16", accumulate="float64")
    exact, half = load_file(tmp_path / "exact.safetensors"), load_file(tmp_path / "half.safetensors")
    expected = sum(i / 15 * Net(10 * i).a.weight.detach().double() for i in range(1, 6))
    torch.testing.assert_close(exact["a.weight"], expected, rtol=0, atol=1e-15)
    assert torch.equal(half["a.weight"], exact["a.weight"].to(torch.bfloat16))
    assert half["steps"].dtype == torch.int64


def test_the_manifest_says_what_was_merged(tmp_path):
    run = make_run(tmp_path / "run", resolved_plan("none"), [20, 40, 60])
    asked = checkpoints_of(run, LastCheckpoints(kind="wma", last=3))
    returned = merge(asked, tmp_path / "out.safetensors", dtype="bfloat16")
    manifest = json.loads((tmp_path / "out.json").read_text())
    assert manifest == returned
    assert manifest["xxh3"] == file_checksum(tmp_path / "out.safetensors")
    assert [part["tokens"] for part in manifest["checkpoints"]] == [200, 400, 600]
    np.testing.assert_allclose([part["coefficient"] for part in manifest["checkpoints"]], [1 / 6, 2 / 6, 3 / 6])
    np.testing.assert_allclose(manifest["implied_decay"], [5 / 6, 3 / 6])
    assert (manifest["settings"]["kind"], manifest["dtype"], manifest["accumulated_in"]) == (
        "wma",
        "bfloat16",
        "float32",
    )
    shard = run / "checkpoints/step-00000040/shard-00001-model-00001-of-00001.safetensors"
    assert manifest["checkpoints"][1]["files_xxh3"] == {shard.name: file_checksum(shard)}
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()


class Watched(Mapping):
    """Tensors made when asked for, as a file gives them; counts how many of all sources are alive at once."""

    alive: weakref.WeakSet

    def __init__(self, seed):
        self.seed = seed

    def __getitem__(self, name):
        assert len(Watched.alive) == 0, "another checkpoint's tensor is still held"
        value = torch.full((4,), float(self.seed))
        Watched.alive.add(value)
        return value

    def __iter__(self):
        return iter(["a", "b", "c"])

    def __len__(self):
        return 3


def test_one_tensor_of_one_checkpoint_is_in_memory_at_a_time():
    Watched.alive = weakref.WeakSet()
    sources = [Watched(seed) for seed in range(4)]
    for name, value in merged_tensors(sources, [0.25] * 4, torch.float32):
        assert name in "abc"
        assert torch.equal(value, torch.full((4,), 1.5))


def test_a_curve_takes_true_positions_and_asks_for_them(tmp_path):
    run = make_run(tmp_path / "run", resolved_plan("none"), [10, 20, 50])
    linear = CurveAverage(kind="curve", shape="linear", last=3)
    found = checkpoints_of(run, linear)
    np.testing.assert_allclose(found.coefficients, [0.125, 0.5, 0.375])
    named = [run / "checkpoints" / f"step-{step:08d}" for step in (10, 20, 50)]
    assert chosen(named, linear).coefficients == found.coefficients
    bare = []
    for step in (10, 20, 50):
        bare.append(tmp_path / f"{step}.safetensors")
        save_file(read_weights(named[len(bare) - 1]), bare[-1])
    with pytest.raises(ConfigError, match="positions"):
        chosen(bare, linear)
    assert chosen(bare, linear, [100, 200, 500]).coefficients == found.coefficients
    assert chosen(bare, LastCheckpoints(kind="sma")).coefficients == pytest.approx((1 / 3,) * 3)


def test_a_run_offers_its_newest_checkpoints_or_a_window(tmp_path):
    run = make_run(tmp_path / "run", resolved_plan("none"), [60, 100, 120, 140, 160, 180, 200])
    assert checkpoints_of(run, LastCheckpoints(kind="sma", last=4)).tokens == (1400, 1600, 1800, 2000)
    asked = LastCheckpoints(kind="sma", last=3, window=400, end="80%")
    assert checkpoints_of(run, asked).tokens == (1200, 1400, 1600)
    with pytest.raises(ConfigError, match="equal distances"):
        checkpoints_of(run, LastCheckpoints(kind="sma", last=7))
    with pytest.raises(ConfigError, match="newest 8"):
        checkpoints_of(run, LastCheckpoints(kind="sma", last=8))
    with pytest.raises(ConfigError, match="no checkpoint at 1 of the 3"):
        checkpoints_of(run, LastCheckpoints(kind="sma", last=3, window="10%"))
    with pytest.raises(ConfigError, match="every optimizer step"):
        checkpoints_of(run, StepEma(kind="step_ema", half_life=100))
    with pytest.raises(ConfigError, match="no run"):
        checkpoints_of(tmp_path, LastCheckpoints())


def test_nothing_is_merged_across_a_new_start(tmp_path):
    plan = resolved_plan("none", [{"stable": "50%"}, {"stable": "50%"}])
    restarted = plan.phases[1].model_copy(update={"reset_optimizer": True})
    run = make_run(tmp_path / "run", plan, [80, 100, 120])
    assert chosen_warnings(run) == ("the window spans a change of phase at 1,000 tokens",)
    broken = plan.model_copy(update={"phases": (plan.phases[0], restarted)})
    (run / "plan.yaml").write_text(yaml.safe_dump({"resolved": broken.model_dump(mode="json")}))
    with pytest.raises(ConfigError, match="starts anew"):
        chosen_warnings(run)
    assert checkpoints_of(run, LastCheckpoints(kind="sma", last=2)).tokens == (1000, 1200)


def chosen_warnings(run):
    return checkpoints_of(run, LastCheckpoints(kind="sma", last=3)).warnings


def test_checkpoints_of_two_runs_are_warned_of(tmp_path):
    runs = [make_run(tmp_path / name, resolved_plan("none"), [step]) for name, step in (("a", 10), ("b", 20))]
    paths = [next(run.glob("checkpoints/*")) for run in runs]
    assert "not of one run" in chosen(paths, LastCheckpoints()).warnings[0]


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    for number, tensors in enumerate(
        [{"w": torch.zeros(2)}, {"w": torch.zeros(3)}, {"v": torch.zeros(2)}, {"w": torch.zeros(2, dtype=torch.int64)}]
    ):
        save_file(tensors, tmp_path / f"{number}.safetensors")
    for other, message in ((1, "disagree about w"), (2, "not those of the model"), (3, "disagree about w")):
        pair = chosen([tmp_path / "0.safetensors", tmp_path / f"{other}.safetensors"], LastCheckpoints())
        with pytest.raises(ArtifactError, match=message):
            merge(pair, tmp_path / "out.safetensors")
    assert not list(tmp_path.glob("*out*"))
    one = [tmp_path / "0.safetensors"]
    for average in (LastCheckpoints(last=2), ExplicitAverage(kind="weights", weights=(0.5, 0.5))):
        with pytest.raises(ConfigError, match="one coefficient"):
            chosen(one, average)
    with pytest.raises(ConfigError, match="one coefficient"):
        chosen([], LastCheckpoints())
    with pytest.raises(ConfigError, match="rising"):
        chosen(one * 2, LastCheckpoints(), [20, 10])
    asked = chosen(one, LastCheckpoints())
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        merge(asked, tmp_path / "out.safetensors", dtype="bfloat")
    with pytest.raises(ConfigError, match="safetensors"):
        merge(asked, tmp_path / "out.bin")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run = make_run(tmp_path / "run", resolved_plan("none"), [10, 20])
    shard = run / "checkpoints/step-00000020/shard-00001-model-00001-of-00001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="damaged"):
        merge(checkpoints_of(run, LastCheckpoints(kind="sma", last=2)), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_what_a_run_averaged_can_be_merged_from_its_checkpoints(tmp_path, tiny):
    """The real trainer's checkpoints, under every average of a window that it followed: the same files, to the bit."""
    averages = {
        "wma": {"kind": "wma", "last": 3, "window": 8 * 64},
        "curve": {"kind": "curve", "last": 5, "window": 8 * 64, "to": "1/3"},
    }
    workspace = tiny.workspace(tmp_path / "data")
    plan = tiny.plan(average=averages)
    result = train(workspace.order, workspace.arrays, {}, tiny.model, plan, tmp_path / "run")
    for name, average in plan.average.items():
        manifest = merge(checkpoints_of(result.folder, average), tmp_path / "out.safetensors")
        assert len(manifest["checkpoints"]) == average.last
        live, merged = load_file(result.averages[name]), load_file(tmp_path / "out.safetensors")
        assert set(live) == set(merged)
        assert all(torch.equal(value, merged[key]) for key, value in live.items())
