"""What of an engine's settings reaches vLLM, what reaches the identity, and what its failures say."""

import json
from importlib.util import find_spec

import pytest

from corpus.config import validated
from corpus.errors import ConfigError
from rephrase import vllm_settings
from rephrase.context_length import longest_context
from rephrase.vllm_problems import death_problem, start_problem
from rephrase.vllm_settings import (
    Speculation,
    VllmSettings,
    arithmetic,
    engine_arguments,
    engine_environment,
    has_bfloat16,
)


def settings(**given):
    return validated(VllmSettings, given, "recipe")


def test_settings_are_closed_and_the_processor_check_answers():
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        settings(modle="x")
    with pytest.raises(ConfigError, match="lookup_min 5 is above lookup_max 4"):
        settings(speculation={"lookup_min": 5})
    assert has_bfloat16() in (True, False)


def test_only_what_changes_texts_is_in_the_identity():
    plain = arithmetic(settings(dtype="float32"))
    speed = {"max_concurrent": 3, "prefix_caching": False, "tensor_parallel": 2, "data_parallel": 2, "threads": 1}
    assert arithmetic(settings(dtype="float32", max_batched_tokens="8K", eager=False, **speed)) == plain == "float32"
    assert arithmetic(settings(dtype="float16", quantization="fp8")) == "float16-fp8"
    assert arithmetic(settings(dtype="float32", speculation={})) == "float32-ngram-6-2-4"
    assert arithmetic(settings(dtype="float32", speculation={"method": "suffix", "tokens": 32})) == "float32-suffix-32"


@pytest.mark.parametrize("gpu", [False, True])
def test_the_machine_fills_what_is_left_open(monkeypatch, gpu):
    monkeypatch.setattr(vllm_settings, "has_gpu", lambda: gpu)
    arguments = engine_arguments(settings(), max_context=2_000)
    assert arguments["enforce_eager"] is not gpu
    assert arguments["enable_prefix_caching"] is True
    assert arguments["max_model_len"] == 2_000
    assert arguments["max_num_seqs"] == (2_048 if gpu else 64)
    assert arguments.get("max_num_batched_tokens") == (16_384 if gpu else None)
    assert arguments.get("gpu_memory_utilization") == (0.9 if gpu else None)
    assert not {"speculative_config", "quantization"} & set(arguments)
    told = settings(max_concurrent=7, max_batched_tokens="8K", eager=gpu, quantization="fp8", speculation={"tokens": 8})
    arguments = engine_arguments(told, max_context=2_000)
    assert (arguments["max_num_seqs"], arguments["max_num_batched_tokens"]) == (7, 8_000)
    assert (arguments["enforce_eager"], arguments["quantization"]) == (gpu, "fp8")
    assert arguments["speculative_config"] == {
        "method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_min": 2, "prompt_lookup_max": 4,
    }  # fmt: skip


def test_engines_beside_each_other_share_the_processors(monkeypatch):
    monkeypatch.setattr(vllm_settings, "has_gpu", lambda: False)
    monkeypatch.setattr(vllm_settings.os, "sched_getaffinity", lambda _: set(range(12)))
    threads = {
        (given.get("data_parallel"), given.get("tensor_parallel")): engine_environment(settings(**given))
        for given in ({}, {"data_parallel": 4}, {"data_parallel": 2, "tensor_parallel": 3}, {"data_parallel": 50})
    }
    assert [found["OMP_NUM_THREADS"] for found in threads.values()] == ["12", "3", "2", "1"]
    assert engine_environment(settings(threads=5, data_parallel=4))["OMP_NUM_THREADS"] == "5"


@pytest.mark.skipif(not find_spec("vllm"), reason="needs vLLM")
@pytest.mark.slow
def test_every_argument_is_one_of_the_installed_vllm():
    from dataclasses import fields

    from vllm.config import SpeculativeConfig
    from vllm.engine.arg_utils import EngineArgs

    told = settings(quantization="fp8", max_batched_tokens="8K", speculation={})
    assert set(engine_arguments(told, max_context=2_000)) <= {field.name for field in fields(EngineArgs)}
    for method in ("ngram", "suffix"):
        known = {field.name for field in fields(SpeculativeConfig)}
        assert set(Speculation(method=method).arguments()) <= known


# --- context ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 4.0}}, 8192),
        ({"max_position_embeddings": 131072, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 131072),
        ({"max_position_embeddings": 131072, "rope_parameters": {"rope_type": "llama3", "factor": 8}}, 131072),
        (
            {
                "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope"},
            },
            4096,
        ),
    ],
)  # fmt: skip
def test_the_context_is_what_the_models_configuration_says(tmp_path, config, most):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert longest_context(tmp_path, wanted=None) == most
    assert longest_context(tmp_path, wanted=512) == 512


def test_a_context_that_cannot_be_had_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 2048}')
    with pytest.raises(ConfigError, match=r"(?s)max_context is 4,000.*at most 2,048"):
        longest_context(tmp_path, wanted=4_000)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not say how long"):
        longest_context(tmp_path, wanted=None)
    assert longest_context(tmp_path, wanted=4_000) == 4_000


# --- failures --------------------------------------------------------------------------------------------------------

SAID = [
    ("CUDA out of memory. Tried to allocate 20.00 MiB", "does not fit into memory", "lower max_context"),
    ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", "fit into memory", "max_concurrent"),
    ("Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired", "into memory", "gpu_memory is 0.9"),
    (
        "To serve at least one request with the model's max seq len (131072), 16.0 GiB KV cache is needed, which is "
        "larger than the available KV cache memory (1.0 GiB).",
        "attention states",
        "lower max_context",
    ),
    ("Arctic Inference is required for suffix decoding.", "suffix decoding is not installed", "method: ngram"),
    ("Unknown quantization method: fp8x. Must be one of", "cannot quantise", "leave quantization out"),
    ("something else", "did not start with", "read the end of that log"),
]


@pytest.mark.parametrize(("said", "what", "fix"), SAID)
def test_an_engine_that_does_not_start_says_what_to_change(tmp_path, said, what, fix):
    log = tmp_path / "log"
    log.write_text("CUDA out of memory in an earlier run\n")
    since = log.stat().st_size
    direct = start_problem(RuntimeError(said), settings(), log, since=since)
    assert what in direct.what
    assert fix in direct.fix
    assert direct.where == str(log)
    assert said[:40] in direct.found
    with log.open("a") as file:
        file.write(f"(Worker) {said}\n")
    assert what in start_problem(RuntimeError("WorkerProc failed"), settings(), log, since=since).what


def test_an_engine_that_dies_says_whether_memory_was_the_reason(tmp_path):
    assert "out of memory" in death_problem(RuntimeError("CUDA out of memory"), settings(), tmp_path / "log").what
    other = death_problem(RuntimeError("no"), settings(), tmp_path / "log")
    assert "out of memory" not in other.what
    assert "run the same command again" in other.fix
