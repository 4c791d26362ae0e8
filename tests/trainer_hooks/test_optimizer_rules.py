"""Each optimizer's formula, on golden values and beside an independent implementation."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.optimizers import apollo, frugal, muon, schedule_free
from trainer_hooks.optimizers.kinds import AdamW, Apollo, ApolloMini, Frugal, Muon, ScheduleFree
from trainer_hooks.plan import Plan


def one_matrix(values: Any) -> nn.Module:
    """A model of one linear layer without bias, whose weight is `values`."""
    weight = torch.as_tensor(values, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    model[0].weight.data.copy_(weight)
    return model


def take(model: nn.Module, optimizer: torch.optim.Optimizer, grad: Any) -> torch.Tensor:
    weight = model[0].weight  # type: ignore[index]
    weight.grad = torch.as_tensor(grad, dtype=torch.float32).reshape(weight.shape)
    optimizer.step()
    return weight.detach().clone()


def test_adamw_golden_sequence() -> None:
    """theta = 1, lr = decay = .1, betas (.9, .95), gradients .5, -.25, .1."""
    model = one_matrix([[1.0]])
    optimizer = AdamW(weight_decay=0.1).make(model, 0.1)
    found = [float(take(model, optimizer, g)) for g in (0.5, -0.25, 0.1)]
    np.testing.assert_allclose(found, [0.89, 0.854263, 0.813592], atol=5e-7)


def test_newton_schulz_golden_values() -> None:
    diagonal = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    found = muon.newton_schulz(diagonal, dtype=torch.float64)
    np.testing.assert_allclose(torch.diag(found), [0.72288, 1.11920], atol=5e-6)
    assert float(found[0, 1]) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.05, 0.75812), (0.1, 0.71212), (0.3, 1.07959), (0.5, 0.76544), (0.7, 1.12032), (0.9, 0.68201), (1, 0.69644)],
)
def test_newton_schulz_on_a_singular_value(value: float, expected: float) -> None:
    """With ||X|| = 1 a singular value maps by the scalar polynomial: the rest of the norm is put in a second one."""
    rest = math.sqrt(1 - value**2)
    found = muon.newton_schulz(torch.diag(torch.tensor([value, rest], dtype=torch.float64)), dtype=torch.float64)
    assert float(found[0, 0]) == pytest.approx(expected, abs=5e-6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_newton_schulz_keeps_singular_vectors(rows: int, columns: int, seed: int) -> None:
    """U S V^T becomes U p(S) V^T, also of tall matrices, so it commutes with the transpose."""
    matrix = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = muon.newton_schulz(matrix, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ found @ right.T
    mapped = values / values.norm()
    for _ in range(5):
        mapped = muon.A * mapped + muon.B * mapped**3 + muon.C * mapped**5
    torch.testing.assert_close(inner, torch.diag(mapped), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(muon.newton_schulz(matrix.T, dtype=torch.float64), found.T, atol=1e-9, rtol=1e-9)


def test_muon_rate_factors() -> None:
    assert muon.rate_factor((4096, 1024), "original") == 2.0
    assert muon.rate_factor((1024, 4096), "original") == 1.0
    assert muon.rate_factor((4096, 1024), "match_rms_adamw") == pytest.approx(12.8)
    assert muon.rate_factor((1024, 4096), "match_rms_adamw") == pytest.approx(12.8)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(24, 10), (10, 24), (16, 16)])
def test_muon_equals_torch_bit_for_bit(adjust: Any, nesterov: bool, shape: tuple[int, int]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = one_matrix(start), one_matrix(start)
    mine = Muon(adjust=adjust, nesterov=nesterov, weight_decay=0.2).make(ours, 0.03)
    torchs = torch.optim.Muon(theirs.parameters(), lr=0.03, weight_decay=0.2, nesterov=nesterov, adjust_lr_fn=adjust)
    for step in range(4):
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(10 + step))
        assert torch.equal(take(ours, mine, grad), take(theirs, torchs, grad))


def apollo_factors(per_channel: bool) -> torch.Tensor:
    """The factors, with the step size's correction, of the first step on the reference's matrix; m = 2, n = 3."""
    grad = torch.tensor([[1.0, 2.0, -4.0], [3.0, 0.0, 1.0]])
    projected = grad.T @ torch.tensor([[1.0], [0.0]])
    state = {"exp_avg": torch.zeros(3, 1), "exp_avg_sq": torch.zeros(3, 1)}
    adapted = apollo.adapted(projected, state, (0.9, 0.999), 1e-8)
    return apollo.ratio(adapted, projected, per_channel) * math.sqrt(1 - 0.999) / (1 - 0.9)


def test_apollo_golden_factors() -> None:
    np.testing.assert_allclose(apollo_factors(True).flatten(), [1, 0.5, 0.25], atol=2e-6)
    assert float(apollo_factors(False)) == pytest.approx(0.37796, abs=5e-6)


def test_norm_growth_limiter_golden_sequence() -> None:
    previous, limited = torch.zeros(()), []
    for norm in (1.0, 1.005, 2.0, 0.5, 0.6):
        previous = norm * apollo.growth_limit(torch.tensor(norm), previous, 1.01)
        limited.append(float(previous))
    np.testing.assert_allclose(limited, [1, 1.005, 1.01505, 0.5, 0.505], rtol=1e-6)


def apollo_by_hand(start: torch.Tensor, grads: list[torch.Tensor], kind: Apollo | ApolloMini, lr: float) -> np.ndarray:
    """The formulas of arXiv 2412.05270 in float64 numpy, for W^T where there are no more columns than rows."""
    weight, rank = start.double().numpy().copy(), kind.rank_of(tuple(start.shape))
    wide = weight.shape[0] < weight.shape[1]
    moment = square = previous = 0.0
    for step, grad in enumerate(grads, 1):
        g = grad.double().numpy() if wide else grad.double().numpy().T
        drawn = apollo.projection(5, "0.weight", (step - 1) // kind.every, g.shape[0], rank, torch.device("cpu"))
        r = drawn.double().numpy().T @ g
        moment = kind.betas[0] * moment + (1 - kind.betas[0]) * r
        square = kind.betas[1] * square + (1 - kind.betas[1]) * r**2
        adapted = moment / (np.sqrt(square) + kind.eps)
        axis = 0 if isinstance(kind, Apollo) else None
        u = g * (np.linalg.norm(adapted, axis=axis) / (np.linalg.norm(r, axis=axis) + 1e-8))
        norm = np.linalg.norm(u)
        if previous and norm > kind.growth * previous:
            u *= kind.growth * previous / norm
        previous = np.linalg.norm(u)
        size = lr * np.sqrt(1 - kind.betas[1] ** step) / (1 - kind.betas[0] ** step) * np.sqrt(kind.scale)
        weight -= size * (u if wide else u.T)
        weight -= lr * kind.weight_decay * weight
    return weight


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (12, 12)])
@pytest.mark.parametrize("kind", [Apollo(every=3), ApolloMini(every=3)], ids=lambda kind: kind.kind)
def test_apollo_equals_its_formulas(shape: tuple[int, int], kind: Apollo | ApolloMini) -> None:
    """Over two redraws; gradients whose norm jumps make the limiter act."""
    draw = torch.Generator().manual_seed(3)
    start = torch.randn(shape, generator=draw)
    grads = [torch.randn(shape, generator=draw) * size for size in (1, 1, 5, 0.2, 1, 1, 3, 1)]
    expected = apollo_by_hand(start, grads, kind, 0.01)
    model = one_matrix(start)
    optimizer = kind.make(model, 0.01, seed=5)
    for grad in grads:
        found = take(model, optimizer, grad)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_projections_depend_on_seed_name_and_redraw_alone() -> None:
    cpu = torch.device("cpu")
    base = apollo.projection(1, "a", 0, 64, 16, cpu)
    assert torch.equal(base, apollo.projection(1, "a", 0, 64, 16, cpu))
    for other in ((2, "a", 0), (1, "b", 0), (1, "a", 1)):
        assert not torch.equal(base, apollo.projection(*other, 64, 16, cpu))
    big = apollo.projection(0, "x", 0, 400, 100, cpu)
    assert float(big.var()) == pytest.approx(1 / 100, rel=0.05)


def frugal_model(n: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(n)))


def test_frugal_moves_selected_matrices_by_adamw_and_the_rest_by_sign() -> None:
    """Over two selections, against torch.optim.AdamW made anew at each selection."""
    model = frugal_model()
    kind = Frugal(density=1 / 3, order="ascending", every=2, weight_decay=0.1, free_scale=0.5)
    optimizer = kind.make(model, 0.01)
    expected = [layer.weight.detach().clone() for layer in model]
    for step in range(4):
        active = step // 2
        if step % 2 == 0:
            shadow = nn.Parameter(expected[active].clone())
            oracle = torch.optim.AdamW([shadow], lr=0.01, betas=kind.betas, eps=kind.eps, weight_decay=0.1, fused=True)
        for index, layer in enumerate(model):
            layer.weight.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(10 * step + index))
            if index == active:
                shadow.grad = layer.weight.grad.clone()
                oracle.step()
                expected[index] = shadow.detach().clone()
            else:
                expected[index] = expected[index] * (1 - 0.01 * 0.1) - 0.01 * 0.5 * layer.weight.grad.sign()
        optimizer.step()
        for index, layer in enumerate(model):
            torch.testing.assert_close(layer.weight.detach(), expected[index], atol=1e-6, rtol=1e-6)
        with_moments = [index for index, layer in enumerate(model) if optimizer.state[layer.weight]]
        assert with_moments == [active]


def test_frugal_by_columns_is_adamw_there_and_the_sign_elsewhere() -> None:
    start = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    model = one_matrix(start)
    optimizer = Frugal(density=0.25, unit="columns", order="mirror", every=2, weight_decay=0.0).make(model, 0.1)
    expected = start.clone()
    for step in range(4):
        grad = torch.randn(3, 8, generator=torch.Generator().manual_seed(step + 1))
        columns = slice(0, 2) if step < 2 else slice(2, 4)
        if step % 2 == 0:
            shadow = nn.Parameter(expected[:, columns].clone())
            oracle = torch.optim.AdamW([shadow], lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)
        shadow.grad = grad[:, columns].clone()
        oracle.step()
        expected = expected - 0.1 * grad.sign()
        expected[:, columns] = shadow.detach()
        torch.testing.assert_close(take(model, optimizer, grad), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("ascending", ["0123", "4567", "6789", "0123", "4567"]),
        ("descending", ["6789", "4567", "0123", "6789", "4567"]),
        ("mirror", ["0123", "4567", "6789", "4567", "0123"]),
    ],
)
def test_frugal_selections_in_order(order: Any, expected: list[str]) -> None:
    """Windows of one size, the last moved back to the end of the 10; density .35 of 10 is 3.5, rounded half up."""
    kind = Frugal(density=0.35, order=order)
    assert ["".join(map(str, frugal.selection(kind, 10, n, 0))) for n in range(5)] == expected


@given(st.floats(0, 1), st.integers(1, 40), st.sampled_from(["random", "ascending", "descending", "mirror"]))
def test_frugal_selects_its_share_and_in_the_end_everything(density: float, among: int, order: Any) -> None:
    kind = Frugal(density=density, order=order)
    windows = math.ceil(among / max(1, kind.count(among)))
    picks = [frugal.selection(kind, among, n, n * 7919 + 1) for n in range(windows)]
    assert all(pick == sorted(set(pick)) and len(pick) == kind.count(among) for pick in picks)
    assert all(0 <= i < among for pick in picks for i in pick)
    if density and order != "random":
        assert set().union(*picks) == set(range(among))


def test_schedule_free_golden_sequence() -> None:
    """SGD's direction on f = x^2/2, lr .1, b .9, from 1: the points (y, z, x) after each step's z."""
    y, z, x, seen = [torch.tensor(1.0, dtype=torch.float64)], [torch.tensor(1.0, dtype=torch.float64)], 1.0, []
    kept = schedule_free.ScheduleFree()
    group = {"steps": 0, "weight_sum": 0.0, "lr_max": 0.0, "lr": 0.1}
    for _ in range(4):
        at = float(y[0])
        schedule_free.move(y, z, [y[0].clone()], 0.1, schedule_free.next_weight(group, kept), 0.9)
        x = float(y[0] + (1 - 1 / 0.9) * (z[0] - y[0]))
        seen.append((at, float(z[0]), x))
    golden = [(1, 0.9, 0.9), (0.9, 0.81, 0.855), (0.8505, 0.72495, 0.81165), (0.80298, 0.64465, 0.76990)]
    np.testing.assert_allclose(seen, golden, atol=6e-6)


def test_schedule_free_weights_with_warm_up() -> None:
    group = {"steps": 0, "weight_sum": 0.0, "lr_max": 0.0, "lr": 0.0}
    weights = []
    for rate in (0.25, 0.5, 0.75, 1.0, 1.0):
        group["lr"] = 0.0025 * rate
        weights.append(schedule_free.next_weight(group, ScheduleFree()))
    np.testing.assert_allclose(weights, [1, 0.8, 0.64286, 0.53333, 0.34783], atol=5e-6)


def test_schedule_free_equals_its_definition() -> None:
    """y, z and x kept apart in float64, by the three lines of arXiv 2405.15682, with AdamW's direction."""
    start = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    model = one_matrix(start)
    optimizer = ScheduleFree(weight_decay=0.1, step_power=1.0).make(model, 0.01)
    z = x = start.double().numpy()
    v, weights = 0.0, 0.0
    for step in range(1, 7):
        group, rate = optimizer.param_groups[0], 0.01 * min(step, 3) / 3
        group["lr"] = rate
        y = 0.1 * z + 0.9 * x
        np.testing.assert_allclose(model[0].weight.detach().numpy(), y, atol=1e-6)
        grad = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        take(model, optimizer, grad)
        g = grad.double().numpy()
        v = 0.999 * v + 0.001 * g**2
        z = z - rate * (g / (np.sqrt(v / (1 - 0.999**step)) + 1e-8) + 0.1 * y)
        weights += step * rate**2
        x = (1 - step * rate**2 / weights) * x + step * rate**2 / weights * z
        np.testing.assert_allclose(optimizer.average()["0.weight"].numpy(), x, atol=1e-6)


