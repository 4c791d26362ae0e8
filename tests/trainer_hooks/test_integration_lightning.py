"""A plan in a Lightning Trainer: its rates at every step, its tokens, its averages in mid-window and at the end."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.model import Decoder
from trainer_hooks.resolution import resolve

pl = pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")
hooks = pytest.importorskip("trainer_hooks.integrations.lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
]
AVERAGES = {
    "wma": {"kind": "wma", "last": 4, "window": 9 * 64},
    "ema": {"kind": "step_ema", "half_life": "10%"},
    "lawa": {"kind": "lawa", "last": 3, "every": 2 * 64},
}
CHANGES = {"average": AVERAGES, "phases": (), "schedule": {"kind": "d2z", "warmup": "10%"}}


class Module(pl.LightningModule):
    """A tiny decoder that keeps what each forward pass of training read."""

    def __init__(self, config, scheduled=False):
        super().__init__()
        self.decoder, self.scheduled, self.read = Decoder(config, seed=0), scheduled, []

    def loss(self, batch):
        return cross_entropy(self.decoder(batch["input_ids"]).flatten(0, 1), batch["targets"].flatten())

    def training_step(self, batch, number):
        self.read.append((batch["input_ids"].clone(), batch["targets"].clone()))
        return self.loss(batch)

    def validation_step(self, batch, number):
        self.log("raw/loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters())
        return ([optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer)]) if self.scheduled else optimizer


class Seen(pl.Callback):
    """The weights after each optimizer step, and what each validation logged."""

    def __init__(self):
        self.after, self.validated = {}, {}

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step not in self.after:
            self.after[trainer.global_step] = copied(module)

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.validated[trainer.global_step] = {name: float(v) for name, v in trainer.callback_metrics.items()}


def copied(module):
    return {name: value.detach().clone() for name, value in unique_tensors(module).items()}


def validation(workspace):
    tokens = torch.from_numpy(workspace.stream[:129].astype("int64"))
    return {"input_ids": tokens[:-1].view(8, 16), "targets": tokens[1:].view(8, 16)}


class Run:
    """One call of fit, and all that was seen of it."""

    def __init__(self, workspace, tiny, plan, folder, resume=None, accumulate=2, workers=0, module=None, **arguments):
        self.resolved, self.folder, self.rates = resolve(plan), folder, []
        self.module = Module(tiny.model) if module is None else module
        heldout = validation(workspace)
        self.averaging = hooks.AveragingCallback(
            self.resolved, evaluate=lambda module: {"loss": float(module.loss(heldout))}
        )
        self.seen = Seen()
        saving = pl.callbacks.ModelCheckpoint(
            folder, "{step}", every_n_train_steps=5, save_top_k=-1, save_on_train_epoch_end=False
        )
        settings = {
            "max_steps": self.resolved.steps, "accumulate_grad_batches": accumulate,
            "val_check_interval": 8 * accumulate, "accelerator": "cpu", "logger": False,
            "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder, **arguments,
        }  # fmt: skip
        callbacks = [hooks.ScheduleCallback(self.resolved), self.averaging, self.seen, saving]
        trainer = pl.Trainer(callbacks=[*callbacks, *settings.pop("callbacks", [])], **settings)
        batches = hooks.OrderBatches(
            workspace.order, workspace.arrays, self.resolved, accumulate=accumulate, workers=workers
        )
        hook = register_optimizer_step_pre_hook(
            lambda optimizer, *_: self.rates.append(optimizer.param_groups[0]["lr"])
        )
        try:
            trainer.fit(self.module, batches, DataLoader([heldout], batch_size=None), ckpt_path=resume)
        finally:
            hook.remove()

    def averages(self):
        return {name: average.average() for name, average in self.averaging.averages.ready.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].keys() == other[name].keys()
        assert all(torch.equal(value, other[name][key]) for key, value in one[name].items()), name


@pytest.fixture(scope="module")
def undisturbed(workspace, tiny, tmp_path_factory):
    return Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path_factory.mktemp("lightning"))


@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (4, 1)])
def test_every_step_takes_the_plans_rate_and_tokens(workspace, tiny, tmp_path, accumulate, workers):
    monitor = pl.callbacks.LearningRateMonitor(logging_interval="step")
    run = Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path, accumulate=accumulate, workers=workers,
              callbacks=[monitor], logger=pl.loggers.CSVLogger(tmp_path), log_every_n_steps=1)  # fmt: skip
    rates = step_learning_rates(run.resolved).tolist()
    assert run.rates == rates
    assert monitor.lrs["plan"] == [rate for rate in rates for _ in range(accumulate)]
    n = run.resolved.tokens
    for side, first in ((0, 0), (1, 1)):
        read = torch.cat([pair[side] for pair in run.module.read]).flatten().numpy()
        assert (read == workspace.stream[first : n + first]).all()


def test_the_averages_are_the_weighted_sums_of_the_weights_at_their_marks(undisturbed):
    for name, found in undisturbed.averages().items():
        final = undisturbed.resolved.averages[name].final()
        steps = [int(mark) // 64 for mark in final.marks]
        for key, value in found.items():
            at = zip(steps, final.coefficients, strict=True)
            want = sum(c * undisturbed.seen.after[step][key].double() for step, c in at)
            torch.testing.assert_close(value.double(), want, atol=1e-6, rtol=1e-5)


def test_validations_report_every_average_and_leave_training_alone(undisturbed, workspace, tiny, tmp_path):
    run = Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path, limit_val_batches=0)
    assert_same(run.seen.after, undisturbed.seen.after)
    assert not run.seen.validated
    found = undisturbed.seen.validated
    assert {step: set(values) for step, values in found.items()} == {
        8: {"raw/loss", "ema/loss", "lawa/loss"},
        16: {"raw/loss", "ema/loss", "lawa/loss", "wma/loss"},  # its window begins after 15 steps
        24: {"raw/loss", "ema/loss", "lawa/loss", "wma/loss"},
    }
    for name, average in undisturbed.averages().items():
        fresh = Module(tiny.model)
        fresh.load_state_dict(average, strict=False)  # the tied head is the embedding
        with torch.no_grad():
            assert found[24][f"{name}/loss"] == pytest.approx(float(fresh.loss(validation(workspace))), rel=1e-5)


def test_a_loss_of_an_average_chooses_the_best_checkpoint(workspace, tiny, tmp_path):
    best = pl.callbacks.ModelCheckpoint(tmp_path / "best", monitor="ema/loss", save_top_k=1)
    run = Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path, callbacks=[best])
    assert float(best.best_model_score) == pytest.approx(min(v["ema/loss"] for v in run.seen.validated.values()))


@pytest.mark.parametrize("step", [5, 15, 20])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_is_resumed_in_mid_window_ends_in_the_same_bits(
    undisturbed, workspace, tiny, tmp_path, step, workers
):
    checkpoint = undisturbed.folder / f"step={step}.ckpt"
    again = Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path, resume=checkpoint, workers=workers)
    assert again.rates == undisturbed.rates[step:]
    assert_same(*({n: w for n, w in run.seen.after.items() if n > step} for run in (again, undisturbed)))
    assert_same(again.averages(), undisturbed.averages())
    assert again.seen.validated == {n: v for n, v in undisturbed.seen.validated.items() if n > step}
    read = torch.cat([inputs for inputs, _ in again.module.read]).flatten().numpy()
    assert (read == workspace.stream[step * 64 : 24 * 64]).all()


class SaveBetweenParts(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        if number == 4 * 17 + 2:  # three of the four parts of step 18
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "between.ckpt")


def test_a_checkpoint_between_the_parts_of_a_batch_goes_on_with_the_whole_batch(workspace, tiny, tmp_path):
    plan = tiny.plan(**CHANGES)
    straight = Run(workspace, tiny, plan, tmp_path, accumulate=4, callbacks=[SaveBetweenParts()])
    again = Run(workspace, tiny, plan, tmp_path / "again", accumulate=4, resume=tmp_path / "between.ckpt")
    assert again.rates == straight.rates[17:]
    assert_same(*({n: w for n, w in run.seen.after.items() if n > 17} for run in (again, straight)))
    assert_same(again.averages(), straight.averages())


def test_each_average_is_written_as_a_file(undisturbed, tmp_path):
    written = undisturbed.averaging.write(undisturbed.module, tmp_path / "averages")
    assert_same({name: load_file(path) for name, path in written.items()}, undisturbed.averages())


def test_an_edited_plan_is_refused_on_resume(undisturbed, workspace, tiny, tmp_path):
    checkpoint = undisturbed.folder / "step=20.ckpt"
    cosine = {"schedule": {"kind": "cosine", "to": 0.1, "warmup": "10%"}}
    wider = {"average": AVERAGES | {"wma": {"kind": "wma", "last": 2, "window": 9 * 64}}}
    added = {"average": AVERAGES | {"sma": {"kind": "sma", "last": 4, "window": 9 * 64}}}
    with pytest.raises(ConfigError, match=r"phases\.1\..* was .*, is now"):
        Run(workspace, tiny, tiny.plan(**CHANGES | cosine), tmp_path, resume=checkpoint)
    with pytest.raises(ConfigError, match="another scheme"):
        Run(workspace, tiny, tiny.plan(**CHANGES | wider), tmp_path, resume=checkpoint)
    with pytest.raises(ArtifactError, match="does not hold average 'sma'"):
        Run(workspace, tiny, tiny.plan(**CHANGES | added), tmp_path, resume=checkpoint)


def test_an_average_that_begins_later_may_join(undisturbed, workspace, tiny, tmp_path):
    added = AVERAGES | {"late": {"kind": "sma", "last": 2, "window": 64}}
    again = Run(workspace, tiny, tiny.plan(**CHANGES | {"average": added}), tmp_path,
                resume=undisturbed.folder / "step=20.ckpt")  # fmt: skip
    found = again.averages()
    for key, value in found.pop("late").items():
        torch.testing.assert_close(value, (again.seen.after[23][key] + again.seen.after[24][key]) / 2)
    assert_same(found, undisturbed.averages())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_steps": 23}, "max_steps: 24(.|\n)*max_steps: 23"),
        ({"accumulate_grad_batches": 1}, "accumulate_grad_batches: 2(.|\n)*accumulate_grad_batches: 1"),
    ],
)
def test_a_trainer_that_does_not_follow_the_plan_is_refused(workspace, tiny, tmp_path, arguments, named):
    with pytest.raises(ConfigError, match=named):
        Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path, **arguments)


def test_a_scheduler_of_ones_own_is_refused(workspace, tiny, tmp_path):
    with pytest.raises(ConfigError, match="1 schedulers"):
        Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path, module=Module(tiny.model, scheduled=True))


def test_batches_that_cannot_be_are_refused(workspace, tiny):
    with pytest.raises(ConfigError, match="a multiple of 3"):
        hooks.OrderBatches(workspace.order, workspace.arrays, resolve(tiny.plan()), accumulate=3)
    with pytest.raises(ConfigError, match="has no step"):
        hooks.OrderBatches(workspace.order, workspace.arrays, resolve(tiny.plan(tokens=58 * 64)))


CHILD = """
import runpy, sys, torch
from pathlib import Path
import pytorch_lightning as pl
torch.set_num_threads(1)
tests, where = Path(sys.argv[1]), Path(sys.argv[2])
tiny, here = runpy.run_path(str(tests / "conftest.py")), runpy.run_path(str(tests / "test_integration_lightning.py"))
from trainer_hooks.integrations.lightning import AveragingCallback, OrderBatches, ScheduleCallback
from trainer_hooks.resolution import resolve
resolved = resolve(tiny["make_plan"](**here["CHANGES"]))
workspace = None
class Module(here["Module"]):
    def train_dataloader(self):
        workspace = tiny["build_workspace"](where / f"workspace-{self.trainer.global_rank}")
        return OrderBatches(workspace.order, workspace.arrays, resolved, accumulate=2, rank=self.trainer.global_rank,
                            world=self.trainer.world_size)
