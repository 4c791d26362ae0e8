"""Running averages: identity, equality with the closed form, exact restore, exact resume."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from corpus.config import validated
from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.average_resolution import resolve_average
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.phases import ResolvedPhase
from trainer_hooks.plan import Plan

WINDOWS = {
    name: {"window": 100, **settings}
    for name, settings in {
        "sma": {"kind": "sma"},
        "ema": {"kind": "ema"},
        "ema_debiased": {"kind": "ema_debiased"},
        "wma": {"kind": "wma"},
        "curve": {"kind": "curve", "to": "1/3"},
        "weights": {"kind": "weights", "weights": [0.1, 0.2, 0.05, 0.3, 0.05, 0.3]},
    }.items()
}
OTHERS = {
    "lawa": {"kind": "lawa", "last": 3, "every": 10},
    "pma": {"kind": "pma", "last": 4, "every": 10, "weights": "wma"},
    "step_ema": {"kind": "step_ema", "half_life": 20},
    "recursion": {"kind": "step_ema", "half_life": 20, "form": "recursion"},
    "anytime": {"kind": "step_ema", "half_life_seen": 0.2, "every": 20},
    "anytime_recursion": {"kind": "step_ema", "half_life_seen": 0.2, "form": "recursion"},
}
TOKENS, STEP = 200, 10


def resolved(average, phases=((0, 200, False),)):
    """An average in a run of 20 steps of 10 tokens; phases are (start, end, whether the optimizer starts anew)."""
    settings = {"tokens": TOKENS, "sequence_length": STEP, "batch_sequences": 1, "peak_lr": 1, "average": average,
                "phases": [{"stable": "100%"}]}  # fmt: skip
    ((name, asked),) = validated(Plan, settings, "plan").average.items()
    table = [
        ResolvedPhase(kind="stable", start=start, end=end, lr_start=1, lr_end=1, reset_optimizer=reset)
        for start, end, reset in phases
    ]
    return resolve_average(name, asked, table, TOKENS, STEP, TOKENS // STEP)


class Net(nn.Module):
    """Two tied matrices, a buffer to average, a counter to copy and a cache to leave alone."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.a = nn.Linear(3, 4, bias=True)
        self.b = nn.Linear(3, 4, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("mean", torch.full((2,), float(seed)))
        self.register_buffer("steps", torch.tensor(seed))
        self.register_buffer("cache", torch.ones(2), persistent=False)


def follow(average, model, until=TOKENS, after=0):
    """Give an average the weights of a net of its own at each mark after `after`, in `model`'s dtype."""
    for tokens in range(STEP, until + 1, STEP):
        if tokens > after and average.resolved.takes(tokens):
            average.update(Net(tokens).to(model.a.weight.dtype), tokens)
    return average


@pytest.mark.parametrize("name", [*WINDOWS, *OTHERS])
def test_running_average_is_the_weighted_sum(name):
    asked = resolved((WINDOWS | OTHERS)[name])
    average = follow(asked.averager(Net()), Net())
    marks, c = asked.final()
    assert c.sum() == pytest.approx(1, abs=1e-12)
    expected = sum(w * Net(int(mark)).a.weight.detach().double() for mark, w in zip(marks, c, strict=True))
    torch.testing.assert_close(average.average()["a.weight"].double(), expected, rtol=0, atol=1e-6)
    assert average.average()["mean"][0] == pytest.approx(float(c @ marks), rel=1e-6)
    assert average.average()["steps"] == marks[-1]
    assert set(average.average()) == {"a.weight", "a.bias", "mean", "steps"}


@pytest.mark.parametrize("name", [*WINDOWS, *OTHERS])
def test_equal_models_average_to_themselves(name):
    net = Net(3)
    asked = resolved((WINDOWS | OTHERS)[name])
    average = asked.averager(net)
    for mark in asked.marks:
        average.update(net, mark)
    for key, value in unique_tensors(net).items():
        assert torch.equal(average.average()[key], value)


def test_lawa_averages_what_exists_and_then_slides():
    asked = resolved({"kind": "lawa", "last": 3, "every": 20})
    average, seen = asked.averager(Net()), []
    assert not average.ready
    for value, mark in enumerate(asked.marks, start=1):
        net = Net()
        net.mean.fill_(value)
        average.update(net, mark)
        seen.append(float(average.average()["mean"][0]))
    assert average.ready
    assert seen == pytest.approx([1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9])


def test_a_window_under_way_is_scaled_and_a_complete_one_takes_no_more():
    asked = resolved({"kind": "sma", "last": 3, "window": 40, "end": 150})
    assert list(asked.marks) == [110, 130, 150]
    average, seen = asked.averager(Net()), []
    with pytest.raises(ConfigError, match="no average yet"):
        average.average()
    for value, mark in zip((1.0, 2.0, 6.0), asked.marks, strict=True):
        net = Net()
        net.mean.fill_(value)
        average.update(net, mark)
        seen.append(float(average.average()["mean"][0]))
    assert seen == pytest.approx([1.0, 1.5, 3.0])
    with pytest.raises(ConfigError, match="complete"):
        average.update(Net(), 170)


@pytest.mark.parametrize("tokens", [100, 110, 130, 200])
def test_only_the_next_mark_is_taken(tokens):
    average = resolved({"kind": "sma", "last": 6, "window": 100}).averager(Net())
    average.update(Net(), 100)
    with pytest.raises(ConfigError, match="120 tokens"):
        average.update(Net(), tokens)


@pytest.mark.parametrize("name", ["lawa", "pma", "step_ema", "recursion", "anytime"])
def test_nothing_is_averaged_across_an_optimizer_that_starts_anew(name):
    """After 100 tokens everything starts anew: only the weights there and later ones may count."""
    asked = resolved(OTHERS[name], [(0, 100, False), (100, 200, True)])
    average = asked.averager(Net())
    for mark in asked.marks:
        net = Net()
        net.mean.fill_(float("nan") if mark < 100 else mark)
        average.update(net, mark)
        assert torch.isnan(average.average()["mean"]).any() == (mark <= 100 and asked.first < 100)
    assert float(average.average()["mean"][0]) > 100
    marks, c = asked.final()
    assert c[marks < 100].sum() == 0
    assert c.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["wma", "lawa", "step_ema"])
