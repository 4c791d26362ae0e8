"""Presets by size, and the sizes that follow from a shape alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.feed_forward_kinds import BlockDense, BlockShuffle, Dense, LowRank
from trainer_hooks.model import Decoder, count_parameters
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.model_presets import SHAPES, SIZES, TOLERANCE
from trainer_hooks.model_size import flops_per_token, parameter_count


def preset(name: str, vocabulary: int = 8192, **fields) -> ModelConfig:
    return validated(ModelConfig, {"preset": name, "vocabulary": vocabulary, **fields}, "test")


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_has_the_size_of_its_name(name):
    config = preset(name)
    with torch.device("meta"):
        assert count_parameters(Decoder(config, seed=None)) == parameter_count(config)
    assert abs(parameter_count(config) - SIZES[name]) <= 0.13 * SIZES[name]


@given(st.sampled_from(list(SIZES)), st.integers(2, 300_000))
@settings(max_examples=60, deadline=None)
def test_any_vocabulary_gives_the_nearest_shape_or_a_refusal(name, vocabulary):
    counts = {shape: parameter_count(ModelConfig(vocabulary=vocabulary, **shape._asdict())) for shape in SHAPES}
    nearest = min(abs(count - SIZES[name]) for count in counts.values())
    if nearest > TOLERANCE * SIZES[name]:
        with pytest.raises(ConfigError, match="take a smaller vocabulary or another preset"):
            preset(name, vocabulary)
    else:
        assert abs(parameter_count(preset(name, vocabulary)) - SIZES[name]) == nearest


def test_known_shapes():
    gpt2, medium, llama = preset("124M", 50_304), preset("350M", 50_304), preset("1B", 50_304)
    assert (gpt2.layers, gpt2.hidden, gpt2.heads, gpt2.intermediate) == (12, 768, 12, 2048)
    assert (medium.layers, medium.hidden) == (24, 1024)
    assert (llama.layers, llama.hidden, llama.heads, llama.kv_heads, llama.intermediate) == (16, 2048, 32, 8, 8192)


def test_what_is_given_beside_a_preset_stays():
    config = preset("10M", layers=3, qk_norm=True, context=4096)
    assert (config.layers, config.hidden, config.qk_norm, config.context) == (3, 320, True, 4096)
    assert ModelConfig.model_validate(config.model_dump()) == config
    assert parameter_count(preset("10M", tied=False)) == pytest.approx(10e6, rel=TOLERANCE)


def test_presets_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="no preset '10m'; did you mean '10M'"):
        preset("10m")
    with pytest.raises(ValidationError, match="10M needs a vocabulary"):
        ModelConfig.model_validate("10M")
    with pytest.raises(ConfigError, match="greater than or equal to 2"):
        preset("10M", 1)


@pytest.mark.parametrize("feed_forward", [Dense(), LowRank(rank=7), BlockDense(rank=8), BlockShuffle(blocks=2)])
@pytest.mark.parametrize("shape", [{}, {"tied": False}, {"kv_heads": 1, "qk_norm": True}, {"head_size": 96}])
def test_counts_are_those_of_the_built_model(shape, feed_forward):
    config = ModelConfig(vocabulary=100, feed_forward=feed_forward, **shape)
    with torch.device("meta"):
        assert parameter_count(config) == count_parameters(Decoder(config, seed=None))


@pytest.mark.parametrize("feed_forward", [Dense(), BlockDense(rank=8), BlockShuffle(blocks=2)])
def test_flops_are_those_of_the_matrix_products(feed_forward):
    """Torch's own counter sees the same, apart from attention, which the convention counts for the whole square."""
    from torch.utils.flop_counter import FlopCounterMode

    config = ModelConfig(vocabulary=64, layers=2, kv_heads=1, feed_forward=feed_forward)
    model, ids = Decoder(config), torch.randint(0, 64, (3, 33))
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
    assert counter.get_total_flops() / 96 == flops_per_token(config, 32)
