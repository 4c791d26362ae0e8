"""A model is loaded from an export or a run and its averages, and what does not fit is refused."""

import json

import pytest
import torch

from corpus.errors import ArtifactError, ConfigError
from tests.trainer_hooks.language_models import write_language_model
from trainer_hooks.loading import llama_model_config, load_model, weights_in


@pytest.mark.parametrize(
    ("kind", "tied"), [("llama", True), ("llama", False), ("qwen3", True)], ids=["tied", "free", "qwen3"]
)
def test_a_folder_of_transformers_loads_with_equal_logits_and_leaves_the_random_numbers_alone(tmp_path, kind, tied):
    theirs = write_language_model(tmp_path, kind, tie_word_embeddings=tied)
    before = torch.get_rng_state()
    found = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.config.tied, found.config.key_heads, found.config.context) == (tied, 1, 64)
    assert found.tokenizer == tmp_path / "tokenizer.json"
    assert not found.model.training
    ids = torch.arange(40).view(2, 20)
    torch.testing.assert_close(found.model(ids), theirs(ids).logits, rtol=1e-4, atol=1e-5)
    assert list(weights_in(tmp_path)) == ["raw"]


def test_what_is_no_model_of_ours_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="there is no model"):
        load_model(tmp_path)
    write_language_model(tmp_path)
    with pytest.raises(ConfigError, match="has no weights 'ema'"):
        load_model(tmp_path, "ema")
    data = json.loads((tmp_path / "config.json").read_text())
    changes = {
        "model_type": "gpt2",
        "attention_bias": True,
        "hidden_act": "gelu",
        "rope_scaling": {"rope_type": "yarn", "factor": 4},
    }
    for field, value in changes.items():
        with pytest.raises(ConfigError, match=f"has no such {field}"):
            llama_model_config({**data, field: value}, "config.json")
    (tmp_path / "config.json").write_text(json.dumps({**data, "intermediate_size": 128}))
    with pytest.raises(ArtifactError, match=r"mlp\.down_proj\.weight"):
        load_model(tmp_path)
