"""Embedding raters: unit vectors as transformers gives them, means of examples fitted once, cosines from the means."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `hf`")

import torch

from corpus.errors import ArtifactError, InputError
from raters.embedding import CENTROIDS, EmbeddingSettings
from tests.raters.tiny_models import classifier, desk, pages, plain, rate, save_model

DATA = Path(os.environ.get("GRADATIM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def examples(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return {"files": [str(path)]}


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "m", "AutoModel", "bert")


def settings(tmp_path, folder, **given):
    sides = {"positives": examples(tmp_path / "p.jsonl", pages()[:7])} | given
    return EmbeddingSettings(model=str(folder), device="cpu", **sides)


def embedded(folder, texts, pooling):
    tokenizer, model = plain(folder, "AutoModel")
    vectors = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")["input_ids"]
            states = model(input_ids=ids).last_hidden_state[0].double()
            vectors.append(states.mean(dim=0) if pooling == "mean" else states[0])
    return np.stack([(vector / vector.norm()).numpy() for vector in vectors])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_transformers_text_by_text(tmp_path, folder, pooling):
    rater = settings(tmp_path, folder, pooling=pooling).rater("near", desk(tmp_path, "near"))
    vectors, cut = rater.embedder.embed(list(pages()))
    np.testing.assert_allclose(vectors, embedded(folder, pages(), pooling), atol=1e-5)
    assert cut == sum(len(plain(folder, "AutoModel")[0](text)["input_ids"]) > 256 for text in pages()) > 0


def test_the_score_is_the_cosine_with_one_mean_minus_that_with_the_other(tmp_path, folder):
    negatives = examples(tmp_path / "n.jsonl", [*pages()[7:20], " "])
    rater = settings(tmp_path, folder, negatives=negatives).rater("near", desk(tmp_path, "near"))
    vectors = embedded(folder, pages(), "mean")
    good, bad = (part.mean(axis=0) / np.linalg.norm(part.mean(axis=0)) for part in (vectors[:7], vectors[7:20]))
    found = rate(rater, [*pages(), None, "\n"]).column("near").to_pylist()
    np.testing.assert_allclose(found[:-2], vectors @ good - vectors @ bad, atol=1e-5)
    assert found[-2:] == [None, None]
    assert (rater.scores[0].low, rater.scores[0].high) == (-2, 2)
    alone = settings(tmp_path, folder).rater("near", desk(tmp_path / "other", "near"))
    np.testing.assert_allclose(rate(alone, pages()).column(0).to_pylist(), vectors @ good, atol=1e-5)
    assert (alone.scores[0].low, alone.scores[0].high) == (-1, 1)


def test_means_are_fitted_once_and_again_for_other_examples_or_another_model(tmp_path, folder):
    at = desk(tmp_path, "near")
    first = settings(tmp_path, folder).rater("near", at)
    path = Path(first.centroids)
    before = path.stat().st_mtime_ns
    assert settings(tmp_path, folder).rater("near", at) == first
    assert path.stat().st_mtime_ns == before
    other_model = save_model(tmp_path / "m2", "AutoModel", "bert", seed=2)
    second = settings(tmp_path, other_model).rater("near", at)
    third = settings(tmp_path, other_model, positives=examples(tmp_path / "q.jsonl", pages()[9:12])).rater("near", at)
    assert len({rater.checksum for rater in (first, second, third)}) == 3
    with pytest.raises(ArtifactError, match="fitted means were changed"):
        rate(first, ["text"])
    assert path.name == CENTROIDS


def test_windows_reach_the_end_of_a_long_text(tmp_path, folder):
    long = " ".join(pages()[:8])
    opening, whole = (
        settings(tmp_path, folder, windows=windows, max_length=32).rater("near", desk(tmp_path, "near"))
        for windows in ("truncate", "average")
    )
    (first, _), (second, cut) = (
        opening.embedder.embed([long, long + pages()[9]]),
        whole.embedder.embed([long, long + pages()[9]]),
    )
    np.testing.assert_array_equal(first[0], first[1])
    assert np.abs(second[0] - second[1]).max() > 1e-3
    assert cut == 0


def test_a_classifiers_folder_will_do_and_examples_without_tokens_will_not(tmp_path):
    rater = settings(tmp_path, classifier(tmp_path / "c")).rater("near", desk(tmp_path, "near"))
    assert rate(rater, ["text"]).column(0).null_count == 0
    blank = settings(tmp_path, tmp_path / "c", positives=examples(tmp_path / "b.jsonl", ["\a"]))
    with pytest.raises(InputError, match="positives of this rater hold no text"):
        blank.rater("near", desk(tmp_path / "o", "near"))


@pytest.mark.slow
@pytest.mark.skipif("GRADATIM_ENCODER" not in os.environ, reason="GRADATIM_ENCODER names no sentence-embedding folder")
@pytest.mark.skipif(not (DATA / "corpus").is_dir(), reason="the corpus is not here")
def test_a_real_model_tells_textbooks_from_film_reviews(tmp_path):
    def texts(name, start):
        with gzip.open(DATA / "corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"] for _, line in zip(range(start + 40), lines, strict=False)][start:]

    sides = {
        "positives": examples(tmp_path / "p.jsonl", texts("openstax", 0)),
        "negatives": examples(tmp_path / "n.jsonl", texts("imdb", 0)),
    }
    rater = settings(tmp_path, os.environ["GRADATIM_ENCODER"], **sides).rater("near", desk(tmp_path, "near"))
    books, reviews = (np.array(rate(rater, texts(name, 200)).column(0).to_pylist()) for name in ("openstax", "imdb"))
    auc = (books[:, None] > reviews).mean()
    assert auc > 0.98
