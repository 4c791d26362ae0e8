"""Levels by fastText: the expected level, the evaluation beside the word count, the same bytes, errors that teach."""

import json
import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

pytest.importorskip("fasttext", reason="needs the extra `web`")

from corpus.artifacts import Artifact
from corpus.documents import documents
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating
from pipelines.report import build as report
from pipelines.report.making import footer
from pipelines.report.scores import section
from pipelines.report.workspace import Workspace as ReportWorkspace
from pipelines.runtime import LocalRuntime
from raters.base import sidecar_rows
from raters.fasttext_graded import FastTextGraded, FastTextGradedSettings, GradedEvaluation, train_graded
from raters.fasttext_model import load, prepare
from raters.fasttext_training import TrainingSettings, train
from raters.level_agreement import agreement, nearest_level

SETTINGS = TrainingSettings(dim=8, bucket=2_000, epochs=15, lr=0.5)
WORDS = ("cheap", "plain", "careful", "profound")


def graded(per_level: int = 60, levels: tuple[int, ...] = (0, 1, 2, 3), seed: int = 1) -> tuple[list[str], list[int]]:
    """Texts that say their level by their words and hide it from their length."""
    draw = random.Random(seed)
    texts, given = [], []
    for place, level in enumerate(levels):
        for i in range(per_level):
            filler = draw.choices("abcdefghij", k=draw.randrange(5, 25))
            texts.append(f"{' '.join(filler)} {WORDS[place]} {WORDS[place]}ly {i}")
            given.append(level)
    return texts, given


TEXTS, LEVELS = graded()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth")
    return folder, train_graded(TEXTS, LEVELS, SETTINGS, folder)


def rate(rater: FastTextGraded, rows: list[str | None]) -> list[float | None]:
    return rater.rate(pa.record_batch({"text": pa.array(rows, pa.string())})).column(rater.name).to_pylist()


def test_it_learns_levels_that_the_word_count_cannot_tell(trained):
    folder, found = trained
    assert GradedEvaluation.model_validate_json((folder / "graded_evaluation.json").read_bytes()) == found
    assert found.levels == (0, 1, 2, 3)
    assert (found.n_train, found.n_held_out) == ((48,) * 4, (12,) * 4)
    assert found.model.spearman > 0.9
    assert found.model.macro_f1 > 0.8
    assert found.model.mean_absolute_error < 0.5 < found.word_count.mean_absolute_error
    assert found.word_count.spearman is None or abs(found.word_count.spearman) < 0.4
    assert np.sum(found.model.confusion) == found.model.n == 48
    assert np.sum(found.model.confusion, axis=1).tolist() == [12] * 4
    assert "profoundly" in found.words_up
    assert "cheaply" in found.words_down


def test_where_length_tells_the_level_the_baseline_says_so(tmp_path):
    draw = random.Random(2)
    texts = [" ".join(draw.choices("abcdefghij", k=10 + 40 * level + i % 9)) + f" {i}" for level in (1, 5)
             for i in range(60)]  # fmt: skip
    found = train_graded(texts, [1] * 60 + [5] * 60, SETTINGS, tmp_path)
    assert found.word_count.macro_f1 == 1
    assert found.word_count.mean_absolute_error < 0.3


def test_the_score_is_the_expected_level_and_never_the_most_probable(trained):
    folder, _ = trained
    rater = FastTextGraded.from_file(folder / "model.bin", "depth")
    model = load(rater.path, rater.checksum)
    mixed = [f"cheap cheaply {word} {word}ly" for word in WORDS]
    for text, score in zip([*TEXTS[::7], *mixed], rate(rater, [*TEXTS[::7], *mixed]), strict=True):
        labels, shares = model.predict(prepare(text), k=4)
        levels = [int(label.removeprefix("__label__level")) for label in labels]
        assert score == pytest.approx(np.dot(levels, shares) / np.sum(shares), abs=1e-6)
    assert len(set(rate(rater, TEXTS))) > 100
    assert rater.scores[0].low == 0
    assert rater.scores[0].high == 3


