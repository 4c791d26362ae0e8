"""A plan as a torch scheduler: the plan's rates at every step, per group, resumed only on the same curve."""

import json

import pytest
import torch

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.lr_scheduler import PlanLR
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve


def resolved(schedule="d2z", steps=10):
    data = {"tokens": steps * 64, "sequence_length": 16, "batch_sequences": 4, "peak_lr": 0.1, "schedule": schedule}
    return resolve(validated(Plan, {**data, "eval_every": "50%", "checkpoint_every": "50%"}, "plan"))


D2Z = {"kind": "d2z", "warmup": "20%"}


def optimizer(lr=1.0):
    groups = [{"params": [torch.ones(2, requires_grad=True)]}, {"params": [torch.ones(3, requires_grad=True)]}]
    groups[1]["lr_multiplier"] = 4.0
    return torch.optim.SGD(groups, lr=lr)


def walk(taken, scheduler, steps):
    """Take steps as a training loop does; the rates of both groups at each."""
    found = []
    for _ in range(steps):
        found.append([float(group["lr"]) for group in taken.param_groups])
        taken.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    "schedule", [D2Z, "wsd", {"kind": "wsd_s", "periods": ["50%", "50%"], "decay": 0.2}, "inverse_sqrt"]
)
def test_every_step_takes_the_plans_rate_in_every_group(schedule):
    plan, taken = resolved(schedule, 100), optimizer()
    rates = walk(taken, PlanLR(taken, plan), 100)
    assert rates == [[rate, 4 * rate] for rate in step_learning_rates(plan).tolist()]


def test_a_rate_held_in_a_tensor_is_set_in_place():
    taken = optimizer()
    for group in taken.param_groups:
        group["lr"] = torch.tensor(1.0)
    held = taken.param_groups[0]["lr"]
    scheduler = PlanLR(taken, resolved(D2Z))
    walk(taken, scheduler, 4)
    scheduler.load_state_dict(scheduler.state_dict())
    assert taken.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(step_learning_rates(resolved(D2Z))[4])
    with pytest.raises(ConfigError, match="share one tensor"):
        PlanLR(optimizer(torch.tensor(1.0)), resolved(D2Z))


@pytest.mark.parametrize("at", [0, 1, 7, 10])
def test_a_resumed_scheduler_goes_on_as_the_undisturbed_one(at):
    plan, taken = resolved(D2Z), optimizer()
    scheduler = PlanLR(taken, plan)
    walk(taken, scheduler, at)
    state = json.loads(json.dumps(scheduler.state_dict()))
    fresh = optimizer()
    resumed = PlanLR(fresh, plan)
    resumed.load_state_dict(state)
    assert resumed.get_last_lr() == scheduler.get_last_lr() == [group["lr"] for group in fresh.param_groups]
    assert resumed.state_dict() == scheduler.state_dict()
    assert walk(fresh, resumed, 10 - at) == walk(taken, scheduler, 10 - at)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (resolved({"kind": "d2z", "warmup": "30%"}), "phases.0.end was 128, is now 192"),
        (resolved({"kind": "constant", "warmup": "20%"}), "phases.1.kind was decay, is now stable"),
        (resolved(D2Z, 20), "steps was 10, is now 20"),
        (resolved({"kind": "cosine", "to": 0, "warmup": "20%"}), "phases.1.shape was linear, is now cosine"),
    ],
)
def test_a_state_of_another_curve_is_refused_by_what_differs(other, named):
    taken = optimizer()
    state = PlanLR(taken, resolved(D2Z)).state_dict()
    with pytest.raises(ConfigError, match=named):
        PlanLR(optimizer(), other).load_state_dict(state)


def test_a_changed_table_or_multiplier_is_refused_too():
    def table(middle):
        return resolved({"kind": "refined", "values": [0.5, middle, 0], "norms": "n"})

    state = PlanLR(optimizer(), table(1.0)).state_dict()
    with pytest.raises(ConfigError, match=r"phases\.0\.table"):
        PlanLR(optimizer(), table(0.9)).load_state_dict(state)
    groups = optimizer()
    groups.param_groups[1]["lr_multiplier"] = 2.0
    with pytest.raises(ConfigError, match=r"lr_multiplier was \[1\.0, 4\.0\], is now \[1\.0, 2\.0\]"):
        PlanLR(groups, table(1.0)).load_state_dict(state)


def test_after_the_last_step_a_floor_is_held_and_rate_0_refuses_to_go_on():
    taken = optimizer()
    scheduler = PlanLR(taken, resolved(D2Z))
    walk(taken, scheduler, 10)
    assert taken.param_groups[0]["lr"] == 0
    with pytest.raises(ConfigError, match="cannot train further"):
        walk(taken, scheduler, 1)
    taken = optimizer()
    scheduler = PlanLR(taken, resolved({"kind": "cosine", "warmup": "20%", "to": 0.1}))
    walk(taken, scheduler, 10)
    with pytest.warns(UserWarning, match="held"):
        walk(taken, scheduler, 1)
    assert taken.param_groups[1]["lr"] == pytest.approx(0.04)
