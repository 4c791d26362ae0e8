"""The hypergradient controller: golden values, its bounds, Adam's direction, and a resume to the same bits."""

import math

import pytest
import torch
from hook_runs import assert_resumes, small_run, steps_of, train_with
from torch import nn

from corpus.errors import ConfigError
from trainer_hooks.hooks.hypergradient import adam_direction
from trainer_hooks.hooks.kinds import Hypergradient


class Point(nn.Module):
    """One number; its loss is half its square."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([start]))


def descend(tiny, settings: Hypergradient, steps: int) -> tuple[list[float], list[float]]:
    """Plain gradient descent on half the square from 1 under the hook: the rates and the points reached."""
    model = Point()
    run, hook = small_run(tiny, model, peak_lr=0.1, phases=[{"stable": "100%"}]), settings.make()
    hook.start(run)
    rates, points = [], []
    for step in range(steps):
        run.step, run.rate = step, 0.1
        model.x.grad = model.x.detach().clone()
        hook.after_backward(run)
        with torch.no_grad():
            model.x -= run.rate * model.x.grad
        hook.after_update(run)
        rates.append(run.rate)
        points.append(float(model.x.detach()))
    return rates, points


@pytest.mark.parametrize(
    ("form", "beta", "rates", "points"),
    [
        ("additive", 0.01, [0.1, 0.109, 0.116217, 0.1219], [0.9, 0.8019, 0.708706, 0.622314]),
        ("relative", 0.05, [0.1, 0.105, 0.11025, 0.115763], [0.9, 0.8055, 0.716694, 0.633727]),
    ],
)
def test_golden_values_of_the_reference(tiny, form, beta, rates, points):
    found = descend(tiny, Hypergradient(form=form, beta=beta, direction="gradient"), 4)
    assert found[0] == pytest.approx(rates, abs=1e-6)
    assert found[1] == pytest.approx(points, abs=1e-6)


def test_the_factor_stays_within_its_bounds(tiny):
    rates, _ = descend(tiny, Hypergradient(beta=0.5, direction="gradient", high=1.6), 6)
    assert rates == pytest.approx([0.1, 0.15, 0.16, 0.16, 0.16, 0.16])


def test_gradients_that_turn_lower_the_rate_and_others_leave_it(tiny):
    model, hook = (
        nn.ParameterDict({"a": torch.ones(2), "b": torch.ones(1)}),
        Hypergradient(beta=0.1, direction="gradient").make(),
    )
    run = small_run(tiny, model)
    hook.start(run)
    for grads, cosine in (([1, 0, 2], 0.0), ([-1, 0, -2], -1.0), ([0, 3, 0], 0.0), ([0, 3, 4], 0.6)):
        model["a"].grad, model["b"].grad = torch.tensor(grads[:2]).float(), torch.tensor(grads[2:]).float()
        hook.after_backward(run)
        hook.after_update(run)
        assert run.facts["hypergradient/cosine"] == pytest.approx(cosine)
    assert hook.factor == pytest.approx(0.9 * 1.06)


def test_a_gradient_that_is_not_finite_leaves_the_factor(tiny):
    model, hook = Point(), Hypergradient(direction="gradient").make()
    run = small_run(tiny, model)
    hook.start(run)
    for grad in (1.0, math.nan):
        model.x.grad = torch.tensor([grad])
        hook.after_backward(run)
        hook.after_update(run)
    assert hook.factor == 1.0
    assert run.facts["hypergradient/cosine"] is None


def test_adams_direction_is_the_way_its_step_went():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3))
    optimizer = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.0, betas=(0.8, 0.95), fused=True)
    for _ in range(4):
        before = weight.detach().clone()
        weight.grad = torch.randn(5, 3)
        optimizer.step()
        direction = adam_direction(optimizer.state[weight], (0.8, 0.95), 1e-8)
        assert torch.allclose(direction, (before - weight.detach()) / 0.01, rtol=1e-4, atol=1e-5)


def test_adams_direction_is_zero_before_a_first_step():
    state = {name: torch.zeros(2) for name in ("exp_avg", "exp_avg_sq")} | {"step": torch.tensor(0.0)}
    assert adam_direction(state, (0.9, 0.999), 1e-8).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("form", "direction"), [("relative", "adam"), ("additive", "gradient")])
def test_a_killed_run_resumes_to_the_same_bits(workspace, tiny, tmp_path, direction, form):
    beta = 0.05 if form == "relative" else 1e-6 if direction == "adam" else 1e-4
    hooks = [{"kind": "hypergradient", "direction": direction, "form": form, "beta": beta}]
    run = assert_resumes(workspace, tiny, tmp_path, hooks, cuts=(17,))
    plain = train_with(workspace, tiny, tmp_path / "plain", [])
    for ours, planned in zip(steps_of(run.folder), steps_of(plain.folder), strict=True):
        assert ours["lr"] == planned["lr"] * ours["hypergradient/factor"]
    factors = [line["hypergradient/factor"] for line in steps_of(run.folder)]
    assert factors[0] == 1.0
    assert len(set(factors)) > 20


def test_an_optimizer_without_moments_is_refused(tiny):
    model, hook = Point(), Hypergradient().make()
    run = small_run(tiny, model)
    run.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    hook.start(run)
    model.x.grad = torch.ones(1)
    run.optimizer.step()
    with pytest.raises(ConfigError, match="SGD keeps no Adam moments for x"):
        hook.after_backward(run)