def test_blank_is_null_and_batches_do_not_matter(trained):
    rater = pickle.loads(pickle.dumps(FastTextGraded.from_file(trained[0] / "model.bin", "depth")))
    rows = [None, "", " \n\t", "unheard-of", *TEXTS[:5]]
    whole = rate(rater, rows)
    assert whole[:3] == [None, None, None]
    assert all(0 <= value <= 3 for value in whole[3:])
    assert whole == [rate(rater, [row])[0] for row in rows]
    documents = pa.record_batch({"id": [str(i) for i in range(len(rows))], "text": pa.array(rows, pa.string())})
    assert sidecar_rows(rater, documents).column("depth").to_pylist() == whole


def test_same_texts_give_the_same_bytes_in_any_order(tmp_path):
    made = []
    for i in range(2):
        pairs = random.Random(i).sample(list(zip(TEXTS, LEVELS, strict=True)), len(TEXTS))
        train_graded([text for text, _ in pairs], [level for _, level in pairs], SETTINGS, tmp_path / str(i))
        made.append([(tmp_path / str(i) / name).read_bytes() for name in ("model.bin", "graded_evaluation.json")])
    assert made[0] == made[1]
    with_gaps = train_graded(*graded(levels=(-2, 7)), SETTINGS, tmp_path / "gaps")
    assert with_gaps.levels == (-2, 7)
    assert FastTextGraded.from_file(tmp_path / "gaps" / "model.bin", "x").levels == (-2, 7)


def test_fractions_train_as_levels_and_are_judged_as_fractions(tmp_path):
    draw = random.Random(3)
    soft = [level + draw.uniform(-0.5, 0.499) for level in LEVELS]
    found = train_graded(TEXTS, soft, SETTINGS, tmp_path)
    whole = train_graded(TEXTS, LEVELS, SETTINGS, tmp_path / "whole")
    assert (tmp_path / "model.bin").read_bytes() == (tmp_path / "whole" / "model.bin").read_bytes()
    assert found.model.confusion == whole.model.confusion
    assert found.model.mean_absolute_error != whole.model.mean_absolute_error


def test_repeated_blank_and_contradicting_texts_are_counted(tmp_path):
    extra = [TEXTS[0].upper(), "  \n", "same here", "Same  here"]
    found = train_graded([*TEXTS, *extra], [*LEVELS, 0, 3, 1, 2], SETTINGS, tmp_path)
    # the second of two contradicting texts is a repeated text as well
    assert (found.texts_repeated, found.texts_blank, found.texts_in_two_levels) == (2, 1, 1)
    assert sum(found.n_train) + sum(found.n_held_out) == len(TEXTS)