def test_state_elements_of_a_matrix() -> None:
    """The table of optimizer state, for 2048 x 5461 and rank 512."""
    shape = (2048, 5461)
    assert AdamW().state_elements(shape) == 22_368_256
    assert Muon().state_elements(shape) == 11_184_128
    assert Apollo().state_elements(shape) == Apollo(rank=512).state_elements(shape[::-1]) == 5_592_066
    assert ApolloMini().state_elements(shape) == 10_924
    assert Frugal().state_elements(shape) == 5_592_064
    assert Frugal(unit="columns").state_elements(shape) == 2 * 2048 * 1365
    assert ScheduleFree().state_elements(shape) == 22_368_256
    assert Muon().state_elements(shape, hidden=False) == 22_368_256
    assert Apollo().state_elements((2048,)) == 4096


def plan_with(optimizer: Any) -> Plan:
    data = {"tokens": 64, "peak_lr": 0.01, "phases": [{"stable": "100%"}], "optimizer": optimizer}
    return validated(Plan, data, "plan")


def test_an_optimizer_is_written_by_name_or_with_settings() -> None:
    assert plan_with("muon").optimizer == Muon()
    assert plan_with({"kind": "apollo_mini", "every": 50}).optimizer == ApolloMini(every=50)
    assert plan_with("schedule_free").optimizer.averages_itself
    assert not plan_with("adamw").optimizer.averages_itself


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("apolo", r"no kind 'apolo'; did you mean 'apollo'"),
        ({"kind": "muon", "lr": 1}, r"unknown key 'optimizer\.muon\.lr'"),
        ({"kind": "adamw", "betas": [0.9, 1.0]}, r"'optimizer\.adamw\.betas\.1': .*less than 1"),
        ({"kind": "schedule_free", "betas": [0, 0.9]}, r"betas\.0': .*greater than 0"),
        ({"kind": "frugal", "density": 25}, r"density': 25 is not a share.*25%"),
    ],
)
def test_errors_name_the_setting(written: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_with(written)
