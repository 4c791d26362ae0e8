"""Encoder raters: each head is its definition, equals transformers run text by text, and refuses what does not fit."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `hf`")

import torch
from pydantic import ValidationError

from corpus.errors import ArtifactError, ConfigError, InputError
from raters.base import counts_of, sidecar_rows
from raters.encoder import EncoderSettings, expected_class
from raters.text_windows import length_batches
from raters.torch_model import load
from tests.raters.tiny_models import classifier, desk, pages, plain, rate, save_model

KIND = "AutoModelForSequenceClassification"
HEADS = {
    "expectation": (6, {}),
    "regression": (1, {}),
    "probability": (2, {"index": 0}),
    "logits": (4, {"labels": ("style", "expertise", "facts", "education")}),
}


def made(folder, root, name="quality", **settings):
    return EncoderSettings(model=str(folder), device="cpu", **settings).rater(name, desk(root, name))


def one_by_one(folder, texts, max_length=512, special_tokens=True):
    """Logits of whole texts, as transformers computes them without padding: shape (n, k)."""
    tokenizer, model = plain(folder, KIND)
    with torch.inference_mode():
        return torch.cat([
            model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt",
                              add_special_tokens=special_tokens, return_token_type_ids=False)).logits
            for text in texts
        ])  # fmt: skip


def values(rated):
    return np.array([column.to_pylist() for column in rated.columns], np.float64).T


def test_the_expected_class_is_not_the_likeliest():
    p = torch.tensor([[0.1, 0.1, 0.2, 0.3, 0.2, 0.1]])
    assert expected_class(p.log() + 7.0).item() == pytest.approx(2.7, abs=1e-6)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
@pytest.mark.parametrize("head", HEADS)
def test_scores_equal_transformers_text_by_text(tmp_path, family, head):
    """Batching by length and padding move no score by more than 1e-5; long texts are cut at max_length."""
    labels, asked = HEADS[head]
    folder = classifier(tmp_path / "m", family, labels)
    rater = made(folder, tmp_path, head=head, max_length=128, batch_tokens=1024, **asked)
    logits = one_by_one(folder, pages(), 128)
    defined = {
        "expectation": (logits.softmax(-1) @ torch.arange(float(labels)))[:, None],
        "regression": logits,
        "probability": logits.softmax(-1)[:, :1],
        "logits": logits,
    }[head]
    found = rate(rater, pages())
    np.testing.assert_allclose(values(found), defined.numpy(), atol=1e-5)
    assert np.ptp(values(found)) > 0.01  # the random model tells texts apart, so the equality says something
    assert 0 < counts_of(found)["truncated"] < len(pages())
    names = [f"quality_{label}" for label in asked.get("labels", ())] or ["quality"]
    assert found.schema.names == names == [score.name for score in rater.scores]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_windows_are_averaged_by_their_tokens(tmp_path, family):
    folder = classifier(tmp_path / "m", family, 4)
    labels = HEADS["logits"][1]["labels"]
    rater = made(folder, tmp_path, head="logits", labels=labels, windows="average", special_tokens=False, max_length=64)
    tokenizer, model = plain(folder, KIND)
    for text, found in zip(pages(), values(rate(rater, pages())), strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        parts = [ids[at : at + 64] for at in range(0, len(ids), 64)]
        with torch.inference_mode():
            logits = [model(input_ids=torch.tensor([part])).logits[0].double().numpy() for part in parts]
        expected = np.average(logits, axis=0, weights=[len(part) for part in parts])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_windows_with_special_tokens_weigh_the_text_only(tmp_path):
    folder = classifier(tmp_path / "m", "bert", 1)
    rater = made(folder, tmp_path, head="regression", windows="average", max_length=16)
    tokenizer, model = plain(folder, KIND)
    ids = tokenizer(pages()[3], add_special_tokens=False)["input_ids"]
    parts = [ids[at : at + 14] for at in range(0, len(ids), 14)]
    with torch.inference_mode():
        scores = [model(input_ids=torch.tensor([[1, *part, 2]])).logits.item() for part in parts]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (1, 2)
    expected = np.average(scores, weights=[len(part) for part in parts])
    assert values(rate(rater, [pages()[3]])).item() == pytest.approx(expected, abs=1e-5)


def test_blank_texts_are_null_and_names_of_special_tokens_are_text(tmp_path):
    folder = classifier(tmp_path / "m", "bert", 1)
    rater = made(folder, tmp_path, head="regression")
    found = rate(rater, [None, "", " \n\t\u2003", "\a", "text", "text [SEP] [PAD]", "text [SEP]"]).column(0).to_pylist()
    assert found[:4] == [None] * 4  # the tokenizer drops control characters
    assert len(set(found[4:])) == 3
    assert rate(rater, [None, ""]).column(0).null_count == 2
    assert rate(rater, []).num_rows == 0
    tokenizer = load(KIND, rater.model, rater.compute).tokenizer
    assert tokenizer.sep_token_id not in tokenizer("text [SEP]", add_special_tokens=False)["input_ids"]


def test_a_model_that_overflows_gives_null(tmp_path):
    folder = classifier(tmp_path / "m", "bert", 1)
    _, model = plain(folder, KIND)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(folder)
    assert rate(made(folder, tmp_path, head="regression"), ["text"]).column(0).to_pylist() == [None]


def test_regression_can_be_cut_to_a_range(tmp_path):
    folder = classifier(tmp_path / "m", "bert", 1)
    open_range, cut = (made(folder, tmp_path, head="regression", clamp=clamp) for clamp in (None, (0, 0.5)))
    before, after = values(rate(open_range, pages())), values(rate(cut, pages()))
    assert before.min() < 0 < 0.5 < before.max()
    np.testing.assert_array_equal(after, np.clip(before, 0, 0.5))
    assert (cut.scores[0].low, cut.scores[0].high) == (0, 0.5)
    assert cut.identity() != open_range.identity()


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 2000))
def test_batches_hold_every_window_once_within_the_budget(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    flat = [i for batch in batches for i in batch]
    assert flat == sorted(flat, key=lambda i: (-lengths[i], i))


def test_same_bytes_again_and_in_another_process(tmp_path):
    rater = made(classifier(tmp_path / "m"), tmp_path, head="expectation", batch_tokens=2048)
    batch = pa.record_batch({"id": [str(i) for i in range(len(pages()))], "text": list(pages())})
    first = sidecar_rows(rater, batch)
    load.cache_clear()
    assert sidecar_rows(pickle.loads(pickle.dumps(rater)), batch).equals(first, check_metadata=True)
    code = (
        "import json, pickle, sys; import pyarrow as pa; rater = pickle.loads(sys.stdin.buffer.read());"
        "from tests.raters.tiny_models import pages, rate;"
        "print(json.dumps([v.hex() for v in rate(rater, pages()).column(0).to_pylist()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(rater), capture_output=True, check=True,
                          timeout=120, env={**os.environ, "OMP_NUM_THREADS": "2"})  # fmt: skip
    assert json.loads(done.stdout) == [value.hex() for value in first.column("quality").to_pylist()]


def test_threads_are_given_back_and_nothing_is_printed(tmp_path, capfd):
    load.cache_clear()
    rater = made(classifier(tmp_path / "m"), tmp_path, head="expectation", threads=2)
    capfd.readouterr()
    before = torch.get_num_threads()
    rate(rater, ["text"])
    assert torch.get_num_threads() == before
    assert capfd.readouterr() == ("", "")


def test_a_run_writes_sidecars_and_counts_what_was_cut(tmp_path):
    folder = classifier(tmp_path / "m")
    at = desk(tmp_path, texts=pages())
    settings = EncoderSettings(model="m", head="expectation", device="cpu", max_length=64)
    [made_scores] = at.rating.scores(at.documents, {"quality": settings})
    rows = pa.concat_tables([pa.parquet.read_table(path) for path in made_scores.files()])
    assert rows.num_rows == len(pages())
    assert made_scores.manifest.totals["truncated"] > 0
    again = made(folder, tmp_path, head="expectation", max_length=64)
    np.testing.assert_allclose(rows.column("quality").to_numpy(), values(rate(again, pages()))[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (6, {"head": "regression"}, "1 output; for classes use head: expectation"),
        (1, {"head": "expectation"}, "2 or more classes; for one number use head: regression"),
        (1, {"head": "probability"}, "one of them number 1"),
        (2, {"head": "probability", "index": 2}, "one of them number 2"),
        (4, {"head": "logits", "labels": ("a", "b")}, "as many outputs as labels, 2"),
        (6, {"head": "expectation", "max_length": 513}, "set max_length: 512"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path, labels, settings, message):
    with pytest.raises(ConfigError, match=message):
        made(classifier(tmp_path / "m", labels=labels), tmp_path, **settings)


def test_settings_that_contradict_each_other_are_refused():
    for settings in ({"head": "regression", "labels": ("a",)}, {"head": "expectation", "clamp": (0, 5)},
                     {"head": "regression", "clamp": (5, 0)}):  # fmt: skip
        with pytest.raises(ValidationError, match=r"labels name|clamp is a range"):
            EncoderSettings(model="m", **settings)


def test_folders_that_are_not_whole_are_refused(tmp_path):
    whole = classifier(tmp_path / "m")

    def without(*patterns):
        shutil.rmtree(tmp_path / "broken", ignore_errors=True)
        return shutil.copytree(whole, tmp_path / "broken", ignore=shutil.ignore_patterns(*patterns))

    with pytest.raises(ConfigError, match="no such folder"):
        made(tmp_path / "nowhere", tmp_path, head="expectation")
    with pytest.raises(ConfigError, match=r"without config\.json"):
        made(without("config.json"), tmp_path, head="expectation")
    with pytest.raises(InputError, match="holds no tokenizer"):
        made(without("tokenizer*"), tmp_path, head="expectation")
    folder = without("*.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match=r"(?s)no weights that are safe.*pytorch_model\.bin.*can run code"):
        made(folder, tmp_path, head="expectation")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="transformers cannot read"):
        rate(made(folder, tmp_path, head="expectation"), ["text"])
    (folder / "config.json").write_text('{"model_type": "unheard_of"}')
    with pytest.raises(InputError, match="transformers cannot read"):
        made(folder, tmp_path, head="expectation")


def test_a_model_without_a_head_gives_no_random_scores(tmp_path):
    folder = save_model(tmp_path / "m", "AutoModel", "bert", num_labels=6)
    with pytest.raises(InputError, match=r"(?s)every part.*classifier\.bias.*head cannot be guessed"):
        rate(made(folder, tmp_path, head="expectation"), ["text"])


def test_another_models_tokenizer_and_a_changed_folder_are_refused(tmp_path):
    small = classifier(tmp_path / "m", vocab_size=200)
    with pytest.raises(InputError, match="belongs to another model"):
        rate(made(small, tmp_path, head="expectation"), ["text"])
    rater = made(classifier(tmp_path / "n"), tmp_path, head="expectation")
    config = json.loads((tmp_path / "n" / "config.json").read_text())
    (tmp_path / "n" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ArtifactError, match="changed or removed"):
        rate(rater, ["text"])


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    folder = classifier(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(InputError, match="transformers cannot read"):
        made(folder, tmp_path, head="expectation")
    assert not (tmp_path / "ran").exists()
