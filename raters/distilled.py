"""Rate documents with fast students of a slow rater, such as the judge: one fastText model for each of its columns.

The teacher rates a sample of the documents, drawn by a keyed hash of their text; a student of each column learns from
it, and rates everything. `agreement.json` beside the models says how far a student follows its teacher on held-out
texts, next to the bare word count: read it before the scores are used. A student repeats its teacher's mistakes.

Run it:  gradatim rate corpus/web --rater students    with  students: {kind: distilled, teacher: {kind: judge}}
"""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.config import Config, Count
from corpus.errors import ConfigError, EnvironmentProblem
from corpus.fingerprints import file_checksum
from corpus.keyed_random import keyed_hashes
from corpus.scores import Score
from corpus.shards import write_text
from raters.base import Fitting, Rater, RaterSettings, checked_rate, counts_of
from raters.examples import Examples
from raters.fasttext_lines import lines_of
from raters.fasttext_model import load
from raters.student import Learning, StudentReport, expected_scores, train_student

if TYPE_CHECKING:
    from raters.kinds import AnyRater

AGREEMENT = "agreement.json"
_TEACHER_ROWS = 2_000


class Agreement(Config):
    """What is known of the students of one teacher.

    Args:
        n_sample: distinct texts the teacher was given.
        teacher_counts: what happened while it rated them (failures, refusals), as it counts it.
        students: the report of each column's student.
    """

    n_sample: int
    teacher_counts: dict[str, int]
    students: dict[str, StudentReport]


class DistilledSettings(RaterSettings):
    """Fast students of another rater."""

    kind: Literal["distilled"] = "distilled"
    teacher: "AnyRater" = Field(description="the rater to learn from, as it would stand in a recipe by itself")
    documents: Examples | None = Field(None, description="what the sample is drawn from; none: all documents")
    sample: Count = Field(10_000, ge=50, description="distinct texts that the teacher rates")
    seed: int = Field(0, ge=0, description="seed of the draw")
    learning: Learning = Learning()

    def rater(self, name: str, fitting: Fitting) -> "DistilledRater":
        """Have the teacher rate the sample and train the students, or take those that were trained before.

        Raises ConfigError for a teacher that reads more than the text or must be fitted itself; InputError for too
        few texts; EnvironmentProblem when the teacher cannot run.
        """
        teacher = self.teacher.rater(name, _TeacherFitting(fitting, name))
        if teacher.needs != ("text",):
            raise ConfigError(
                "a teacher may read the text alone", found=", ".join(teacher.needs),
                where=f"rate.raters.{name}.teacher",
            )  # fmt: skip

        def make(folder: Path) -> dict[str, Any]:
            texts = sample_texts(fitting.texts(self.documents, "documents"), self.sample, self.seed)
            result = distil(teacher, texts, self.learning, folder, own_process=self.teacher.own_process)
            return {"sample": result.n_sample, "teacher": result.teacher_counts}

        config = {
            "distilled": 1, "teacher": teacher.identity(), "sample": self.sample, "seed": self.seed,
            "learning": self.learning.model_dump(mode="json"),
            "documents": self.documents and self.documents.model_dump(mode="json"),
        }  # fmt: skip
        folder = fitting.keep(config, make, examples=(self.documents,))
        return DistilledRater.from_folder(folder, teacher.scores)


@dataclass(frozen=True)
class Student:
    """One column's student: its score, its model file (the checksum of whose bytes is its identity), its levels."""

    score: Score
    path: str
    checksum: str
    levels: tuple[float, ...]


