"""A model is loaded from an export or a run and its averages, and what does not fit is refused."""

import json
import shutil

import pytest
import torch

from corpus.errors import ArtifactError, ConfigError
from tests.trainer_hooks.language_models import write_language_model
from trainer_hooks.evaluation import evaluate
from trainer_hooks.loading import llama_model_config, load_model, weights_in
from trainer_hooks.metrics import METRICS, read_lines
from trainer_hooks.trainer import train


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


AVERAGES = {"six": {"kind": "ema", "last": 3, "window": 8 * 64}, "two": {"kind": "sma", "last": 2, "window": 4 * 64}}


def trained(folder, tiny, workspace, **shape):
    config = type(tiny.model).model_validate({**tiny.model.model_dump(), **shape})
    train(
        workspace.order, workspace.arrays, workspace.heldout, config, tiny.plan(average=AVERAGES), folder, device="cpu"
    )
    return folder


@pytest.fixture(scope="module")
def run(tiny, workspace, tmp_path_factory):
    """A finished run with two averages."""
    return trained(tmp_path_factory.mktemp("workspace") / "runs" / "tiny", tiny, workspace)


def check_losses(folder, workspace, names):
    """Evaluating a run's weights gives, to the last digits, what the run measured at its end."""
    for name in names:
        last = [line for line in read_lines(folder / METRICS) if line.get("weights") == name][-1]
        found = evaluate(load_model(folder, name).model, workspace.heldout["web"], 16, 4)
        assert found.nats_per_token == pytest.approx(last["nats_per_token"], abs=1e-6)


def test_the_weights_of_a_run_have_the_losses_that_it_measured(run, workspace):
    assert list(weights_in(run)) == ["raw", "six", "two"]
    check_losses(run, workspace, ["raw", "six", "two"])
    assert weights_in(run)["raw"].name == "step-00000024"
    ids = torch.arange(10)[None]
    assert torch.equal(load_model(weights_in(run)["raw"]).model(ids), load_model(run).model(ids))
    assert torch.equal(load_model(weights_in(run)["two"]).model(ids), load_model(run, "two").model(ids))


def test_a_checkpoint_says_how_far_a_guiding_matrix_is_and_an_average_does_not(tiny, workspace, tmp_path):
    guided = {"kind": "low_rank", "rank": 16, "guided_tokens": 3_000}  # the run has 1,536
    folder = trained(tmp_path / "run", tiny, workspace, feed_forward=guided)
    check_losses(folder, workspace, ["raw"])
    with pytest.raises(ConfigError, match="a dense matrix still guides these weights"):
        load_model(folder, "two")


def test_what_a_matrix_has_guided_loads_without_it(tiny, workspace, tmp_path):
    guided = {"kind": "low_rank", "rank": 16, "guided_tokens": 320}
    folder = trained(tmp_path / "run", tiny, workspace, feed_forward=guided)
    check_losses(folder, workspace, ["raw", "six", "two"])


def test_the_tokenizer_of_a_run_is_in_its_export_or_its_workspace(run):
    assert load_model(run).tokenizer is None
    shared = run.parent.parent / "tokenizer" / "tokenizer.json"
    shared.parent.mkdir()
    shared.write_text("{}")
    assert load_model(run).tokenizer.resolve() == shared.resolve()
    (run / "export").mkdir()
    shutil.copy(shared, run / "export" / "tokenizer.json")
    assert load_model(run).tokenizer == run / "export" / "tokenizer.json"
