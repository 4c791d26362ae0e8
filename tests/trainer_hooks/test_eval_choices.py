"""Likelihoods equal those of transformers; rules, ties, chance and summaries are as they say."""

import json
from math import log

import numpy as np
import pytest
import torch

from corpus.errors import ConfigError, InputError
from corpus.tokenizer import load_encoder
from tests.trainer_hooks.language_models import SENTENCES, write_language_model
from trainer_hooks.evals.answers import read_answers, write_answers
from trainer_hooks.evals.choices import (
    CHANCE_OF_ITEMS,
    Answer,
    answer,
    centred,
    chance_table,
    standard_error,
    summarise,
)
from trainer_hooks.evals.items import Item
from trainer_hooks.evals.likelihood import Likelihood, Likelihoods, LogitModel, trailing_blanks
from trainer_hooks.loading import load_model

TEXTS = [
    ("The children who live in that house", " have a dog."),
    ("Most glaciers melt in ", "summer"),
    ("", "No dog has ever barked."),
    ("water", "melon"),
    ("  ", "boils"),
    ("A teacher explains:\n", " it freezes at zero 🙂"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def theirs(folder):
    return write_language_model(folder, seed=4)


@pytest.fixture(scope="module")
def likelihoods(theirs, folder):
    loaded = load_model(folder)
    return Likelihoods(loaded.model, load_encoder(loaded.tokenizer), context=64)


def oracle(theirs, likelihoods, context, continuation):
    """log p token by token from transformers' logits, one sequence at a time."""
    before, after = likelihoods.encode(context, continuation)
    with torch.no_grad():
        log_probs = theirs(torch.tensor([before + after])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs[len(before) + i - 1, token]) for i, token in enumerate(after))


def test_likelihoods_equal_those_of_transformers(theirs, likelihoods):
    for text, found in zip(TEXTS, likelihoods.of(TEXTS), strict=True):
        assert found.log_p == pytest.approx(oracle(theirs, likelihoods, *text), abs=1e-4)
        assert found.tokens == len(likelihoods.encode(*text)[1])
        assert found.n_bytes == len((trailing_blanks(text[0]) + text[1]).encode())


@pytest.mark.parametrize("batch_tokens", [1, 30, 100, 10_000])
def test_a_likelihood_does_not_depend_on_its_batch_or_place(likelihoods, batch_tokens):
    small = Likelihoods(likelihoods.model, likelihoods.encoder, 64, batch_tokens)
    expected = [likelihoods.of([text])[0].log_p for text in TEXTS]
    assert [one.log_p for one in small.of(TEXTS)] == pytest.approx(expected, abs=1e-4)
    assert [one.log_p for one in small.of(TEXTS[::-1])] == pytest.approx(expected[::-1], abs=1e-4)


def test_contexts_and_continuations_are_cut_as_running_text(likelihoods):
    encode, plain = likelihoods.encode, lambda text: likelihoods.encoder.encode([text])[0].tolist()
    before, after = encode("Most glaciers melt in ", "summer")
    assert before + after == plain("Most glaciers melt in summer")
    assert before == plain("Most glaciers melt in")
    assert encode("", "water") == ([likelihoods.encoder.end_of_text], plain("water"))
    assert len(plain("The")) == 1  # a token that reaches over the border: the two are encoded apart
    assert encode("T", "he") == (plain("T"), plain("he"))


def test_what_does_not_fit_the_context_is_named_and_the_rest_answered(likelihoods):
    long = Item("t", "long", ((SENTENCES[0] * 5, " a"), (SENTENCES[0] * 5, " b")), 0)
    short = Item("t", "short", (("It", " is"), ("It", " are")), 0)
    found = answer(likelihoods, [long, short])
    assert found.too_long == ("t long",)
    assert [one.name for one in found.answers] == ["short"]
    before, after = likelihoods.encode(*short.options[0])
    for context, fits in ((len(before) + len(after) - 1, True), (len(before) + len(after) - 2, False)):
        one = Likelihoods(likelihoods.model, likelihoods.encoder, context).of([short.options[0]])[0]
        assert (one is not None) is fits


def test_any_model_of_logits_is_asked_in_the_same_way(theirs, likelihoods):
    other = Likelihoods(LogitModel(theirs, lambda ids: theirs(ids).logits), likelihoods.encoder, 64)
    expected = [one.log_p for one in likelihoods.of(TEXTS)]
    assert [one.log_p for one in other.of(TEXTS)] == pytest.approx(expected, abs=1e-4)


def make(log_ps, gold=0, tokens=None, n_bytes=None, neutral=None, task="t", name="1", document=None):
    n = len(log_ps)
    options = zip(log_ps, tokens or [1] * n, n_bytes or [1] * n, strict=True)
    return Answer(task, name, "key", gold, tuple(Likelihood(*one) for one in options), neutral, document)


def test_each_rule_divides_by_its_own_length():
    one = make([-4.0, -5.0, -6.0], 0, tokens=[1, 2, 2], n_bytes=[4, 4, 12], neutral=(-1.0, -4.0, -4.0))
    assert {rule: one.chosen(rule) for rule in one.rules} == {"raw": 0, "per_token": 1, "per_byte": 2, "pmi": 1}
    assert one.bits_per_byte == pytest.approx(4 / (4 * log(2)))
    with pytest.raises(ConfigError, match="no rule 'rawest'; did you mean 'raw'"):
        one.scores("rawest")
    with pytest.raises(ConfigError, match="no rule 'pmi'"):
        make([-1.0, -2.0]).scores("pmi")


@pytest.mark.parametrize("gold", [0, 1, 2])
def test_a_tie_is_no_right_answer(gold):
    assert not make([-1.0, -1.0, -1.0], gold).right("raw")


def test_a_neutral_context_gives_pointwise_mutual_information(likelihoods):
    item = Item("t", "1", (("The", " dog"), ("The", " has")), 1)
    found = answer(likelihoods, [item], neutral="Answer:").answers[0]
    bare = likelihoods.of([("Answer:", " dog"), ("Answer:", " has")])
    for score, option, other in zip(found.scores("pmi"), found.options, bare, strict=True):
        assert score == pytest.approx(option.log_p - other.log_p)


def test_centred_accuracy_and_standard_errors_follow_the_reference():
    assert centred(0.40, 0.25) == pytest.approx(0.20)
    assert centred(0.20, 0.25) == pytest.approx(-0.0667, abs=5e-5)
    for n, accuracy, points in ((1000, 0.5, 1.6), (2376, 0.6, 1.0), (10042, 0.5, 0.5)):
        assert round(100 * standard_error(accuracy, n), 1) == points
    with pytest.raises(ConfigError, match="below 1"):
        centred(1.0, 1.0)


def test_a_summary_has_a_row_a_task_and_stores_the_chance_tables_version(tmp_path):
    answers = [make([-1.0, -2.0], gold, name=str(gold)) for gold in (0, 1)]
    answers += [make([-1.0, -2.0, -3.0, -4.0], 0, task="u"), make([-1.5], 0, task="v")]
    two, four, single = summarise(answers, CHANCE_OF_ITEMS)
    assert (two.questions, two.accuracy["raw"], two.chance, two.centred_accuracy["raw"]) == (2, 0.5, 0.5, 0.0)
    assert (four.chance, four.chance_version, four.centred_accuracy["per_byte"]) == (0.25, "items-1", 1.0)
    assert (single.choices, single.accuracy, single.chance) == (0, {}, None)
    assert single.bits_per_byte == pytest.approx(1.5 / log(2))
    table = tmp_path / "chance.yaml"
    table.write_text("version: mine-2\nchance: {t: 0.4, u: 0.25}\n")
    mine = chance_table(str(table))
    assert summarise(answers[:2], mine)[0].chance_version == "mine-2"
    assert summarise(answers[:2], mine)[0].centred_accuracy["raw"] == pytest.approx(0.1 / 0.6)
    with pytest.raises(ConfigError, match="has no task 'w'"):
        summarise([make([-1.0, -2.0], task="w")], mine)
    with pytest.raises(ConfigError, match="there is no chance table 'dclm-3'"):
        chance_table("dclm-3")


def test_answers_are_the_same_after_a_file(tmp_path, likelihoods):
    items = [Item("t", str(i), (text, ("Most", " dogs")), i % 2, f"page-{i}") for i, text in enumerate(TEXTS)]
    found = answer(likelihoods, items, neutral="Answer:").answers
    write_answers(tmp_path / "a.jsonl", found)
    assert tuple(read_answers(tmp_path / "a.jsonl")) == found
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [item.name for item in items]
    assert set(lines[0]["chosen"]) == {"raw", "per_token", "per_byte", "pmi"}
    (tmp_path / "a.jsonl").write_text(json.dumps(lines[0]) + "\n{}\n")
    with pytest.raises(InputError, match="line 2"):
        read_answers(tmp_path / "a.jsonl")


def test_a_model_that_knows_nothing_stands_at_chance(likelihoods):
    """Random continuations of equal make under random weights: accuracy within four standard errors of one half."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefgh"))
    words = [" " + "".join(rng.choice(letters, 3)) for _ in range(400)]
    items = [
        Item("t", str(i), (("x", words[2 * i]), ("x", words[2 * i + 1])), int(rng.integers(2)))
        for i in range(200)
        if words[2 * i] != words[2 * i + 1]
    ]
    score = summarise(answer(likelihoods, items).answers, CHANCE_OF_ITEMS)[0]
    assert abs(score.accuracy["raw"] - 0.5) < 4 * score.standard_error["raw"]