@pytest.mark.parametrize(
    ("texts", "levels", "message"),
    [
        (TEXTS[:60], LEVELS[:60], "texts of two levels or more\n  found    only level 0"),
        ([], [], "found    no text"),
        (TEXTS[:129], LEVELS[:129], "too few texts of level 2 to learn from"),
        (TEXTS[:2], [1, float("nan")], "not a number\n  found    nan for text 1"),
        (TEXTS[:2], [1, None], "found    None for text 1"),
        (TEXTS * 2, LEVELS + [3 - level for level in LEVELS], "after 240 were in two levels"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path, texts, levels, message):
    with pytest.raises(InputError, match=message):
        train_graded(texts, levels, SETTINGS, tmp_path)
    assert not (tmp_path / "model.bin").exists()


def test_models_without_levels_and_changed_ones_are_refused(trained, tmp_path):
    train(TEXTS[:60], TEXTS[60:120], SETTINGS, tmp_path)
    with pytest.raises(ConfigError, match="not trained on levels"):
        FastTextGraded.from_file(tmp_path / "model.bin", "depth")
    rater = FastTextGraded.from_file(trained[0] / "model.bin", "depth")
    with pytest.raises(ArtifactError, match="changed or removed"):
        rate(FastTextGraded(rater.path, "0" * 16, "depth", rater.levels), ["text"])
    with pytest.raises(InputError, match="no fastText model here"):
        FastTextGraded.from_file(tmp_path / "none.bin", "depth")


def test_settings_want_two_levels_and_take_them_from_yaml():
    files = {"files": ["a.jsonl"]}
    settings = FastTextGradedSettings.model_validate({"levels": {"0": files, 5: files}})
    assert list(settings.levels) == [0, 5]
    with pytest.raises(ValidationError, match="at least 2"):
        FastTextGradedSettings.model_validate({"levels": {0: files}})


def test_they_are_trained_from_examples(tmp_path):
    rows = [
        {"id": f"{i}", "text": text, "source": f"s{level}"}
        for i, (text, level) in enumerate(zip(TEXTS, LEVELS, strict=True))
    ]
    shop = Workshop(tmp_path / "w", LocalRuntime(1))

    def make(folder):
        write_table(folder / "a.parquet", documents(rows))
        return {}

    given = shop.build_here("documents", "documents", config={}, inputs=[], make=make)
    levels = {level: {"sources": [f"s{level}"]} for level in range(4)}
    settings = FastTextGradedSettings.model_validate({"levels": levels, "settings": SETTINGS.model_dump()})
    rating = Rating(shop, tmp_path, InputChecksums(tmp_path / "checksums.json"))
    (scores,) = rating.scores(given, {"depth": settings})
    kept = Artifact(tmp_path / "w" / "raters" / "depth")
    assert kept.manifest.totals == {"texts": {"0": 60, "1": 60, "2": 60, "3": 60}}
    assert json.loads((kept.folder / "graded_evaluation.json").read_text())["model"]["spearman"] > 0.9
    values = read_table(scores.files()[0]).column("depth").to_pylist()
    assert np.mean(values[:60]) < 0.7
    assert np.mean(values[-60:]) > 2.3
    seen = ReportWorkspace(tmp_path / "w")
    page = report.page("levels", [section(seen)], kicker="", lead="", footer=footer(seen))
    facts = json.loads((kept.folder / "graded_evaluation.json").read_text())
    assert "Trained models of levels" in page
    assert f"rank correlation {facts['model']['spearman']:.3f} and" in page


def test_agreement_by_hand():
    found = agreement(np.array([0.0, 0.0, 1.0, 2.0]), np.array([0.4, 0.5, 1.2, 1.4]), (0, 1, 2))
    assert found.confusion == ((1, 1, 0), (0, 1, 0), (0, 1, 0))
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 4 + 0) / 3, abs=1e-6)
    assert found.mean_absolute_error == pytest.approx((0.4 + 0.5 + 0.2 + 0.6) / 4)
    assert found.spearman == pytest.approx(0.948683)
    assert found.spearman_top is None
    assert nearest_level(np.array([-9, 0.5, 3.4, 3.5, 9]), (0, 1, 6)).tolist() == [0, 1, 1, 2, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 5)), min_size=2, max_size=40))
def test_agreement_equals_scipy_and_sklearn(pairs):
    stats, metrics = pytest.importorskip("scipy.stats"), pytest.importorskip("sklearn.metrics")
    truth, guess = (np.array(side, float) for side in zip(*pairs, strict=True))
    found = agreement(truth, guess, range(6))
    nearest = nearest_level(guess, range(6))
    assert found.confusion == tuple(
        map(tuple, metrics.confusion_matrix(truth.astype(int), nearest, labels=range(6)).tolist())
    )
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth.astype(int), nearest, average="macro"), abs=1e-6)
    if np.ptp(truth) == 0 or np.ptp(guess) == 0:
        assert found.spearman is None
    else:
        assert found.spearman == pytest.approx(stats.spearmanr(truth, guess).statistic, abs=1e-6)
