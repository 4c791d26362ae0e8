"""NaP: hidden matrices return to the norms they began with, and nothing else is touched."""

import pytest
import torch
from hook_runs import assert_resumes, small_run, tensors_of, train_with
from torch import nn

from corpus.errors import ConfigError
from trainer_hooks.hooks.kinds import Nap
from trainer_hooks.hooks.nap import is_embedding
from trainer_hooks.model import Decoder


def test_golden_factor_of_the_reference(tiny):
    model = nn.ModuleDict({"hidden": nn.Linear(2, 2, bias=False)})
    weight = model["hidden"].weight
    with torch.no_grad():
        weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    run, hook = small_run(tiny, model), Nap().make()
    hook.start(run)
    with torch.no_grad():
        weight.copy_(torch.tensor([[1.5, 0.0], [0.0, 2.0]]))  # norm 2.5
    hook.after_update(run)
    assert torch.allclose(weight, 0.8 * torch.tensor([[1.5, 0.0], [0.0, 2.0]]))


def norms(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name.removeprefix("model|"): float(value.norm()) for name, value in tensors.items()}


@pytest.mark.parametrize("scales", ["free", "joint"])
def test_norms_stay_and_embeddings_and_free_scales_go_where_training_takes_them(workspace, tiny, tmp_path, scales):
    hook = {"kind": "nap", "scales": scales}
    found = norms(tensors_of(train_with(workspace, tiny, tmp_path / "run", [hook]).checkpoint))
    begun = {name: float(p.detach().norm()) for name, p in Decoder(tiny.model, seed=0).named_parameters()}
    hidden = [name for name in begun if "proj" in name]
    scale = [name for name in begun if "norm" in name]
    assert all(found[name] == pytest.approx(begun[name], rel=1e-6) for name in hidden)
    assert found["model.embed_tokens.weight"] != pytest.approx(begun["model.embed_tokens.weight"], rel=1e-4)
    joint = [sum(kept[name] ** 2 for name in scale) ** 0.5 for kept in (begun, found)]
    assert (joint[1] == pytest.approx(joint[0], rel=1e-6)) == (scales == "joint")
    assert any(found[name] != pytest.approx(begun[name], rel=1e-4) for name in scale)


def test_between_projections_norms_move(workspace, tiny, tmp_path):
    hook = {"kind": "nap", "every": 7}
    found = norms(tensors_of(train_with(workspace, tiny, tmp_path / "run", [hook]).checkpoint))  # 24 steps: 3 after 21
    begun = {name: float(p.detach().norm()) for name, p in Decoder(tiny.model, seed=0).named_parameters()}
    assert all(found[name] != begun[name] for name in begun if "proj" in name)


@pytest.mark.parametrize("hook", [{"kind": "nap"}, {"kind": "nap", "every": 4, "scales": "joint"}])
def test_a_killed_run_resumes_to_the_same_bits(workspace, tiny, tmp_path, hook):
    assert_resumes(workspace, tiny, tmp_path, [hook], cuts=(8,))


def test_initial_norms_are_state_and_those_of_another_model_are_refused(tiny):
    hook, other = Nap().make(), Nap(scales="joint").make()
    for made in (hook, other):
        made.start(small_run(tiny, Decoder(tiny.model, seed=0)))
    state = {"norms": {name: 2 * norm for name, norm in hook.state()["norms"].items()}}
    hook.load(state, {})
    assert hook.state() == state
    with pytest.raises(ConfigError, match="not those of this model"):
        other.load(state, {})


def test_a_matrix_of_zeros_is_refused(tiny):
    model = nn.ModuleDict({"down_proj": nn.Linear(2, 2, bias=False)})
    nn.init.zeros_(model["down_proj"].weight)
    with pytest.raises(ConfigError, match=r"down_proj.weight begins with norm 0"):
        Nap().make().start(small_run(tiny, model))


def test_which_parameters_are_embeddings():
    assert is_embedding("model.embed_tokens.weight")
    assert is_embedding("lm_head.weight")
    assert not is_embedding("model.layers.0.mlp.up_proj.weight")
