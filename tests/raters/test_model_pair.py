"""Two checkpoints: reward and perplexity difference from the likelihoods of each, in bytes where tokenizers differ."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `hf`")

from corpus.errors import ConfigError
from raters.causal_lm import CausalLmSettings
from raters.model_pair import ModelPairSettings, perplexity_drop
from tests.raters.tiny_models import desk, pages, rate, save_model, save_tokenizer

KIND = "AutoModelForCausalLM"


def likelihood_columns(folder, root):
    rated = rate(CausalLmSettings(model=str(folder), device="cpu").rater("lm", desk(root, "lm")), pages())
    return (column.to_numpy().astype(np.float64) for column in rated.columns)


def pair(model, reference, root, **settings):
    asked = ModelPairSettings(model=str(model), reference=str(reference), device="cpu", **settings)
    assert asked.own_process
    rater = asked.rater("pair", desk(root, "pair"))
    rated = rate(rater, [*pages(), None, " ", "e"])
    assert rated.schema.names == [score.name for score in rater.scores]
    assert all("experimental" in score.description for score in rater.scores)
    for column in rated.columns:
        assert column.to_pylist()[-3:] == [None, None, None]
    return (column.to_numpy(zero_copy_only=False)[:-3].astype(np.float64) for column in rated.columns)


def test_golden_perplexity_difference():
    assert perplexity_drop(np.log(20.0), np.log(12.0)) == pytest.approx(0.4)


def test_scores_are_those_of_the_two_models(tmp_path):
    model, reference = (save_model(tmp_path / str(seed), KIND, "llama", seed=seed) for seed in (1, 2))
    bits, nats = likelihood_columns(model, tmp_path)
    _, other_nats = likelihood_columns(reference, tmp_path)
    n_bytes = np.array([len(text.encode()) for text in pages()])
    tokens = np.round(bits * np.log(2) * n_bytes / nats)
    reward, per_token, drop = pair(model, reference, tmp_path, beta=0.5)
    np.testing.assert_allclose(per_token, 0.5 * (other_nats - nats), atol=1e-5)
    np.testing.assert_allclose(reward, 0.5 * (other_nats - nats) * tokens, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(drop, 1 - np.exp(nats) / np.exp(other_nats), rtol=1e-4, atol=1e-5)


def test_a_model_against_itself_is_zero_and_swapping_changes_the_sign(tmp_path):
    model, reference = (save_model(tmp_path / str(seed), KIND, "llama", seed=seed) for seed in (1, 2))
    for column in pair(model, model, tmp_path):
        np.testing.assert_array_equal(column, 0.0)
    forward, backward = (next(iter(pair(*models, tmp_path))) for models in ((model, reference), (reference, model)))
    np.testing.assert_array_equal(forward, -backward)


def test_other_tokenizers_are_compared_by_bytes(tmp_path):
    model, reference = (save_model(tmp_path / str(seed), KIND, "llama", seed=seed) for seed in (1, 2))
    save_tokenizer(reference, "llama", 270)
    bits, nats = likelihood_columns(model, tmp_path)
    other_bits, other_nats = likelihood_columns(reference, tmp_path)
    reward, per_token, drop = pair(model, reference, tmp_path)
    np.testing.assert_allclose(drop, 1 - 2.0**bits / 2.0**other_bits, rtol=1e-4, atol=1e-5)
    assert np.abs(drop - (1 - np.exp(nats - other_nats))).max() > 0.1  # what perplexities a token would have said
    n_bytes = np.array([len(text.encode()) for text in pages()])
    np.testing.assert_allclose(reward, np.log(2) * (other_bits - bits) * n_bytes, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(per_token, nats * (other_bits / bits - 1), rtol=1e-3, atol=1e-4)


def test_a_missing_reference_is_refused(tmp_path):
    model = save_model(tmp_path / "a", KIND, "llama")
    with pytest.raises(ConfigError, match="there is no model"):
        pair(model, tmp_path / "nowhere", tmp_path)
