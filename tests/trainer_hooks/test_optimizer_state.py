"""Groups of parameters, and state: complete before the first step, saved by name, continued to the same bits."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.optimizers.groups import parameter_groups
from trainer_hooks.optimizers.kinds import (
    AdamW,
    Apollo,
    ApolloMini,
    Frugal,
    Muon,
    OptimizerSettings,
    ScheduleFree,
)
from trainer_hooks.optimizers.state import prepare_state

UNTIED = ModelConfig(vocabulary=96, hidden=32, layers=2, heads=2, kv_heads=1, head_size=32, intermediate=48, tied=False)
KINDS: list[tuple[OptimizerSettings, float]] = [
    (AdamW(), 0.01),
    (Muon(), 0.01),
    (Muon(adjust="original", lr_ratio=4, nesterov=False), 0.005),
    (Apollo(every=4), 0.02),
    (ApolloMini(every=4), 0.01),
    (Frugal(every=4), 0.003),
    (Frugal(every=4, order="mirror", unit="columns", density=0.3), 0.003),
    (ScheduleFree(betas=(0.9, 0.95)), 0.01),
]
each_kind = pytest.mark.parametrize(("settings", "lr"), KINDS, ids=lambda value: getattr(value, "kind", ""))


def batch(step: int, rows: int = 4, length: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of counting tokens from random starts, and their targets."""
    starts = torch.randint(0, 40, (rows, 1), generator=torch.Generator().manual_seed(step))
    ids = starts + torch.arange(length + 1)
    return ids[:, :-1], ids[:, 1:]


