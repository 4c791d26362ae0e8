"""The bundled trainer: learns, repeats itself bit for bit, survives kill -9, and refuses to mix runs."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from corpus.errors import ArtifactError, ConfigError, EnvironmentProblem, TaskError
from curriculum.order import Order, write_order
from trainer_hooks.averaging_rules import step_sizes
from trainer_hooks.checkpoints import checkpoints_in
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.loader import OrderedLoader
from trainer_hooks.metrics import read_lines
from trainer_hooks.model import Decoder
from trainer_hooks.resolution import resolve
from trainer_hooks.run_identity import Change
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
      on_step=lambda progress: die() if progress.step == kill_step else None, device="cpu")
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
    assert set(losses) == {"raw", "ema_debiased"}
    assert losses["raw"].bits_per_byte == pytest.approx(losses["raw"].nats_per_token / np.log(2) / 4)
    assert losses["ema_debiased"].nats_per_token != losses["raw"].nats_per_token


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
        "standard_error",
    }
    assert [line["event"] for line in read_lines(finished.folder / "events.jsonl")][-1] == "trained"


def test_the_last_and_the_averaged_checkpoints_stay_and_merge_to_the_average(finished, tiny):
    kept = checkpoints_in(finished.folder / "checkpoints")
    assert list(kept) == [16, 20, 24]
    final = resolve(tiny.plan()).averages["ema_debiased"].final()
    models = [load_file(next(path.glob("*-model-00001-of-*"))) for path in kept.values()]
    average = load_file(finished.averages["ema_debiased"])
    for name, value in average.items():
        mean = torch.zeros_like(value)
        for model, size in zip(models, step_sizes(final.coefficients), strict=True):
            mean += (model[f"model|{name}"] - mean) * size
        assert torch.allclose(mean, value, atol=1e-7)
    facts = json.loads(finished.averages["ema_debiased"].with_suffix(".json").read_text())
    assert [mark["tokens"] for mark in facts["checkpoints"]] == [1024, 1280, 1536]
    assert sum(mark["coefficient"] for mark in facts["checkpoints"]) == pytest.approx(1)


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
            on_step=_interrupt_at(12),
            device="cpu",
        )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "tok')
    run(workspace, tiny, tmp_path)
    assert content(tmp_path) == content(finished.folder)


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


@pytest.mark.parametrize("harm", ["truncated", "changed", "removed", "state"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_taken(finished, workspace, tiny, tmp_path, harm):
    result = run(workspace, tiny, tmp_path)
    path = next(result.checkpoint.glob("*-model-00001-of-*"))
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif harm == "removed":
        path.unlink()
    else:
        (result.checkpoint / "state.json").write_text("{")
    again = run(workspace, tiny, tmp_path)
    assert again.resumed_from == 20
    said = next(line for line in read_lines(tmp_path / "events.jsonl") if line["event"] == "damaged")
    assert "step-00000024" in said["found"]
    aside = tmp_path / "checkpoints/step-00000024.damaged"
    assert aside.is_dir()
    shutil.rmtree(aside)
    assert content(tmp_path) == content(finished.folder)


def test_without_a_whole_checkpoint_the_run_says_so_and_does_not_begin_again(workspace, tiny, tmp_path):
    run(workspace, tiny, tmp_path)
    for path in (tmp_path / "checkpoints").glob("step-*/state.json"):
        path.write_text("{}")
    with pytest.raises(ArtifactError, match="no checkpoint of this run is whole"):
        run(workspace, tiny, tmp_path)


def test_a_checkpoint_holds_the_state_of_its_step_whatever_training_does_meanwhile(workspace, tiny, tmp_path):
    """The copy is made before the next step: a resumed run could not be equal otherwise, so look at the tensors."""
    kept = {}
    whole = run(workspace, tiny, tmp_path / "whole", keep={"last": 30}, checkpoint_every=64, average={"kind": "none"})
    for step, path in checkpoints_in(whole.folder / "checkpoints").items():
        kept[step] = load_file(next(path.glob("*-model-00001-of-*")))
    assert list(kept) == list(range(1, 25))
    plain = [tensors["model|model.norm.weight"] for tensors in kept.values()]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(plain))
    part = run(workspace, tiny, tmp_path / "part", keep={"last": 30}, checkpoint_every=128, average={"kind": "none"})
    for step, path in checkpoints_in(part.folder / "checkpoints").items():
        other = load_file(next(path.glob("*-model-00001-of-*")))
        assert all(torch.equal(value, kept[step][name]) for name, value in other.items())


def test_a_loss_that_is_not_finite_stops_the_run(workspace, tiny, tmp_path):
    with pytest.raises(TaskError, match="stopped being finite"):
        run(workspace, tiny, tmp_path, peak_lr=1e30)


def test_a_held_out_loss_that_is_not_finite_stops_the_run_too(workspace, tiny, tmp_path):
    """The last step's own loss is finite, and the weights that it leaves are not."""
    jump = [{"warmup": 23 * 64, "to": 1e-41}, {"stable": 64, "jump_to": 1.0}]
    with pytest.raises(TaskError, match="held-out loss stopped being finite at step 24"):
        run(workspace, tiny, tmp_path, peak_lr=1e39, phases=jump, average=None)


