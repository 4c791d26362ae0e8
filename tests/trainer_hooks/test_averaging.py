"""Running and offline averages: identity, equality with the closed form, exact restore, exact resume."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging import Averager, merge, unique_tensors
from trainer_hooks.averaging_rules import coefficients

KINDS = ("sma", "ema", "ema_debiased", "wma")


class Net(nn.Module):
    """Two tied matrices, a buffer to average, a counter to copy and a cache to leave alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4, bias=True)
        self.b = nn.Linear(3, 4, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cache", torch.ones(2), persistent=False)


def checkpoints(count: int, dtype: torch.dtype = torch.float32) -> list[Net]:
    models = []
    for i in range(count):
        torch.manual_seed(i)
        net = Net().to(dtype)
        net.mean.fill_(i)
        net.steps.fill_(10 + i)
        models.append(net)
    return models


@pytest.mark.parametrize("kind", KINDS)
def test_equal_models_average_to_themselves(kind):
    net = checkpoints(1)[0]
    averager = Averager(net, coefficients(kind, 6))
    for _ in range(6):
        averager.update(net)
    for name, value in unique_tensors(net).items():
        assert torch.equal(averager.average()[name], value)


@pytest.mark.parametrize("kind", KINDS)
def test_running_average_is_the_weighted_sum(kind):
    models, c = checkpoints(6), coefficients(kind, 6)
    averager = Averager(models[0], c)
    for net in models:
        averager.update(net)
    expected = sum(w * net.a.weight.detach().double() for w, net in zip(c, models, strict=True))
    torch.testing.assert_close(averager.average()["a.weight"].double(), expected, rtol=0, atol=1e-6)
    assert averager.average()["mean"][0] == pytest.approx(float(c @ np.arange(6)), abs=1e-6)
    assert averager.average()["steps"] == 15
    assert set(averager.average()) == {"a.weight", "a.bias", "mean", "steps"}


def test_a_window_not_yet_full_averages_what_exists():
    averager, net, seen = Averager(Net(), coefficients("sma", 3)), Net(), []
    for value in (1.0, 2.0, 3.0):
        net.mean.fill_(value)
        averager.update(net)
        seen.append(float(averager.average()["mean"][0]))
    assert seen == [1.0, 1.5, 2.0]
    with pytest.raises(ConfigError, match="complete"):
        averager.update(net)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swapped_restores_every_bit_also_after_an_error(dtype):
    models = checkpoints(3, dtype)
    averager = Averager(models[0], coefficients("wma", 2))
    averager.update(models[0])
    averager.update(models[1])
    net, before = models[2], copy.deepcopy(unique_tensors(models[2]))
    with averager.swapped(net):
        assert torch.equal(net.a.weight, averager.average()["a.weight"].to(dtype))
        assert net.b.weight is net.a.weight
        assert int(net.steps) == 11
    with pytest.raises(RuntimeError, match="evaluation"), averager.swapped(net):
        raise RuntimeError("evaluation failed")
    for name, value in unique_tensors(net).items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype


def test_a_saved_average_goes_on_to_the_same_bits():
    models, c = checkpoints(5), coefficients("ema_debiased", 5)
    straight, first, second = (Averager(models[0], c) for _ in range(3))
    for net in models:
        straight.update(net)
    for net in models[:2]:
        first.update(net)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for net in models[2:]:
        second.update(net)
    for name, value in straight.average().items():
        assert torch.equal(value, second.average()[name])
    with pytest.raises(ConfigError, match="other coefficients"):
        Averager(models[0], coefficients("sma", 5)).load_state_dict(first.state_dict())
    with pytest.raises(ConfigError, match="no average yet"):
        Averager(models[0], c).average()


@pytest.mark.parametrize("kind", KINDS)
def test_offline_merge_equals_the_running_average_bit_for_bit(kind, tmp_path):
    models, c = checkpoints(4), coefficients(kind, 4)
    averager, paths = Averager(models[0], c), []
    for i, net in enumerate(models):
        averager.update(net)
        paths.append(tmp_path / f"{i}.safetensors")
        save_file({name: value.detach() for name, value in unique_tensors(net).items()}, paths[-1])
    merged = merge(paths, c)
    assert set(merged) == set(averager.average())
    for name, value in merged.items():
        assert torch.equal(value, averager.average()[name])
        assert value.dtype == averager.average()[name].dtype


def test_merge_refuses_files_that_do_not_fit(tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    save_file({"w": torch.zeros(2)}, paths[0])
    save_file({"w": torch.zeros(3)}, paths[1])
    save_file({"v": torch.zeros(2)}, paths[2])
    with pytest.raises(ArtifactError, match="shape of w"):
        merge(paths[:2], [0.5, 0.5])
    with pytest.raises(ArtifactError, match="not those of the model"):
        merge([paths[0], paths[2]], [0.5, 0.5])
    with pytest.raises(ConfigError, match="one coefficient"):
        merge(paths, [0.5, 0.5])


def test_bf16_models_are_averaged_in_float32():
    net = Net().to(torch.bfloat16)
    averager = Averager(net, coefficients("ema", 200, 0.001))
    for i in range(200):
        net.mean.fill_(1.0 if i else 0.0)
        averager.update(net)
    assert averager.average()["mean"][0] == pytest.approx(1 - 0.999**199, rel=1e-4)
