"""MIGU: the rows that move are those with the largest outputs, and only they move where that is asked."""

import pytest
import torch
from hook_runs import SmallRun, assert_resumes, small_run, steps_of, train_with
from torch import nn

from corpus.errors import ConfigError
from trainer_hooks.hooks.kinds import Migu
from trainer_hooks.hooks.migu import kept_rows

GOLDEN = torch.tensor([0.1, 0.5, 0.9, 0.2, 0.7, 0.3, 0.8, 0.4, 0.6, 1.0])


class Diagonal(nn.Module):
    """A layer whose outputs for a row of ones are given, under an output matrix."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(1, len(outputs), bias=False)
        self.lm_head = nn.Linear(len(outputs), 3, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(outputs[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.layer(x))


def migu_step(tiny, settings: Migu, outputs: torch.Tensor = GOLDEN, batches: int = 1) -> tuple[SmallRun, list]:
    """One step of Adam with the hook, from moments that are not zero; the weights before and after it."""
    torch.manual_seed(0)
    model = Diagonal(outputs)
    run, hook = small_run(tiny, model), settings.make()
    hook.start(run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.ones(4, 1)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    before = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        model.layer.weight.copy_(outputs[:, None])
    before[0] = model.layer.weight.detach().clone()
    hook.before_step(run)
    for _ in range(batches):
        model(torch.ones(4, 1)).square().sum().backward()
    with torch.no_grad():
        model(torch.full((50, 1), -9.0))  # an evaluation
    unmasked = model.lm_head.weight.grad.clone()
    hook.after_backward(run)
    assert torch.equal(model.lm_head.weight.grad, unmasked)
    grad = model.layer.weight.grad.clone()
    optimizer.step()
    hook.after_update(run)
    return run, [grad, before[0], model.layer.weight.detach()]


def test_golden_rows_of_the_reference():
    assert torch.quantile(GOLDEN, 0.7).item() == pytest.approx(0.73)
    assert (kept_rows(GOLDEN, 0.7).nonzero().flatten() + 1).tolist() == [3, 7, 10]


@pytest.mark.parametrize("batches", [1, 3])
def test_gradient_rows_outside_the_mask_are_zero_whatever_the_micro_batches(tiny, batches):
    run, (grad, _, _) = migu_step(tiny, Migu(), batches=batches)
    assert (grad.abs().sum(1) > 0).nonzero().flatten().tolist() == [2, 6, 9]
    assert run.facts["migu/kept"] == pytest.approx(0.3)


def test_negative_outputs_count_by_their_size(tiny):
    _, (grad, _, _) = migu_step(tiny, Migu(), outputs=-GOLDEN)
    assert (grad.abs().sum(1) > 0).nonzero().flatten().tolist() == [2, 6, 9]


def test_momentum_and_decay_move_masked_rows_unless_they_are_frozen(tiny):
    masked = ~kept_rows(GOLDEN, 0.7)
    _, (_, before, faithful) = migu_step(tiny, Migu())
    assert (faithful[masked] != before[masked]).all()
    _, (_, before, frozen) = migu_step(tiny, Migu(mode="freeze_masked"))
    assert torch.equal(frozen[masked], before[masked])
    assert torch.equal(frozen[~masked], faithful[~masked])


def test_the_random_control_keeps_as_many_rows_and_other_ones_at_another_step_and_seed(tiny):
    run, (grad, _, _) = migu_step(tiny, Migu(mask="random", seed=1))
    again, (same, _, _) = migu_step(tiny, Migu(mask="random", seed=1))
    _, (other, _, _) = migu_step(tiny, Migu(mask="random", seed=2))
    assert run.facts == again.facts == {"migu/kept": pytest.approx(0.3)}
    assert torch.equal(grad, same)
    assert not torch.equal(grad, other)


def test_masking_begins_where_the_plan_says(workspace, tiny, tmp_path):
    plain = train_with(workspace, tiny, tmp_path / "plain", [])
    later = train_with(workspace, tiny, tmp_path / "later", [{"kind": "migu", "after": 10 * 64}])
    losses = [[line["loss"] for line in steps_of(run.folder)] for run in (plain, later)]
    assert losses[0][:11] == losses[1][:11]
    assert losses[0][11:] != losses[1][11:]
    assert ["migu/kept" in line for line in steps_of(later.folder)] == [step >= 10 for step in range(24)]


@pytest.mark.parametrize("mode", ["faithful", "freeze_masked"])
def test_a_killed_run_resumes_to_the_same_bits(workspace, tiny, tmp_path, mode):
    hooks = [{"kind": "migu", "mode": mode, "after": 5 * 64}]
    assert_resumes(workspace, tiny, tmp_path, hooks, cuts=(17,), micro_sequences=2)


def test_a_model_without_linear_layers_is_refused(tiny):
    with pytest.raises(ConfigError, match="no linear layers"):
        Migu().make().start(small_run(tiny, nn.Embedding(3, 4)))


@pytest.mark.slow
def test_compiled_layers_are_listened_to_as_well(workspace, tiny, tmp_path):
    runs = [train_with(workspace, tiny, tmp_path / str(on), ["migu"], compile=on) for on in (False, True)]
    for plain, compiled in zip(*(steps_of(run.folder) for run in runs), strict=True):
        assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-5)
        assert compiled["migu/kept"] == plain["migu/kept"]