@pytest.mark.parametrize("full_at", [11, 12, 14, 16, 18])
def test_a_full_disk_is_named_and_the_run_goes_on_once_there_is_space(
    finished, workspace, tiny, tmp_path, monkeypatch, full_at
):
    """Full while metrics, tensors, headers or the state are written: a checkpoint flushes nine times."""
    flush, flushes = os.fsync, iter(range(10**6))

    def full(handle: int) -> None:
        if next(flushes) == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentProblem, match="disk is full"):
            run(workspace, tiny, tmp_path)
    run(workspace, tiny, tmp_path)
    assert content(tmp_path) == content(finished.folder)


def test_without_averaging_the_newest_checkpoints_stay(workspace, tiny, tmp_path):
    result = run(workspace, tiny, tmp_path, average={"kind": "none"})
    assert result.averages == {}
    assert set(result.losses["web"]) == {"raw"}
    assert list(checkpoints_in(tmp_path / "checkpoints")) == [20, 24]


def test_checkpoints_are_kept_for_good_where_the_plan_says_so(workspace, tiny, tmp_path):
    run(workspace, tiny, tmp_path, average={"kind": "none"}, keep={"last": 1, "every": 10 * 64}, checkpoint_every=64)
    assert list(checkpoints_in(tmp_path / "checkpoints")) == [10, 20, 24]


def test_places_named_in_the_plan_are_evaluated_and_kept_and_change_nothing_else(finished, workspace, tiny, tmp_path):
    at = [11 * 64, 13 * 64, 17 * 64]
    result = run(workspace, tiny, tmp_path, eval_at=at, keep={"last": 1, "at": [7 * 64, 11 * 64]})
    lines, before = (list(read_lines(folder / "metrics.jsonl")) for folder in (tmp_path, finished.folder))
    measured = sorted({line["step"] for line in lines if "heldout" in line})
    assert measured == [8, 11, 13, 16, 17, 24]
    assert [line for line in lines if "heldout" not in line or line["step"] not in (11, 13, 17)] == before
    assert set(checkpoints_in(tmp_path / "checkpoints")) == {7, 11, 16, 20, 24}  # the last three are the average's
    assert result.losses == finished.losses


def test_sigterm_ends_the_run_with_a_checkpoint_and_the_same_call_goes_on(finished, workspace, tiny, tmp_path):
    def terminate(progress) -> None:
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    stopped = train(
        workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(), tmp_path, on_step=terminate,
        device="cpu",
    )  # fmt: skip
    assert (stopped.stopped, stopped.step, stopped.losses, stopped.averages) == ("SIGTERM", 8, {}, {})
    assert list(checkpoints_in(tmp_path / "checkpoints"))[-1] == 8
    assert signal.getsignal(signal.SIGTERM) == before
    result = run(workspace, tiny, tmp_path)
    assert (result.resumed_from, result.stopped) == (8, None)
    assert content(tmp_path) == content(finished.folder)


