"""Losses of sets are sums over their documents, whichever way they are taken; questions are scored one by one."""

import json
from math import log

import numpy as np
import pytest
import torch

from corpus.errors import ArtifactError, InputError, TaskError
from pipelines.experiments.item_scores import open_questions
from pipelines.experiments.measuring import curve_of, measured, measures_of
from pipelines.experiments.results import BEST, DOCUMENTS_SCHEMA
from tests.pipelines.experiments.small_study import prepared, run_of, small_study
from trainer_hooks.determinism import matmul_dtype, reproducible
from trainer_hooks.evaluation import evaluate
from trainer_hooks.metrics import METRICS
from trainer_hooks.model import Decoder
from trainer_hooks.objectives.ensemble import Ensemble


@pytest.fixture(scope="module")
def data(study_root):
    return prepared(study_root, small_study(name="measured"))


@pytest.fixture(scope="module")
def settings():
    return run_of(small_study(name="measured"), "shuffled.constant").arm.settings


@pytest.fixture(scope="module")
def models(settings):
    return {f"seed{seed}": Decoder(settings.model, seed) for seed in (1, 2)}


@pytest.fixture(scope="module")
def found(data, settings, models):
    return measured(models.items(), data, settings.plan)


def test_losses_of_sources_are_those_of_an_evaluation(found, data, settings, models):
    plan, sets = settings.plan, data.heldout_sets()
    dtype = matmul_dtype(plan.precision, torch.device("cpu"))
    assert list(found.losses) == [*sorted(set(sets) - {BEST}), BEST]
    for weights, model in models.items():
        for name in set(sets) - {BEST}:
            with reproducible(plan.threads):
                loss = evaluate(model, sets[name], plan.sequence_length, plan.batch_sequences, dtype)
            assert found.losses[name][weights].nats_per_token == pytest.approx(loss.nats_per_token, rel=1e-12)
            assert found.losses[name][weights].bits_per_byte == pytest.approx(loss.bits_per_byte, rel=1e-12)


def test_the_documents_add_up_to_every_set(found, data):
    table, rows = data.heldout_table(), found.documents
    assert rows.schema == DOCUMENTS_SCHEMA
    assert rows["id"].to_pylist() == table["id"].to_pylist() * 2
    best = table["best"].to_numpy(zero_copy_only=False)
    for number, weights in enumerate(("seed1", "seed2")):
        own = rows.slice(number * table.num_rows, table.num_rows)
        assert set(own["weights"].to_pylist()) == {weights}
        nats, predicted, n_bytes = (own[name].to_numpy() for name in ("nats", "n_tokens", "n_bytes"))
        source = np.array(own["source"].to_pylist())
        for name, kinds in found.losses.items():
            mask = best if name == BEST else source == name
            mean = nats[mask].sum() / predicted[mask].sum()
            assert kinds[weights].nats_per_token == pytest.approx(mean, rel=1e-12)
            tokens = table["n_tokens"].to_numpy()[mask].sum()
            bits = mean * tokens / (log(2) * n_bytes[mask].sum())
            assert kinds[weights].bits_per_byte == pytest.approx(bits, rel=1e-12)


def test_models_read_as_one_are_no_worse_than_their_mean(found, data, settings, models):
    together = measured([("pair", Ensemble(list(models.values())))], data, settings.plan)
    for name, kinds in together.losses.items():
        mean = sum(one.nats_per_token for one in found.losses[name].values()) / 2
        assert kinds["pair"].nats_per_token < mean


def test_a_loss_that_is_not_finite_names_its_weights(data, settings):
    model = Decoder(settings.model, 1)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(TaskError, match="not finite") as caught:
        measured([("sma", model)], data, settings.plan)
    assert "of sma weights" in str(caught.value)


def test_nats_of_other_documents_are_refused(data):
    nats = {name: one.predicted() * 2.0 for name, one in data.heldout_sets().items() if name != BEST}
    assert measures_of({"raw": nats}, data).losses["web"]["raw"].nats_per_token == 2.0
    with pytest.raises(ArtifactError, match="held-out documents of web are not those of the table"):
        measures_of({"raw": {**nats, "web": nats["web"][1:]}}, data)


def test_the_curve_is_what_metrics_say_by_place_and_weights(tmp_path):
    lines = [
        {"step": 4, "tokens": 400, "lr": 0.1, "loss": 3.0},
        {"step": 4, "tokens": 400, "heldout": "web", "weights": "raw", "nats_per_token": 2.5, "bits_per_byte": 1.0},
        {"step": 4, "tokens": 400, "heldout": "code", "weights": "raw", "nats_per_token": 2.0, "bits_per_byte": 1.0},
        {"step": 8, "tokens": 800, "heldout": "web", "weights": "raw", "nats_per_token": 2.4, "bits_per_byte": 1.0},
        {"step": 8, "tokens": 800, "heldout": "web", "weights": "sma", "nats_per_token": 2.3, "bits_per_byte": 1.0},
    ]
    (tmp_path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(one.tokens, one.weights, one.losses) for one in curve_of(tmp_path)] == [
        (400, "raw", {"web": 2.5, "code": 2.0}), (800, "raw", {"web": 2.4}), (800, "sma", {"web": 2.3})
    ]  # fmt: skip


def test_questions_are_right_where_the_right_answer_is_likeliest(data, settings, models, tmp_path):
    """With both answers named right in turn, exactly one of each pair of questions is answered rightly."""
    path = tmp_path / "pairs.jsonl"
    asks = [{"query": "The file", "choices": [" is here", " zq"], "gold": gold, "id": f"q{gold}"} for gold in (0, 1)]
    asks.append({"query": "A statement", "choices": [" alone"], "gold": 0, "id": "alone"})
    path.write_text("".join(json.dumps(ask) + "\n" for ask in asks))
    (questions,) = open_questions([path], data.tokenizer_file, settings.model.context)
    found = measured(models.items(), data, settings.plan, [questions])
    assert set(found.items) == set(models)
    for raw, per_byte in found.items.values():
        assert (raw.file, raw.metric, per_byte.metric, raw.n, raw.chance) == ("pairs.jsonl", "raw", "per_byte", 2, 0.5)
        assert (sum(raw.correct), sum(per_byte.correct), raw.accuracy) == (1, 1, 0.5)


def test_files_that_ask_nothing_are_refused(data, settings, models, tmp_path):
    path = tmp_path / "alone.jsonl"
    path.write_text(json.dumps({"query": "A", "choices": [" b"], "gold": 0}) + "\n")
    with pytest.raises(InputError, match="no question of this file has a choice"):
        open_questions([path], data.tokenizer_file, 64)
    path.write_text(json.dumps({"query": "A", "choices": [" word" * 50, " b"], "gold": 0}) + "\n")
    (questions,) = open_questions([path], data.tokenizer_file, 8)
    with pytest.raises(InputError, match=r"no question of alone\.jsonl fits a context of 8 tokens"):
        questions.scores(models["seed1"], torch.float32)