averaging = AveragingCallback(resolved)
saving = pl.callbacks.ModelCheckpoint(where, "{step}", every_n_train_steps=5, save_top_k=-1)
last = where / "step=20.ckpt"
trainer = pl.Trainer(max_steps=resolved.steps, accumulate_grad_batches=2, accelerator="cpu", devices=2, strategy="ddp",
                     callbacks=[ScheduleCallback(resolved), averaging, saving], logger=False, limit_val_batches=0,
                     enable_progress_bar=False, default_root_dir=where)
module = Module(tiny["TINY"])
trainer.fit(module, ckpt_path=last if last.exists() else None)
averaging.write(module, where / "averages")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_average_as_one_and_go_on_in_mid_window(undisturbed, workspace, tiny, tmp_path):
    script, root = tmp_path / "child.py", Path(__file__).parents[2]
    script.write_text(CHILD)
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]

    def two_processes():
        shutil.rmtree(tmp_path / "averages", ignore_errors=True)
        done = subprocess.run([*call, str(Path(__file__).parent), str(tmp_path)], capture_output=True, text=True,
                              cwd=root, env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
        assert done.returncode == 0, done.stderr
        return {name: load_file(tmp_path / "averages" / f"{name}.safetensors") for name in AVERAGES}

    first, second = two_processes(), two_processes()
    again = Run(workspace, tiny, tiny.plan(**CHANGES), tmp_path / "one", resume=tmp_path / "step=20.ckpt").averages()
    for found in (first, second, again):
        assert_close(undisturbed.averages(), found)


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for key, value in one[name].items():
            torch.testing.assert_close(other[name][key], value, atol=1e-5, rtol=1e-4)
