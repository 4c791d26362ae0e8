"""The L1 norm of the whole gradient, before clipping."""

import pytest
import torch
from hook_runs import small_run, steps_of, train_with
from torch import nn

from trainer_hooks.hooks.kinds import GradL1
from trainer_hooks.run import Run


def test_it_is_the_sum_of_absolute_values_over_all_parameters(tiny):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False), nn.Linear(2, 1))
    model[:2](torch.randn(5, 3)).square().sum().backward()  # the last layer has no gradient
    run = small_run(tiny, model)
    GradL1().make().after_backward(run)
    expected = sum(p.grad.abs().sum().item() for p in model.parameters() if p.grad is not None)
    assert run.facts["grad_l1"] == pytest.approx(expected, rel=1e-6)


def test_it_is_logged_before_clipping(workspace, tiny, tmp_path, monkeypatch):
    seen: list[float] = []
    clip = Run.clip
    monkeypatch.setattr(
        Run,
        "clip",
        lambda run: seen.append(sum(float(p.grad.abs().sum()) for p in run.model.parameters())) or clip(run),
    )
    run = train_with(workspace, tiny, tmp_path / "run", ["grad_l1"], grad_clip=0.01)
    assert [line["grad_l1"] for line in steps_of(run.folder)] == pytest.approx(seen, rel=1e-5)