@pytest.mark.parametrize("micro", [1, 3])
def test_gradients_of_parts_add_up_to_those_of_the_batch(finished, workspace, tiny, tmp_path, micro):
    run(workspace, tiny, tmp_path, micro_sequences=micro)
    whole, parts = (
        [line["loss"] for line in read_lines(folder / "metrics.jsonl") if "loss" in line]
        for folder in (finished.folder, tmp_path)
    )
    assert parts == pytest.approx(whole, abs=1e-5)


def test_masked_documents_are_read_alone_and_their_first_tokens_are_not_predicted(workspace, tiny, tmp_path):
    """The loss of the first step equals that of every document read by itself, weighed by what is predicted."""
    run(workspace, tiny, tmp_path, document_mask=True)
    first = next(line["loss"] for line in read_lines(tmp_path / "metrics.jsonl") if "loss" in line)
    model, loader = Decoder(tiny.model, 0), OrderedLoader(workspace.order, workspace.arrays, 16, 4)
    (inputs, targets), (own, following) = loader.batch(0), loader.visit_numbers(0)
    total, n = 0.0, 0
    for row in range(4):
        for visit in own[row].unique():
            here = own[row] == visit
            ids, to = inputs[row][here], targets[row][here & (following[row] == visit)]
            if len(to):
                total += float(model.loss(ids[None, : len(to)], to[None]).detach()) * len(to)
                n += len(to)
    assert n < 64
    assert first == pytest.approx(total / n, abs=1e-5)


