"""A model is loaded from an export, a run and its averages, or a checkpoint, and what does not fit is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.export import llama_config
from trainer_hooks.loading import llama_model_config, load_model, weights_in
from trainer_hooks.model import Decoder


def write_export(folder, model, dtype=torch.float32):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in unique_tensors(model).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(llama_config(model.config, 0)))
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize("tied", [True, False])
def test_an_export_loads_with_its_weights_and_leaves_the_random_numbers_alone(tiny, tmp_path, tied):
    config = tiny.model.model_copy(update={"tied": tied})
    model = Decoder(config, seed=3)
    write_export(tmp_path / "export", model)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = load_model(tmp_path / "export")
    assert torch.equal(torch.get_rng_state(), before)
    assert found.config == config.model_copy(update={"kv_heads": config.key_heads})
    assert found.tokenizer == tmp_path / "export" / "tokenizer.json"
    assert not found.model.training
    ids = torch.arange(12)[None]
    assert torch.equal(found.model(ids), model(ids))
    assert list(weights_in(tmp_path / "export")) == ["raw"]


def test_what_is_no_model_of_ours_is_refused(tiny, tmp_path):
    with pytest.raises(ArtifactError, match="there is no model"):
        load_model(tmp_path)
    model = Decoder(tiny.model)
    write_export(tmp_path / "export", model)
    with pytest.raises(ConfigError, match="has no weights 'ema'"):
        load_model(tmp_path / "export", "ema")
    data = llama_config(tiny.model, 0)
    (tmp_path / "export" / "config.json").write_text(json.dumps({**data, "intermediate_size": 96}))
    with pytest.raises(ArtifactError, match=r"mlp\.down_proj\.weight"):
        load_model(tmp_path / "export")
    for change in ({"model_type": "gpt2"}, {"attention_bias": True}, {"rope_parameters": {"rope_type": "yarn"}}):
        with pytest.raises(
            ConfigError, match=f"no such {'rope_scaling' if 'rope_parameters' in change else next(iter(change))}"
        ):
            llama_model_config({**data, **change}, "config.json")
