"""A plan in a Hugging Face Trainer: its rates at every step, its tokens, its averages in mid-window and at the end."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.datasets import OrderDataset
from trainer_hooks.resolution import resolve

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")
hooks = pytest.importorskip("trainer_hooks.integrations.hugging_face")

AVERAGES = {
    "wma": {"kind": "wma", "last": 4, "window": 9 * 64},
    "ema": {"kind": "step_ema", "half_life": "10%"},
    "lawa": {"kind": "lawa", "last": 3, "every": 2 * 64},
}
CHANGES = {"average": AVERAGES, "micro_sequences": 2, "phases": (), "schedule": {"kind": "d2z", "warmup": "10%"}}


def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def rows(workspace):
    stream = torch.from_numpy(workspace.stream[:128].astype("int64")).view(-1, 16)
    return [{"input_ids": row, "labels": row} for row in stream]


class Recording(transformers.Trainer):
    """Keeps what each forward pass of training read, and the weights after each step."""

    def compute_loss(self, model, inputs, *args, **options):
        if model.training:
            self.read.append((inputs["input_ids"].clone(), inputs["shift_labels"].clone()))
        return super().compute_loss(model, inputs, *args, **options)


class Weights(transformers.TrainerCallback):
    def __init__(self):
        self.after = {}

    def on_step_end(self, args, state, control, model, **kwargs):
        self.after[state.global_step] = {k: v.detach().clone() for k, v in unique_tensors(model).items()}


class Run:
    """One call of train, and all that was seen of it."""

    def __init__(self, workspace, plan, folder, resume=None, data=None, evaluation=None, resume_from=None, **arguments):
        self.resolved, self.folder, self.rates = resolve(plan), folder, []
        self.data = OrderDataset(workspace.order, workspace.arrays, plan.sequence_length) if data is None else data
        settings = {
            **hooks.training_arguments(self.resolved, evaluates=evaluation is not None),
            "use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_steps": 1, **arguments,
        }  # fmt: skip
        self.weights = Weights()
        self.trainer = Recording(
            model(), transformers.TrainingArguments(str(folder), **settings), train_dataset=self.data,
            eval_dataset=evaluation, callbacks=[self.weights],
        )  # fmt: skip
        self.trainer.read = []
        self.averaging = hooks.AveragingCallback(self.trainer, self.resolved, resume_from)
        self.trainer.add_callback(hooks.ScheduleCallback(self.trainer, self.resolved))
        self.trainer.add_callback(self.averaging)
        hook = register_optimizer_step_pre_hook(
            lambda optimizer, *_: self.rates.append(optimizer.param_groups[0]["lr"])
        )
        try:
            self.trainer.train(resume_from_checkpoint=resume)
        finally:
            hook.remove()

    def averages(self):
        return {name: average.average() for name, average in self.averaging.averages.ready.items()}

    def logged(self, name):
        return {line["step"]: line[name] for line in self.trainer.state.log_history if name in line}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].keys() == other[name].keys()
        assert all(torch.equal(value, other[name][key]) for key, value in one[name].items()), name


@pytest.fixture(scope="module")
def undisturbed(workspace, tiny, tmp_path_factory):
    return Run(workspace, tiny.plan(**CHANGES), tmp_path_factory.mktemp("hf"), evaluation=rows(workspace))


def test_every_step_takes_the_plans_rate_exactly_and_logs_it(undisturbed):
    rates = step_learning_rates(undisturbed.resolved).tolist()
    assert undisturbed.rates == rates
    assert undisturbed.logged("learning_rate") == {step: rate for step, rate in enumerate(rates, 1)}


def test_rates_are_logged_right_where_not_every_step_is(workspace, tiny, tmp_path):
    run = Run(workspace, tiny.plan(**CHANGES), tmp_path, logging_steps=5, save_strategy="no")
    rates = step_learning_rates(run.resolved)
    assert run.logged("learning_rate") == {step: rates[step - 1] for step in (5, 10, 15, 20)}


def test_the_tokens_are_the_orders_in_its_sequence(undisturbed, workspace):
    inputs = torch.cat([inputs for inputs, _ in undisturbed.trainer.read]).flatten().numpy()
    targets = torch.cat([targets for _, targets in undisturbed.trainer.read]).flatten().numpy()
    n = undisturbed.resolved.tokens
    assert len(undisturbed.trainer.read) == 48  # two forward passes a step
    assert (inputs == workspace.stream[:n]).all()
    assert (targets == workspace.stream[1 : n + 1]).all()


def test_the_averages_are_the_weighted_sums_of_the_weights_at_their_marks(undisturbed):
    for name, found in undisturbed.averages().items():
        final = undisturbed.resolved.averages[name].final()
        steps = [int(mark) // 64 for mark in final.marks]
        for key, value in found.items():
            at = zip(steps, final.coefficients, strict=True)
            want = sum(c * undisturbed.weights.after[step][key].double() for step, c in at)
            torch.testing.assert_close(value.double(), want, atol=1e-6, rtol=1e-5)


def test_evaluations_report_every_average_and_leave_training_alone(undisturbed, workspace, tiny, tmp_path):
    run = Run(workspace, tiny.plan(**CHANGES), tmp_path, save_strategy="no")
    assert_same(run.weights.after, undisturbed.weights.after)
    losses = {name: undisturbed.logged(f"eval_{name}_loss") for name in AVERAGES}
    assert losses["wma"].keys() == {16, 24}  # its window begins after 15 steps
    assert losses["ema"].keys() == losses["lawa"].keys() == undisturbed.logged("eval_loss").keys() == {8, 16, 24}
    for name, average in undisturbed.averages().items():
        fresh = model()
        with torch.no_grad():
            for key, value in unique_tensors(fresh).items():
                value.copy_(average[key])
            batch = {key: torch.stack([row[key] for row in rows(workspace)]) for key in ("input_ids", "labels")}
            assert losses[name][24] == pytest.approx(float(fresh.eval()(**batch).loss), rel=1e-5)


def test_a_metric_of_an_average_chooses_the_best_checkpoint(workspace, tiny, tmp_path):
    both = {"one": rows(workspace), "two": rows(workspace)[:3]}
    run = Run(workspace, tiny.plan(**CHANGES), tmp_path, evaluation=both,
              save_steps=8, metric_for_best_model="eval_two_ema_loss", greater_is_better=False)  # fmt: skip
    losses = run.logged("eval_two_ema_loss")
    assert run.trainer.state.best_metric == min(losses.values())
    assert run.logged("eval_one_ema_loss")[24] != losses[24]
    assert not run.logged("eval_one_ema_ema_loss")


def test_each_average_is_a_model_that_loads(undisturbed):
    for name, average in undisturbed.averages().items():
        loaded = transformers.LlamaForCausalLM.from_pretrained(undisturbed.folder / "averages" / name)
        assert_same({"": unique_tensors(loaded)}, {"": average})


@pytest.mark.parametrize("step", [10, 20])
def test_a_run_that_is_resumed_in_mid_window_ends_in_the_same_bits(undisturbed, workspace, tiny, tmp_path, step):
    shutil.copytree(undisturbed.folder / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    again = Run(workspace, tiny.plan(**CHANGES), tmp_path, resume=True, evaluation=rows(workspace))
    assert again.rates == undisturbed.rates[step:]
    assert sorted(again.weights.after) == list(range(step + 1, 25))
    assert_same(again.weights.after, {n: w for n, w in undisturbed.weights.after.items() if n > step})
    assert_same(again.averages(), undisturbed.averages())
    assert again.logged("eval_wma_loss") == undisturbed.logged("eval_wma_loss")


def test_a_checkpoint_elsewhere_is_named(undisturbed, workspace, tiny, tmp_path):
    plan, elsewhere = tiny.plan(**CHANGES), undisturbed.folder / "checkpoint-20"
    with pytest.raises(ArtifactError, match="no averages in checkpoint-20"):
        Run(workspace, plan, tmp_path / "new", resume=str(elsewhere))
    again = Run(workspace, plan, tmp_path / "new", resume=str(elsewhere), resume_from=elsewhere)
    assert_same(again.averages(), undisturbed.averages())


def test_averages_of_another_run_are_refused(undisturbed, workspace, tiny, tmp_path):
    Run(workspace, tiny.plan(**CHANGES, peak_lr=0.02), tmp_path)
    with pytest.raises(ArtifactError, match="belong to another run"):
        Run(workspace, tiny.plan(**CHANGES), tmp_path, resume=str(undisturbed.folder / "checkpoint-20"))


def test_an_edited_plan_is_refused_on_resume(undisturbed, workspace, tiny, tmp_path):
    shutil.copytree(undisturbed.folder / "checkpoint-20", tmp_path / "checkpoint-20")
    with pytest.raises(ConfigError, match=r"phases\.1\..* was .*, is now"):
        Run(workspace, tiny.plan(**CHANGES | {"schedule": {"kind": "cosine", "to": 0.1, "warmup": "10%"}}), tmp_path,
            resume=True)  # fmt: skip
    wider = AVERAGES | {"wma": {"kind": "wma", "last": 2, "window": 9 * 64}}
    with pytest.raises(ConfigError, match="another scheme"):
        Run(workspace, tiny.plan(**CHANGES | {"average": wider}), tmp_path, resume=True)
    added = AVERAGES | {"sma": {"kind": "sma", "last": 4, "window": 9 * 64}}
    with pytest.raises(ArtifactError, match="does not hold average 'sma'"):
        Run(workspace, tiny.plan(**CHANGES | {"average": added}), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"gradient_accumulation_steps": 1}, "sequences of a step: 4(.|\n)*sequences of a step: 2"),
        ({"max_steps": 25}, "steps: 24(.|\n)*steps: 25"),
        ({"train_sampling_strategy": "random"}, "sampling: sequential(.|\n)*sampling: random"),
    ],
)
def test_a_trainer_that_does_not_follow_the_plan_is_refused(workspace, tiny, tmp_path, arguments, named):
    with pytest.raises(ConfigError, match=named):
        Run(workspace, tiny.plan(**CHANGES), tmp_path, **arguments)


def test_an_order_that_is_too_short_or_cut_otherwise_is_refused(workspace, tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"steps that the order has: 58(.|\n)*steps that the order has: 57"):
        Run(workspace, tiny.plan(**CHANGES, tokens=58 * 64), tmp_path)
    with pytest.raises(ConfigError, match=r"tokens of a sequence: 16(.|\n)*tokens of a sequence: 8"):
        Run(workspace, tiny.plan(**CHANGES), tmp_path, data=OrderDataset(workspace.order, workspace.arrays, 8))


def test_a_run_that_ends_early_says_so(workspace, tiny, tmp_path):
    with pytest.warns(UserWarning, match="ends after 3 of the plan's 24 steps"):
        run = Run(workspace, tiny.plan(**CHANGES), tmp_path, max_steps=3)
    assert run.rates == step_learning_rates(run.resolved)[:3].tolist()
    assert sorted(path.name for path in (tmp_path / "averages").iterdir()) == ["ema", "lawa"]


def test_a_scheduler_of_ones_own_is_not_replaced_in_silence(tiny, tmp_path):
    own = model()
    optimizer = torch.optim.SGD(own.parameters(), lr=1.0)
    trainer = transformers.Trainer(
        own, transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="scheduler of its own"):
        hooks.ScheduleCallback(trainer, resolve(tiny.plan()))


def test_groups_keep_their_multiple_of_the_rate(workspace, tiny, tmp_path):
    own = model()
    vectors = [p for p in own.parameters() if p.ndim < 2]
    matrices = [p for p in own.parameters() if p.ndim > 1]
    optimizer = torch.optim.SGD([{"params": vectors}, {"params": matrices, "lr_multiplier": 3.0}], lr=1.0)
    resolved, found = resolve(tiny.plan()), []
    arguments = hooks.training_arguments(resolved, evaluates=False) | {"save_strategy": "no"}
    trainer = transformers.Trainer(
        own, transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True, **arguments),
        train_dataset=OrderDataset(workspace.order, workspace.arrays, 16), optimizers=(optimizer, None),
    )  # fmt: skip
    trainer.add_callback(hooks.ScheduleCallback(trainer, resolved))
    optimizer.register_step_pre_hook(lambda *_: found.append([group["lr"] for group in optimizer.param_groups]))
    trainer.train()
    assert found == [[rate, 3 * rate] for rate in step_learning_rates(resolved).tolist()]


@pytest.mark.parametrize(
    ("world", "micro", "accumulated"), [(1, None, 1), (2, None, 1), (2, 1, 2), (1, 2, 2), (4, 1, 1)]
)
def test_arguments_divide_the_batch_over_processes(tiny, world, micro, accumulated):
    plan = tiny.plan(micro_sequences=micro)
    arguments = hooks.training_arguments(resolve(plan), world=world)
    assert arguments["per_device_train_batch_size"] * accumulated * world == plan.batch_sequences
    assert arguments["gradient_accumulation_steps"] == accumulated
    with pytest.raises(ConfigError, match="cut evenly"):
        hooks.training_arguments(resolve(plan), world=3)


CHILD = """
import os, runpy, sys, torch
from pathlib import Path
torch.set_num_threads(1)
tests, where, spreading = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
tiny, here = runpy.run_path(str(tests / "conftest.py")), runpy.run_path(str(tests / "test_integration_hugging_face.py"))
workspace = tiny["build_workspace"](where / f"workspace-{os.environ['RANK']}")
plan = tiny["make_plan"](**{**here["CHANGES"], "micro_sequences": 1})
resume = True if (where / "run").exists() else None
here["Run"](workspace, plan, where / "run", resume, evaluation=here["rows"](workspace), **here["SPREADING"][spreading])
torch.distributed.destroy_process_group()
"""
SPREADING = {
    "ddp": {"ddp_backend": "gloo"},
    "fsdp": {"ddp_backend": "gloo", "fsdp": True, "fsdp_config": {"version": 2}},
}


def two_processes(tmp_path, spreading):
    script, root = tmp_path / "child.py", Path(__file__).parents[2]
    script.write_text(CHILD)
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run([*call, str(Path(__file__).parent), str(tmp_path), spreading], cwd=root, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = [name for name in AVERAGES if (tmp_path / "run" / "averages" / name).exists()]
    return {name: load_file(tmp_path / "run" / "averages" / name / "model.safetensors") for name in names}


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for key, value in one[name].items():
            torch.testing.assert_close(other[name][key], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("spreading", list(SPREADING))
def test_two_processes_average_as_one_and_go_on_in_mid_window(undisturbed, tmp_path, spreading):
    assert_close(undisturbed.averages(), two_processes(tmp_path, spreading))
    shutil.rmtree(tmp_path / "run" / "checkpoint-24")
    shutil.rmtree(tmp_path / "run" / "averages")
    assert_close(undisturbed.averages(), two_processes(tmp_path, spreading))


@pytest.mark.slow
def test_one_process_goes_on_where_two_were(undisturbed, workspace, tiny, tmp_path):
    two_processes(tmp_path, "ddp")
    shutil.copytree(tmp_path / "run" / "checkpoint-20", tmp_path / "again" / "checkpoint-20")
    again = Run(workspace, tiny.plan(**CHANGES), tmp_path / "again", resume=True, evaluation=rows(workspace))
    assert_close(undisturbed.averages(), again.averages())