def take_steps(model: Decoder, optimizer: torch.optim.Optimizer, lr: float, steps: range) -> list[float]:
    """Training steps as the trainer takes them, with a warm-up over 5; the loss of each."""
    losses = []
    for step in steps:
        loss = model.loss(*batch(step))
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 0.5) / 5) * group.get("lr_multiplier", 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def saved(model: nn.Module, optimizer: Any) -> tuple[dict[str, torch.Tensor], str]:
    """A checkpoint: tensors by name, and JSON."""
    tensors = {f"model|{name}": value.detach().clone() for name, value in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            assert isinstance(value, torch.Tensor)
            tensors[f"optimizer|{name}|{key}"] = value.clone()
    return tensors, json.dumps(optimizer.extra_state() if hasattr(optimizer, "extra_state") else {})


@torch.no_grad()
def restore(model: nn.Module, optimizer: Any, tensors: dict[str, torch.Tensor], facts: str) -> None:
    """Load a checkpoint in place into new objects; names and shapes must be the same."""
    if hasattr(optimizer, "load_extra_state"):
        optimizer.load_extra_state(json.loads(facts))
    prepare_state(optimizer)
    own = {f"model|{name}": parameter for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        own |= {f"optimizer|{name}|{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    assert {name: value.shape for name, value in own.items()} == {name: v.shape for name, v in tensors.items()}
    for name, value in own.items():
        value.copy_(tensors[name])


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@each_kind
def test_training_lowers_the_loss(settings: OptimizerSettings, lr: float) -> None:
    model = Decoder(UNTIED)
    losses = take_steps(model, settings.make(model, lr, seed=3), lr, range(40))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@each_kind
@pytest.mark.parametrize("at", [3, 8])
def test_a_continued_run_has_the_same_bits(settings: OptimizerSettings, lr: float, at: int) -> None:
    """Saved in mid-interval, and just before a redraw or a selection; the new objects have another seed."""
    model = Decoder(UNTIED)
    optimizer = settings.make(model, lr, seed=3)
    take_steps(model, optimizer, lr, range(at))
    checkpoint = saved(model, optimizer)
    rest = take_steps(model, optimizer, lr, range(at, at + 6))
    again = Decoder(UNTIED, seed=9)
    resumed = settings.make(again, lr, seed=77)
    restore(again, resumed, *checkpoint)
    assert_equal(saved(again, resumed)[0], checkpoint[0])
    assert take_steps(again, resumed, lr, range(at, at + 6)) == rest
    assert_equal(saved(again, resumed)[0], saved(model, optimizer)[0])


@each_kind
def test_an_optimizer_that_has_run_goes_back_to_a_checkpoint(settings: OptimizerSettings, lr: float) -> None:
    model = Decoder(UNTIED)
    optimizer = settings.make(model, lr)
    take_steps(model, optimizer, lr, range(2))
    checkpoint = saved(model, optimizer)
    first = take_steps(model, optimizer, lr, range(2, 9))
    restore(model, optimizer, *checkpoint)
    assert take_steps(model, optimizer, lr, range(2, 9)) == first


@each_kind
def test_torch_state_dict_continues_too(settings: OptimizerSettings, lr: float) -> None:
    model = Decoder(UNTIED)
    optimizer = settings.make(model, lr, seed=3)
    take_steps(model, optimizer, lr, range(6))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    rest = take_steps(model, optimizer, lr, range(6, 10))
    again = Decoder(UNTIED, seed=9)
    again.load_state_dict(weights)
    resumed = settings.make(again, lr, seed=77)
    resumed.load_state_dict(state)
    assert take_steps(again, resumed, lr, range(6, 10)) == rest


@each_kind
def test_prepared_state_is_that_of_the_first_step(settings: OptimizerSettings, lr: float) -> None:
    """Preparing moves nothing, adds all keys, changes no later bit, and holds what the settings count."""
    fresh, prepared = Decoder(UNTIED), Decoder(UNTIED)
    lazy, ready = settings.make(fresh, lr), settings.make(prepared, lr)
    prepare_state(ready)
    before = saved(prepared, ready)[0]
    prepare_state(ready)
    assert_equal(saved(prepared, ready)[0], before)
    take_steps(fresh, lazy, lr, range(2))
    take_steps(prepared, ready, lr, range(2))
    after = saved(fresh, lazy)[0]
    assert_equal(after, saved(prepared, ready)[0])
    assert {name: (v.shape, v.dtype) for name, v in after.items()} == {n: (v.shape, v.dtype) for n, v in before.items()}


@pytest.mark.parametrize("settings", [AdamW(), Muon(), Apollo(), ApolloMini(), Frugal(unit="columns"), ScheduleFree()])
def test_state_elements_count_the_state(settings: OptimizerSettings) -> None:
    """All but AdamW's step counters; those of APOLLO are counted, as in the published table."""
    model = Decoder(UNTIED)
    optimizer = settings.make(model, 0.01)
    prepare_state(optimizer)
    for group in optimizer.param_groups:
        hidden = group["name"] == "matrices"
        for parameter in group["params"]:
            low_rank = hidden and settings.kind.startswith("apollo")  # type: ignore[attr-defined]
            state = optimizer.state[parameter].items()
            held = sum(value.numel() for key, value in state if key != "step" or low_rank)
            assert held == settings.state_elements(tuple(parameter.shape), hidden)


def test_state_can_be_counted_without_memory() -> None:
    with torch.device("meta"):
        model = Decoder(UNTIED, seed=None)
        for settings, lr in KINDS:
            optimizer = settings.make(model, lr)
            prepare_state(optimizer)
            assert all(optimizer.state[p] for group in optimizer.param_groups[1:] for p in group["params"])


def test_groups_are_named_and_decay_as_asked() -> None:
    model = Decoder(UNTIED)
    groups = {group["name"]: group for group in parameter_groups(model, AdamW(weight_decay=0.2))}
    names = {role: [name for name, _ in group["params"]] for role, group in groups.items()}
    assert names["embeddings"] == ["model.embed_tokens.weight"]
    assert names["head"] == ["lm_head.weight"]
    assert all("norm" in name for name in names["vectors"])
    assert len(names["vectors"]) == 5
    assert len(names["matrices"]) == 2 * 7
    assert sum(map(len, names.values())) == len(list(model.parameters()))
    decays = {role: group["weight_decay"] for role, group in groups.items()}
    assert decays == {"matrices": 0.2, "embeddings": 0.0, "head": 0.2, "vectors": 0.0}
    other = AdamW(weight_decay=0.2, decay_embeddings=True, decay_head=False)
    decays = {group["name"]: group["weight_decay"] for group in parameter_groups(model, other)}
    assert decays == {"matrices": 0.2, "embeddings": 0.2, "head": 0.0, "vectors": 0.0}


def test_a_tied_head_is_an_embedding_and_frozen_parameters_are_left_out() -> None:
    model = Decoder(UNTIED.model_copy(update={"tied": True}))
    model.model.norm.weight.requires_grad_(False)
    groups = {group["name"]: [name for name, _ in group["params"]] for group in parameter_groups(model, AdamW())}
    assert groups["embeddings"] == ["model.embed_tokens.weight"]
    assert "head" not in groups
    assert "model.norm.weight" not in groups["vectors"]


def test_parameters_with_more_dimensions_decay_and_are_adamws() -> None:
    model = nn.Linear(4, 4, bias=False)
    model.factors = nn.Parameter(torch.ones(2, 3, 4))
    optimizer = Muon(weight_decay=0.2).make(model, 0.1)
    prepare_state(optimizer)
    assert {group["name"]: group["weight_decay"] for group in optimizer.param_groups} == {
        "matrices": 0.2,
        "tensors": 0.2,
    }
    assert set(optimizer.state[model.factors]) == {"step", "exp_avg", "exp_avg_sq"}
    assert set(optimizer.state[model.weight]) == {"momentum_buffer"}


def test_muon_has_two_peaks_on_one_curve() -> None:
    optimizer = Muon(lr_ratio=10).make(Decoder(UNTIED), 0.002)
    multipliers = {group["name"]: (group["lr"], group["lr_multiplier"]) for group in optimizer.param_groups}
    assert multipliers["matrices"] == (0.02, 10)
    assert multipliers["embeddings"] == multipliers["vectors"] == (0.002, 1)


def test_a_parameter_without_gradient_stays() -> None:
    for settings, lr in KINDS:
        model = Decoder(UNTIED)
        frozen = model.model.layers[0].mlp.up_proj.weight
        optimizer = settings.make(model, lr)
        before = frozen.detach().clone()
        frozen.requires_grad_(False)
        take_steps(model, optimizer, lr, range(2))
        assert torch.equal(frozen, before)


def test_frugal_goes_on_without_a_matrix_that_stopped_training() -> None:
    model = Decoder(UNTIED)
    optimizer = Frugal(every=2, density=0.5).make(model, 0.003)
    take_steps(model, optimizer, 0.003, range(2))
    stopped = "model.layers.0.mlp.up_proj.weight"
    model.get_parameter(stopped).requires_grad_(False)
    for step in range(2, 12, 2):
        take_steps(model, optimizer, 0.003, range(step, step + 2))
        active = next(group["active"] for group in optimizer.param_groups if group["name"] == "matrices")
        assert stopped not in active
        assert len(active) == 7  # half of 13, rounded half up


def test_schedule_free_lends_its_average_and_takes_it_back() -> None:
    model = Decoder(UNTIED)
    optimizer = ScheduleFree().make(model, 0.01)
    assert not optimizer.ready
    for name, value in optimizer.average().items():
        assert torch.equal(value, model.get_parameter(name))
    take_steps(model, optimizer, 0.01, range(6))
    own = {name: value.detach().clone() for name, value in model.named_parameters()}
    average = optimizer.average()
    assert optimizer.ready
    assert average.keys() == own.keys()
    with optimizer.swapped(model) as lent:
        assert lent is model
        assert_equal(dict(model.named_parameters()), average)
        assert_equal(optimizer.average(), average)
        assert optimizer.extra_state()["matrices"]["mode"] == "average"
        inside = json.dumps(optimizer.extra_state())
        with pytest.raises(ConfigError, match="inside of it"):
            optimizer.step()
    assert_equal(dict(model.named_parameters()), own)
    assert not torch.equal(average["lm_head.weight"], own["lm_head.weight"])
    with pytest.raises(ArtifactError, match="not saved between two steps"):
        optimizer.load_extra_state(json.loads(inside))


def test_a_parameter_that_leaves_the_model_leaves_the_average() -> None:
    model = Decoder(UNTIED)
    model.guide = nn.Linear(32, 32, bias=False)
    optimizer = ScheduleFree().make(model, 0.01)
    take_steps(model, optimizer, 0.01, range(2))
    assert "guide.weight" in optimizer.average()
    del model.guide
    take_steps(model, optimizer, 0.01, range(2, 4))
    assert optimizer.average().keys() == dict(model.named_parameters()).keys()
    own = {name: value.detach().clone() for name, value in model.named_parameters()}
    with optimizer.swapped(model):
        assert not torch.equal(model.lm_head.weight, own["lm_head.weight"])
    assert_equal(dict(model.named_parameters()), own)


def test_schedule_free_gives_its_weights_back_after_an_error() -> None:
    model = Decoder(UNTIED)
    optimizer = ScheduleFree().make(model, 0.01)
    take_steps(model, optimizer, 0.01, range(2))
    own = {name: value.detach().clone() for name, value in model.named_parameters()}
    with pytest.raises(ZeroDivisionError), optimizer.swapped(model):
        _ = 1 / 0
    assert_equal(dict(model.named_parameters()), own)
    take_steps(model, optimizer, 0.01, range(2, 3))


def test_an_unknown_mode_and_other_groups_are_refused() -> None:
    optimizer = ScheduleFree().make(Decoder(UNTIED), 0.01)
    state = optimizer.extra_state()
    state["head"]["mode"] = "eval"
    with pytest.raises(ArtifactError, match="mode eval"):
        optimizer.load_extra_state(state)
    tied = Decoder(UNTIED.model_copy(update={"tied": True}))
    with pytest.raises(ArtifactError, match=r"found\s+matrices, embeddings, head, vectors"):
        Apollo().make(tied, 0.01).load_extra_state(Apollo().make(Decoder(UNTIED), 0.01).extra_state())


def test_an_optimizer_whose_state_is_not_known_is_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"state of SGD cannot be made"):
        prepare_state(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ConfigError, match=r"fused=True"):
        prepare_state(torch.optim.AdamW(model.parameters(), fused=False))
