"""Train a fast student of a slow rater: a fastText model that learns another rater's scores, and how well it does.

Scores become bands: the distinct scores where they are few (a judge's points), else bands of equal counts, so that
scores which all lie close together still have an order to learn. A band is a class for fastText, and the student's
score is the expectation over the bands' mean scores: in the teacher's units, and never outside what it gave.

Agreement is measured on held-out texts and stands beside what the bare word count predicts. Selection uses the top
of a ranking only, so look at `spearman_top` first; a student can agree overall and be blind there.

How it is used: `train_student(texts, scores, Learning(), Path("reasoning.bin"))`
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from corpus.config import Config
from corpus.errors import InputError
from corpus.shards import atomic_path
from raters.fasttext_graded import levels_by_word_count
from raters.fasttext_model import as_lines, label_probabilities
from raters.fasttext_training import TrainingSettings, clean, fit, split
from raters.level_agreement import LevelAgreement, agreement

Floats = npt.NDArray[np.float64]
LEAST_TEXTS = 50


class Learning(Config):
    """How a student learns."""

    bands: int = Field(6, ge=2, le=50, description="most classes that the teacher's scores are put in")
    training: TrainingSettings = Field(TrainingSettings(), description="some hundred texts want 100 epochs or so")


class StudentReport(Config):
    """What is known of one student.

    Args:
        n_train, n_held_out: distinct texts it learned from, and was measured on.
        not_scored: texts left out because the teacher gave no score, or the text was blank.
        levels: the mean score of each band on the training texts, ascending; the values its score lies between.
        student: agreement with the teacher on the held-out texts; macro-F1 and confusion are over the bands.
        word_count: agreement on the same texts of what their word count predicts.
    """

    n_train: int
    n_held_out: int
    not_scored: int
    levels: tuple[float, ...]
    student: LevelAgreement
    word_count: LevelAgreement


def train_student(
    texts: Sequence[str], scores: Sequence[float | None], learning: Learning, path: Path
) -> StudentReport:
    """Train on n texts and the teacher's score of each (null: not scored); writes the model to `path`.

    Texts that are equal once normalised count once, with their mean score. The held-out texts are chosen by their
    hash before anything is fitted, bands included.

    Raises InputError for fewer than 50 distinct texts with a score, or scores that are all equal; ConfigError when
    training diverges under these settings.
    """
    given, not_scored = _distinct(texts, scores)
    if len(given) < LEAST_TEXTS:
        raise InputError(
            "the teacher scored too few texts for a student",
            expected=f"at least {LEAST_TEXTS} distinct ones, better some thousands",
            found=f"{len(given):,}, and {not_scored:,} without a score", fix="raise `sample`, or give more documents",
        )  # fmt: skip
    learned, unseen = split({"": list(given)}, learning.training)
    held_out = unseen[""]
    values = np.array([given[line] for line in learned])
    bands = _bands(values, learning.bands)
    if bands.max() == 0:
        raise InputError(
            "the teacher gave every text the same score: there is nothing to learn",
            found=f"{values[0]:g} for {len(values):,} texts", fix="leave this column out, or take another teacher",
        )  # fmt: skip
    levels = tuple(round(float(values[bands == band].mean()), 6) for band in range(bands.max() + 1))
    model = fit({line: _label(int(band)) for line, band in zip(learned, bands, strict=True)}, learning.training)
    truth = np.array([given[line] for line in held_out])
    report = StudentReport(
        n_train=len(learned),
        n_held_out=len(held_out),
        not_scored=not_scored,
        levels=levels,
        student=agreement(truth, expected_scores(model, levels, as_lines(held_out)), levels),
        word_count=agreement(truth, levels_by_word_count(learned, given, held_out), levels),
    )
    with atomic_path(path) as temporary:
        model.save_model(str(temporary))
    return report


def expected_scores(model: Any, levels: Sequence[float], lines: Sequence[bytes]) -> Floats:
    """The student's score of n lines (see `as_lines`), between the first and the last level; NaN for an empty one."""
    shares = label_probabilities(model, [_label(band) for band in range(len(levels))], lines)
    values = shares @ np.asarray(levels, np.float64) / shares.sum(axis=1)
    return np.asarray(np.clip(values, levels[0], levels[-1]))


def _label(band: int) -> str:
    return f"__label__band{band}"


def _distinct(texts: Sequence[str], scores: Sequence[float | None]) -> tuple[dict[str, float], int]:
    """The teacher's score of each distinct line, and how many texts have none."""
    given: dict[str, list[float]] = {}
    left_out = 0
    for text, score in zip(texts, scores, strict=True):
        line = clean(text)
        if score is None or not math.isfinite(score) or not line:
            left_out += 1
        else:
            given.setdefault(line, []).append(float(score))
    return {line: math.fsum(values) / len(values) for line, values in given.items()}, left_out


def _bands(values: Floats, most: int) -> npt.NDArray[np.int64]:
    """The band of each value, 0, 1, 2, ...: its own for each distinct value, or else `most` of about equal counts."""
    distinct = np.unique(values)
    cuts = distinct[1:] if len(distinct) <= most else np.unique(np.quantile(values, np.arange(1, most) / most))
    _, bands = np.unique(np.searchsorted(cuts, values, side="right"), return_inverse=True)
    return bands.astype(np.int64)