def test_swapped_restores_every_bit_also_after_an_error(name, dtype):
    average = follow(resolved((WINDOWS | OTHERS)[name]).averager(Net().to(dtype)), Net().to(dtype))
    net = Net(7).to(dtype)
    before = copy.deepcopy(unique_tensors(net))
    with average.swapped(net):
        assert torch.equal(net.a.weight, average.average()["a.weight"].to(dtype))
        assert net.b.weight is net.a.weight
        assert int(net.steps) == TOKENS
        assert torch.equal(net.cache, torch.ones(2, dtype=dtype))
    with pytest.raises(RuntimeError, match="evaluation"), average.swapped(net):
        raise RuntimeError("evaluation failed")
    for key, value in unique_tensors(net).items():
        assert torch.equal(value, before[key])
        assert value.dtype == before[key].dtype


@pytest.mark.parametrize("name", [*WINDOWS, *OTHERS])
def test_a_saved_average_goes_on_to_the_same_bits(name):
    asked = resolved((WINDOWS | OTHERS)[name])
    straight = follow(asked.averager(Net()), Net())
    for stop in (asked.first, asked.marks[len(asked.marks) // 2]):
        first = follow(asked.averager(Net()), Net(), until=stop)
        second = asked.averager(Net())
        second.load(copy.deepcopy(first.state()), copy.deepcopy(first.tensors()))
        follow(second, Net(), after=stop)
        assert second.state() == straight.state()
        for key, value in straight.average().items():
            assert torch.equal(value, second.average()[key])


def test_tensors_may_be_loaded_in_place():
    asked = resolved(OTHERS["lawa"])
    first = follow(asked.averager(Net()), Net())
    second = asked.averager(Net())
    own = second.tensors()
    for key, value in first.tensors().items():
        own[key].copy_(value)
    second.load(first.state(), own)
    assert all(torch.equal(value, second.average()[key]) for key, value in first.average().items())


def test_a_changed_scheme_is_refused_once_weights_are_in():
    average = follow(resolved(WINDOWS["wma"]).averager(Net()), Net())
    for other in (WINDOWS["sma"], {"kind": "wma", "last": 5, "window": 80}, {"kind": "wma", "window": 50}):
        with pytest.raises(ConfigError, match="another scheme"):
            resolved(other).averager(Net()).load(average.state(), average.tensors())
    fresh = resolved(WINDOWS["wma"]).averager(Net())
    other = resolved(WINDOWS["sma"]).averager(Net())
    other.load(fresh.state(), fresh.tensors())
    assert not other.ready
    with pytest.raises(ArtifactError, match="not those of the model"):
        resolved(WINDOWS["wma"]).averager(Net()).load(average.state(), {"a.weight": torch.zeros(4, 3)})


def test_a_mean_without_a_window_may_go_on_for_longer():
    """A plan that grows keeps its step_ema and lawa: nothing about their past has changed."""
    for settings in (OTHERS["step_ema"], OTHERS["lawa"], OTHERS["anytime"]):
        asked = resolved(settings)
        average = follow(asked.averager(Net()), Net(), until=100)
        longer = asked.model_copy(update={"until": 400, "restarts": (300,)}).averager(Net())
        longer.load(average.state(), average.tensors())
        for key, value in follow(average, Net(), after=100).average().items():
            assert torch.equal(follow(longer, Net(), after=longer.newest).average()[key], value)


def test_bf16_models_are_averaged_in_float32():
    """A bf16 accumulator would not move at all: each update is smaller than its rounding."""
    asked = resolved({"kind": "step_ema", "half_life": 10_000, "form": "recursion"})
    net = Net().to(torch.bfloat16)
    average = asked.averager(net)
    for mark in asked.marks:
        net.mean.fill_(256.0 if mark == asked.first else 257.0)
        average.update(net, mark)
    kept = 2.0 ** -((TOKENS - asked.first) / 10_000)
    assert average.average()["mean"].dtype == torch.float32
    newest = float(torch.tensor(257.0, dtype=torch.bfloat16))
    assert float(average.average()["mean"][0]) == pytest.approx(newest + kept * (256 - newest), abs=1e-4)


def test_an_average_does_not_change_what_it_averages():
    asked = resolved(WINDOWS["sma"])
    net = Net(1)
    before, average = copy.deepcopy(unique_tensors(net)), asked.averager(net)
    for mark in asked.marks:
        average.update(net, mark)
    assert all(torch.equal(value, before[key]) for key, value in unique_tensors(net).items())
    own = {value.data_ptr() for value in unique_tensors(net).values()}
    assert not own & {value.data_ptr() for value in average.tensors().values()}
    assert all(not value.requires_grad for value in average.tensors().values())


@pytest.mark.parametrize("form", ["debiased", "recursion"])
def test_the_mean_over_every_step_equals_its_closed_form(form):
    """Weights in proportion to 2^(-age / half-life): all of them, or with the rest on the first (the recursion)."""
    asked = resolved({"kind": "step_ema", "half_life": 30, "form": form})
    average = asked.averager(Net())
    positions = np.arange(10, 201, 10.0)
    for count, mark in enumerate(asked.marks, start=1):
        net = Net()
        net.mean.fill_(mark**0.5)
        average.update(net, mark)
        share = 2.0 ** (-(mark - positions[:count]) / 30)
        c = share / share.sum() if form == "debiased" else np.diff(share, prepend=0.0)
        assert float(average.average()["mean"][0]) == pytest.approx(float(c @ np.sqrt(positions[:count])), rel=1e-5)


@pytest.mark.parametrize("name", ["wma", "lawa", "step_ema"])
def test_a_parameter_that_leaves_the_model_leaves_the_mean(name):
    """As the matrix does that guides structured layers; a resumed run, which begins with it, forgets it too."""
    asked = resolved((WINDOWS | OTHERS)[name])
    leaving, plain = asked.averager(Net()), asked.averager(_without(Net()))
    for mark in asked.marks:
        leaving.update(Net(mark) if mark <= 120 else _without(Net(mark)), mark)
        plain.update(_without(Net(mark)), mark)
    assert "a.bias" not in leaving.average()
    assert leaving.average().keys() == plain.average().keys()
    assert all(torch.equal(value, leaving.average()[key]) for key, value in plain.average().items())
    resumed = asked.averager(Net())
    resumed.load(leaving.state(), leaving.tensors())
    assert resumed.average().keys() == plain.average().keys()
    net = _without(Net(5))
    with resumed.swapped(net):
        assert torch.equal(net.a.weight, plain.average()["a.weight"])


def test_a_mean_from_before_a_parameter_left_can_still_be_lent():
    asked = resolved({"kind": "sma", "last": 3, "window": 40, "end": 150})
    average, net = follow(asked.averager(Net()), Net()), _without(Net())
    with average.swapped(net):
        assert torch.equal(net.a.weight, average.average()["a.weight"])


def test_no_parameter_joins_a_mean_under_way():
    average = resolved({"kind": "lawa", "every": 100}).averager(_without(Net()))
    with pytest.raises(ArtifactError, match=r"a\.bias"):
        average.update(Net(), 100)


def _without(net):
    net.a.register_parameter("bias", None)
    return net