def test_steps_that_are_not_finite_are_left_out_and_ten_in_a_row_stop(workspace, tiny, tmp_path, monkeypatch):
    from trainer_hooks.run import Run

    real, bad = Run.forward_backward, {3, 4}

    def poisoned(self, batch):
        loss = real(self, batch)
        if self.step in bad:
            next(self.model.parameters()).grad[0, 0] = torch.nan
        return loss

    monkeypatch.setattr(Run, "forward_backward", poisoned)
    result = run(workspace, tiny, tmp_path / "skip", non_finite="skip")
    lines = [line for line in read_lines(result.folder / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in lines if line.get("skipped") == "not finite"] == [4, 5]
    assert [line["step"] for line in lines if line["grad_norm"] is None] == [4, 5]
    assert all(torch.isfinite(value).all() for value in load_file(result.averages["ema_debiased"]).values())
    bad |= set(range(5, 24))
    with pytest.raises(TaskError, match="stopped being finite at step 13"):
        run(workspace, tiny, tmp_path / "gone", non_finite="skip")


def test_an_edited_plan_is_accepted_for_what_is_to_come(workspace, tiny, tmp_path):
    stop = {"phases": [{"warmup": 3 * 64}, {"stable": 15 * 64}, {"decay": 6 * 64, "to": "1/3"}]}
    longer = {
        "tokens": 30 * 64,
        "phases": [{"warmup": 3 * 64}, {"stable": 20 * 64}, {"decay": 7 * 64, "to": "1/10", "shape": "linear"}],
    }
    args = (workspace.order, workspace.arrays, workspace.heldout, tiny.model)
    with pytest.raises(KeyboardInterrupt):
        train(*args, tiny.plan(**stop), tmp_path, on_step=_interrupt_at(12), device="cpu")
    with pytest.raises(ConfigError, match="other settings"):
        train(*args, tiny.plan(**longer), tmp_path, device="cpu")
    result = train(*args, tiny.plan(**longer), tmp_path, device="cpu", change=Change())
    assert (result.resumed_from, result.step) == (10, 30)
    assert (tmp_path / "plan.before-640.yaml").exists()
    direct = run(workspace, tiny, tmp_path / "direct", **longer)
    a, b = (load_file(next(r.checkpoint.glob("*-model-00001-of-*"))) for r in (result, direct))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(ConfigError, match="its past would have been another one") as caught:
        train(*args, tiny.plan(**{**longer, "peak_lr": 0.02}), tmp_path, device="cpu", change=Change())
    assert "peak_lr" in str(caught.value)


def test_another_order_is_accepted_where_it_begins_alike(workspace, tiny, tmp_path):
    longer = tiny.workspace(tmp_path / "longer", repeats=8)
    table = workspace.order.table()
    tail = table.slice(table.num_rows // 2)
    changed = pa.concat_tables([table.slice(0, table.num_rows // 2), tail.take(pa.array(range(len(tail)))[::-1])])
    write_order(
        tmp_path / "changed", changed, name="changed", fingerprint="changed", config={}, inputs=[],
        shards=workspace.order.shards,
    )  # fmt: skip
    new = Order.open(tmp_path / "changed")
    shared = int(np.cumsum(table["length"].to_numpy())[table.num_rows // 2 - 1])
    assert 16 * 64 < shared < 30 * 64
    args = (workspace.arrays, workspace.heldout, tiny.model, tiny.plan())
    with pytest.raises(KeyboardInterrupt):
        train(workspace.order, *args, tmp_path / "run", on_step=_interrupt_at(12), device="cpu")
    with pytest.raises(ConfigError, match="order"):
        train(new, *args, tmp_path / "run", device="cpu", change=Change())
    change = Change(workspace.order)
    with pytest.raises(KeyboardInterrupt):  # accepted, and killed before a checkpoint of its own
        train(new, *args, tmp_path / "run", on_step=_interrupt_at(13), device="cpu", change=change)
    result = train(new, *args, tmp_path / "run", device="cpu")
    assert (result.resumed_from, result.step) == (10, 24)
    assert longer.order.n_tokens == workspace.order.n_tokens
    straight = train(new, *args, tmp_path / "straight", device="cpu")
    lines = [(r.folder / "metrics.jsonl").read_bytes() for r in (result, straight)]
    assert lines[0] == lines[1]


def test_an_order_of_another_tokenizer_is_refused(workspace, tiny, tmp_path):
    small = tiny.model.model_copy(update={"vocabulary": 64})
    with pytest.raises(ConfigError, match="token ids that the model does not know"):
        train(workspace.order, workspace.arrays, {}, small, tiny.plan(), tmp_path, device="cpu")


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


def test_a_phase_may_forget_the_optimizers_moments_and_a_resume_there_does_the_same(workspace, tiny, tmp_path):
    """After the reset the first update is AdamW's first: every parameter moves by the rate, whatever its gradient."""
    phases = [{"stable": 8 * 64}, {"warmup": 4 * 64, "from_zero": True, "reset_optimizer": True}, {"stable": 12 * 64}]
    changes = {"phases": phases, "average": {"kind": "none"}, "checkpoint_every": 64, "keep": {"last": 30}}
    calm = {"optimizer": {"kind": "adamw", "weight_decay": 0}}
    result = run(workspace, tiny, tmp_path / "whole", **changes, **calm)
    found = checkpoints_in(result.folder / "checkpoints")
    before, after = (load_file(next(found[step].glob("*-model-00001-of-*"))) for step in (8, 9))
    rate = step_learning_rates(resolve(tiny.plan(**changes)))[8]
    moved = torch.cat([(after[name] - before[name]).abs().flatten() for name in after])
    assert moved.max() == pytest.approx(rate, rel=1e-3)
    assert (moved[moved > 0] > 0.5 * rate).float().mean() > 0.9
    args = (workspace.order, workspace.arrays, workspace.heldout, tiny.model, tiny.plan(**changes, **calm))
    with pytest.raises(KeyboardInterrupt):
        train(*args, tmp_path / "part", on_step=_interrupt_at(8), device="cpu")
    resumed = train(*args, tmp_path / "part", device="cpu")
    assert resumed.resumed_from == 8
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def _interrupt_at(step: int):
    def interrupt(progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return interrupt
