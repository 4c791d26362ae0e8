"""How far weights moved: shares, norms and ranks on changes that are known."""

import pytest
import torch

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.evals.weights_moved import by_layer, effective_rank, weights_moved


def test_a_known_change_has_its_sparsity_norm_and_rank():
    old = {"w": torch.full((4, 8), 0.5), "b": torch.zeros(3), "steps": torch.tensor(7)}
    change = torch.zeros(4, 8)
    change[0, :4] = torch.tensor([1e-6, 0.25, 0.25, -0.25])
    new = {"w": old["w"] + change, "b": torch.tensor([0.0, 0.0, 3.0]), "steps": torch.tensor(9)}
    b, w = weights_moved(old, new, tolerance=1e-5)
    assert (w.parameters, w.unchanged, w.dtype) == (32, 29, "float32")
    assert w.sparsity == pytest.approx(29 / 32)
    assert next(weights_moved({"w": old["w"]}, {"w": new["w"]})).unchanged == 28
    assert w.relative_norm == pytest.approx(((3 * 0.25**2) ** 0.5) / (32 * 0.25) ** 0.5, rel=1e-5)
    assert (w.effective_rank, w.rank_share) == (pytest.approx(1.0), pytest.approx(1 / 4))
    assert (b.effective_rank, b.relative_norm) == (None, float("inf"))


def test_the_effective_rank_is_between_one_and_the_shorter_side():
    assert effective_rank(torch.eye(5, 9)) == pytest.approx(5.0)
    assert effective_rank(torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 4))) == pytest.approx(1.0)
    assert effective_rank(torch.zeros(3, 3)) is None
    shares = torch.tensor([0.5, 0.25, 0.25])
    assert effective_rank(torch.diag(shares)) == pytest.approx(2**1.5)


def test_rounding_looks_like_sparsity():
    """The same small change moves every float32 weight and hardly any bfloat16 one, so the type is stated."""
    old = {"w": torch.linspace(1, 2, 1000)}
    new = {"w": old["w"] + 1e-4}
    full = next(weights_moved(old, new))
    half = next(weights_moved({"w": old["w"].bfloat16()}, {"w": new["w"].bfloat16()}))
    assert (full.sparsity, full.dtype) == (0.0, "float32")
    assert (half.sparsity > 0.9, half.dtype) == (True, "bfloat16")


def test_layers_are_rows_in_the_models_order():
    names = ["lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"]
    names += [f"model.layers.{i}.mlp.{part}.weight" for i in (10, 2) for part in ("up_proj", "down_proj")]
    old = {name: torch.ones(2, 2) for name in names}
    new = {name: torch.full((2, 2), 1.5) for name in names}
    found = by_layer(list(weights_moved(old, new)))
    assert [row.name for row in found] == [
        "model.embed_tokens.weight", "model.layers.2", "model.layers.10", "lm_head.weight", "model.norm.weight",
    ]  # fmt: skip
    assert (found[1].parameters, found[1].relative_norm) == (8, pytest.approx(0.5))


def test_other_weights_are_refused():
    w = torch.ones(2, 2)
    with pytest.raises(ArtifactError, match="different models"):
        list(weights_moved({"w": w}, {"v": w}))
    with pytest.raises(ArtifactError, match="stored differently"):
        list(weights_moved({"w": w}, {"w": w.bfloat16()}))
    with pytest.raises(ArtifactError, match="stored differently"):
        list(weights_moved({"w": w}, {"w": torch.ones(2, 3)}))
    with pytest.raises(ConfigError, match="at least 0"):
        list(weights_moved({"w": w}, {"w": w}, tolerance=-1))