@dataclass(frozen=True)
class DistilledRater:
    """Students as a rater: the teacher's columns under the same names and ranges."""

    students: tuple[Student, ...]

    @classmethod
    def from_folder(cls, folder: Path, scores: Sequence[Score]) -> "DistilledRater":
        """The rater of a folder that `distil` wrote; `scores` are the teacher's."""
        known = Agreement.model_validate_json((folder / AGREEMENT).read_bytes())
        return cls(
            tuple(
                Student(
                    Score(score.name, score.low, score.high, score.better, f"fast estimate of: {score.description}"),
                    str(_model_path(folder, score.name)),
                    file_checksum(_model_path(folder, score.name)),
                    known.students[score.name].levels,
                )
                for score in scores
            )
        )

    @property
    def scores(self) -> tuple[Score, ...]:
        """The teacher's scores, as the students estimate them."""
        return tuple(student.score for student in self.students)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The bytes of each student's model, and its levels."""
        students = [{"name": s.score.name, "model": s.checksum, "levels": s.levels} for s in self.students]
        return {"rater": "distilled", "version": 1, "students": students}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text.

        Raises ArtifactError when a model file is not the one the rater was made from.
        """
        lines = lines_of(batch.column("text"), "words")
        columns = []
        for student, model in zip(self.students, _loaded(self.students), strict=True):
            values = expected_scores(model, student.levels, lines)
            columns.append(pa.array(values.astype(np.float32), mask=np.isnan(values)))
        return pa.record_batch(columns, names=[score.name for score in self.scores])


def distil(
    teacher: Rater, texts: Sequence[str], learning: Learning, folder: Path, *, own_process: bool = False
) -> Agreement:
    """Have a teacher rate texts and train a student of each column; writes `<column>.bin` and agreement.json.

    With `own_process` the teacher runs in a process that ends afterwards and takes its memory along. Raises as
    `train_student`; EnvironmentProblem when the teacher's process dies.
    """
    rated, counts = taught(teacher, texts, own_process=own_process)
    students = {}
    for score in teacher.scores:
        values = rated.column(score.name).to_pylist()
        students[score.name] = train_student(texts, values, learning, _model_path(folder, score.name))
    result = Agreement(n_sample=len(texts), teacher_counts=counts, students=students)
    write_text(folder / AGREEMENT, result.model_dump_json(indent=1) + "\n")
    return result


def taught(teacher: Rater, texts: Sequence[str], *, own_process: bool) -> tuple[pa.Table, dict[str, int]]:
    """The teacher's scores of texts, row for row, and what it counted."""
    if not own_process:
        return _rated(teacher, texts)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
            return pool.submit(_rated, teacher, list(texts)).result()
    except BrokenProcessPool as error:
        raise EnvironmentProblem(
            "the teacher's process died", found="out of memory, or a crash in native code",
            fix="give it less: a smaller model, kv_cache_gib or max_concurrent",
        ) from error  # fmt: skip


def sample_texts(batches: Iterable[pa.StringArray], n: int, seed: int) -> list[str]:
    """At most n distinct texts, those with the smallest keyed hashes, in the order of the hashes; no blank ones.

    Memory holds at most 2 n texts and one batch, however many there are.
    """
    kept: dict[int, str] = {}
    for batch in batches:
        texts = [text for text in batch.to_pylist() if text and text.strip()]
        kept.update(zip(keyed_hashes(seed, texts).tolist(), texts, strict=True))
        if len(kept) > 2 * n:
            kept = dict(sorted(kept.items())[:n])
    return [text for _, text in sorted(kept.items())[:n]]


def _rated(teacher: Rater, texts: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    parts, counts = [], Counter[str]()
    for first in range(0, len(texts), _TEACHER_ROWS):
        some = texts[first : first + _TEACHER_ROWS]
        ids = [str(first + i) for i in range(len(some))]
        batch = pa.record_batch([pa.array(ids), pa.array(some, pa.string())], names=["id", "text"])
        rated = checked_rate(teacher, batch)
        counts.update(counts_of(rated))
        parts.append(rated.replace_schema_metadata(None))
    return pa.Table.from_batches(parts), dict(counts)


def _model_path(folder: Path, column: str) -> Path:
    return folder / f"{column}.bin"


@lru_cache(maxsize=1)
def _loaded(students: tuple[Student, ...]) -> list[Any]:
    """The students' models, loaded once a process."""
    return [load(student.path, student.checksum) for student in students]


@dataclass(frozen=True)
class _TeacherFitting:
    """What a teacher may ask for while it is made: all but to be fitted, since its artifact would be the students'."""

    fitting: Fitting
    name: str

    @property
    def cache(self) -> Path:
        """The generation cache, so that a teacher and a judge of the recipe share their answers."""
        return self.fitting.cache

    @property
    def log(self) -> Path:
        """What engines print."""
        return self.fitting.log

    def path(self, given: Path) -> Path:
        """A path of the recipe."""
        return self.fitting.path(given)

    def texts(self, examples: Examples | None, where: str) -> Iterator[pa.StringArray]:
        """Texts to look at."""
        return self.fitting.texts(examples, f"teacher.{where}")

    def keep(
        self,
        config: Mapping[str, Any],
        make: Callable[[Path], dict[str, Any]],
        *,
        examples: Sequence[Examples | None] = (),
        files: Sequence[Path] = (),
    ) -> Path:
        """Raise ConfigError: a teacher that is fitted here has no artifact of its own."""
        raise ConfigError(
            "a teacher cannot be fitted while its students are",
            expected="a rater that is ready: a judge, an encoder, the file of a trained classifier",
            where=f"rate.raters.{self.name}.teacher",
            fix="train it as a rater of its own first, then name its model file (kind: fasttext_model)",
        )
