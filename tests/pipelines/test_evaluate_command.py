"""`gradatim evaluate` and `gradatim compare`: exports, a run's raw and averaged weights, answers kept and compared."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from corpus.artifacts import describe_part, finish
from corpus.errors import GradatimError
from corpus.tokenizer import load_encoder
from corpus.tokens import DOCS_SCHEMA, as_token_ids, docs_path, write_token_shard
from pipelines.cli import app
from tests.trainer_hooks.conftest import TINY, build_workspace, make_plan
from tests.trainer_hooks.language_models import SENTENCES, VOCABULARY, write_language_model, write_tokenizer
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.evaluation import evaluate as evaluate_loss
from trainer_hooks.loading import load_model
from trainer_hooks.trainer import train

AVERAGES = {"six": {"kind": "ema", "last": 3, "window": 8 * 64}}


def gradatim(*arguments):
    """The standard output of a command in this process; its errors are raised."""
    ended = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=True)
    if isinstance(ended.exception, GradatimError):
        raise ended.exception
    assert ended.exception is None, ended.exception
    return ended.stdout


def write_questions(folder):
    """Pairs made of the sentences of the tokenizer and their reversals, and questions of three options."""
    pairs = [
        {"sentence_good": text, "sentence_bad": " ".join(text.split()[::-1]), "UID": "word_order", "pairID": str(i)}
        for i, text in enumerate(SENTENCES)
    ]
    questions = [
        {"query": f"In the year {1990 + i} water boils at", "choices": ["100 degrees", "night", "zero"], "gold": i % 3,
         "id": f"q{i}", "document": f"page-{i // 5}"}
        for i in range(20)
    ]  # fmt: skip
    for name, lines in (("pairs", pairs), ("physics", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_heldout(folder, tokenizer):
    """An artifact of tokens with a shard a source."""
    encoder = load_encoder(tokenizer)
    for source, texts in (("books", SENTENCES[:2]), ("web", SENTENCES[2:])):
        documents = [np.append(ids, encoder.end_of_text) for ids in encoder.encode(list(texts))]
        lengths = [len(one) for one in documents]
        rows = {
            "id": [f"{source}{i}" for i in range(len(texts))], "start": np.cumsum([0, *lengths[:-1]]),
            "length": lengths, "source": [source] * len(texts), "n_bytes": [len(text.encode()) for text in texts],
        }  # fmt: skip
        shard = folder / f"{source}-00000-000.npy"
        write_token_shard(shard, as_token_ids(np.concatenate(documents), VOCABULARY), pa.table(rows, DOCS_SCHEMA))
    parts = [
        describe_part(folder, path) for shard in sorted(folder.glob("*.npy")) for path in (shard, docs_path(shard))
    ]
    finish(folder, kind="tokens", name="heldout", fingerprint="h", config={}, inputs=[], parts=parts, totals={})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two models, a workspace with a run and a held-out set, and files of questions."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_questions(folder)
    for seed, name in enumerate(("a", "b")):
        write_language_model(folder / name, seed=seed)
    root = folder / "workspace"
    write_heldout(root / "heldout", write_tokenizer(root / "tokenizer" / "tokenizer.json"))
    made = build_workspace(folder / "order")
    config = TINY.model_copy(update={"vocabulary": VOCABULARY})
    train(made.order, made.arrays, {}, config, make_plan(average=AVERAGES), root / "runs" / "tiny", device="cpu")
    files = [folder / "physics.jsonl", folder / "pairs.jsonl"]
    return SimpleNamespace(folder=folder, root=root, run=root / "runs" / "tiny", files=files)


def test_a_model_is_evaluated_and_its_answers_are_kept(place, tmp_path):
    a = place.folder / "a"
    shown = gradatim("evaluate", a, *place.files, "-o", tmp_path / "out", "--neutral", "Answer:")
    for words in ("physics", "word_order", "higher is", "lower is", "items-1", "±"):
        assert words in shown
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    physics, pairs = data["weights"]["raw"]["tasks"]
    assert (physics["task"], physics["questions"], physics["chance"]) == ("physics", 20, pytest.approx(1 / 3))
    assert (pairs["task"], pairs["questions"], pairs["chance"]) == ("word_order", 4, 0.5)
    lines = [json.loads(line) for line in (tmp_path / "out" / "raw.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [f"q{i}" for i in range(20)] + ["0", "1", "2", "3"]
    right = [line["chosen"]["raw"] == line["gold"] for line in lines[:20]]
    assert physics["accuracy"]["raw"] == pytest.approx(np.mean(right))
    small = json.loads(gradatim("evaluate", a, *place.files, "--neutral", "Answer:", "--batch-tokens", 40, "--json"))
    assert small["weights"]["raw"]["tasks"][0]["bits_per_byte"] == pytest.approx(physics["bits_per_byte"], abs=1e-5)


def test_raw_and_averaged_weights_of_a_run_are_evaluated_alike_and_left_as_they_are(place):
    before = {path: path.stat().st_mtime_ns for path in place.run.rglob("*") if path.is_file()}
    found = json.loads(
        gradatim("evaluate", place.run, place.files[1], "--held-out", "heldout", "-w", place.root, "--json")
    )
    assert list(found["weights"]) == ["raw", "six"]
    for name, result in found["weights"].items():
        model = load_model(place.run, name).model
        for source in ("books", "web"):
            heldout = HeldOut.from_shards([place.root / "heldout" / f"{source}-00000-000.npy"])
            expected = evaluate_loss(model, heldout, 16, 4)  # the run's own sequence length
            assert result["losses"][source]["nats_per_token"] == pytest.approx(expected.nats_per_token, abs=1e-6)
            assert result["losses"][source]["standard_error"] == pytest.approx(expected.standard_error, rel=1e-4)
    raw, six = (result["tasks"][0]["bits_per_byte"] for result in found["weights"].values())
    assert raw != six
    assert {path: path.stat().st_mtime_ns for path in place.run.rglob("*") if path.is_file()} == before
    shown = gradatim("evaluate", place.run, "--held-out", place.root / "heldout", "--weights", "six")
    assert "six" in shown
    assert "raw" not in shown


def test_models_together_are_never_worse_than_their_mean_member(place, tmp_path):
    first, second = (str(place.folder / name) for name in ("a", "b"))
    asked = [first, place.files[0], "--held-out", "heldout", "-w", place.root, "--json"]
    found = json.loads(gradatim("evaluate", *asked, "--together", second, "-o", tmp_path))["weights"]
    assert list(found) == [first, second, "together"]
    for source in ("books", "web"):
        a, b, both = (found[name]["losses"][source]["nats_per_token"] for name in found)
        assert both <= (a + b) / 2
    alone = json.loads(gradatim("evaluate", *asked, "--weights", "raw"))["weights"]["raw"]
    assert found[first]["losses"] == alone["losses"]
    assert (tmp_path / "together.jsonl").exists()
    with pytest.raises(GradatimError, match="named twice"):
        gradatim("evaluate", *asked, "--together", first)


def test_two_sets_of_answers_are_compared_one_by_one(place, tmp_path):
    for name in ("a", "b"):
        gradatim("evaluate", place.folder / name, *place.files, "-o", tmp_path / name)
    sides = tmp_path / "a" / "raw.jsonl", tmp_path / "b" / "raw.jsonl"
    found = json.loads(gradatim("compare", *sides, "--by", "per_byte", "--json"))
    assert [row["task"] for row in found["tasks"]] == ["physics", "word_order", "all"]
    whole = found["tasks"][-1]
    flips = whole["changes"]["flips"]
    assert flips["new_accuracy"] - flips["old_accuracy"] == pytest.approx(flips["positive"] - flips["negative"])
    assert whole["score"]["clusters"] == 4 + 4  # four pages of five questions, and four pairs
    assert found == json.loads(gradatim("compare", *sides, "--by", "per_byte", "--json"))
    asked = [option for path in place.files for option in ("--items", path)]
    models = json.loads(
        gradatim("compare", place.folder / "a", place.folder / "b", *asked, "--by", "per_byte", "--json")
    )
    assert [row["changes"]["flips"] for row in models["tasks"]] == [row["changes"]["flips"] for row in found["tasks"]]
    assert {row["dtype"] for row in models["weights_moved"]} == {"float32"}
    assert "not distinguishable" in gradatim("compare", sides[0], sides[0])


def test_raw_and_averaged_weights_of_one_run_are_compared(place):
    shown = gradatim("compare", place.run, place.run, "--weights", "raw", "--weights", "six", "--items", place.files[0])
    assert "(raw)" in shown
    assert "(six)" in shown
    assert "effective rank" in shown
    assert "stored as float32" in shown
    assert "model.layers.1" in shown


def test_what_is_left_out_is_counted_and_named(place, tmp_path):
    lines = place.files[0].read_text().splitlines()
    lines[3] = lines[3].replace("water boils", "water boils and boils" * 20)
    path = tmp_path / "physics.jsonl"
    path.write_text("\n".join([*lines, "{"]) + "\n")
    shown = gradatim("evaluate", place.folder / "a", path)
    assert "that are no questions: 1" in shown
    assert "physics.jsonl, line 21: no JSON" in shown
    assert "do not fit the context of raw: 1" in shown
    assert "physics q3" in shown
    with pytest.raises(GradatimError, match="line 21"):
        gradatim("evaluate", place.folder / "a", path, "--strict")


def test_what_does_not_fit_together_is_refused(place, tmp_path):
    a, physics = place.folder / "a", place.files[0]
    gradatim("evaluate", a, physics, "-o", tmp_path / "a")
    answers = tmp_path / "a" / "raw.jsonl"
    changed = tmp_path / "physics.jsonl"
    changed.write_text(physics.read_text().replace('"gold": 2', '"gold": 1'))
    gradatim("evaluate", a, changed, "-o", tmp_path / "other")
    other = tmp_path / "other" / "raw.jsonl"
    for arguments, message in (
        (("evaluate", a), "nothing to evaluate on"),
        (("evaluate", place.run, physics, "--weights", "sma"), "no weights 'sma'"),
        (("evaluate", tmp_path, physics), "there is no model"),
        (("evaluate", a, physics, physics), "is in two files"),
        (("evaluate", a, physics, "--chance", "dclm"), "no chance table"),
        (("evaluate", a, physics, "--precision", "fp8"), "no precision"),
        (("evaluate", a, physics, "--tokenizer", tmp_path / "none.json"), "cannot read this tokenizer"),
        (("evaluate", a, "--held-out", "tokens", "-w", place.root), "no finished artifact 'tokens'"),
        (("compare", answers, other), "not the same on both sides"),
        (("compare", answers, a), "has to be asked"),
        (("compare", answers, answers, "--by", "pmi"), "no rule 'pmi'"),
        (("compare", answers, tmp_path / "a" / "none.jsonl", "--items", physics), "there is no model"),
    ):
        with pytest.raises(GradatimError, match=message):
            gradatim(*arguments)


def test_a_tokenizer_or_held_out_set_of_another_model_is_refused(place, tmp_path):
    write_language_model(tmp_path, vocab_size=300)
    with pytest.raises(GradatimError, match="more ids than the model"):
        gradatim("evaluate", tmp_path, place.files[0])
    with pytest.raises(GradatimError, match="of another tokenizer"):
        gradatim("evaluate", tmp_path, "--held-out", place.root / "heldout")


def test_any_causal_model_of_transformers_is_evaluated(place, tmp_path):
    theirs = write_language_model(tmp_path, "gpt2")
    found = json.loads(gradatim("evaluate", tmp_path, place.files[1], "--held-out", place.root / "heldout", "--json"))
    result = found["weights"]["raw"]
    assert result["tasks"][0]["questions"] == 4
    tokens = np.load(place.root / "heldout" / "web-00000-000.npy").astype(np.int64)
    ids = torch.from_numpy(tokens)[None]
    with torch.no_grad():
        logits = theirs(ids[:, :-1]).logits[0].double()
    nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item()
    assert result["losses"]["web"]["nats_per_token"] == pytest.approx(nats, abs=1e-4)
