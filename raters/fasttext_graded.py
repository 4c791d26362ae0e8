"""Rate documents on a scale of levels with a fastText classifier trained here, such as points from 0 to 5.

Each level is a class, but the score is the expected level, sum of k p(k), and never the most probable one: that
would leave a handful of values with long ties, and nothing to rank by. So the score lies in [lowest, highest] level.
Levels may come from people, from a judge's points (fractions are rounded to the nearest level for training, and kept
for the evaluation), or from sources of which one knows how good they are.

Texts are cleaned, split and trained on as `raters.fasttext_training` does: the same texts and levels give the same
bytes in any order. `graded_evaluation.json` has the agreement with held-out levels, beside what the bare word count
would have predicted: a model that is no better has learned length alone.

Run it:  train_graded(texts, levels, TrainingSettings(), Path("raters/depth"))
         FastTextGraded.from_file("raters/depth/model.bin", "depth")
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.config import Config
from corpus.errors import ConfigError, InputError
from corpus.fingerprints import file_checksum
from corpus.scores import Score
from corpus.shards import write_text
from raters.base import Fitting, RaterSettings
from raters.examples import Examples
from raters.fasttext_evaluation import telling_words
from raters.fasttext_lines import lines_of
from raters.fasttext_model import as_lines, check_file, label_probabilities, load
from raters.fasttext_training import MODEL, TrainingSettings, clean, fit, split, write_model
from raters.level_agreement import LevelAgreement, agreement

EVALUATION = "graded_evaluation.json"
LEAST_TEXTS = 10
TENTHS = np.linspace(0.1, 0.9, 9)
_LEVEL = re.compile(r"__label__level(-?\d+)")

Floats = npt.NDArray[np.float64]


class GradedEvaluation(Config):
    """What is known about a trained model of levels.

    Args:
        levels: the levels, ascending; n_train and n_held_out: texts of each.
        model: agreement of the expected level with the given one, on held-out texts.
        word_count: agreement on the same texts of what their word count predicts: the mean level of the training
            texts in the same tenth of word counts.
        texts_blank, texts_repeated: left out, and counted once; texts_in_two_levels: left out of both.
        words_up, words_down: the words that move the expected level most.
    """

    levels: tuple[int, ...]
    n_train: tuple[int, ...]
    n_held_out: tuple[int, ...]
    model: LevelAgreement
    word_count: LevelAgreement
    texts_blank: int
    texts_repeated: int
    texts_in_two_levels: int
    words_up: tuple[str, ...]
    words_down: tuple[str, ...]


def train_graded(
    texts: Sequence[str], levels: Sequence[int | float], settings: TrainingSettings, folder: Path
) -> GradedEvaluation:
    """Train on n texts and the level of each; writes model.bin and graded_evaluation.json, returns the evaluation.

    A fraction counts as the nearest whole level (halves go up) where it is learned, and as itself where the model is
    evaluated. Texts are compared after normalisation: repeated ones count once, with the mean of their levels, but
    those with two different whole levels are left out. All distinct texts are held in memory.

    Raises:
        InputError: a level is no finite number, there are fewer than two levels, or one has fewer than 10 texts.
        ConfigError: training diverged under these settings.
    """
    given, counts = _distinct(texts, levels)
    found = _by_level(given, counts["texts_in_two_levels"])
    learned, unseen = split({_label(level): lines for level, lines in found.items()}, settings)
    model = fit(learned, settings)
    held_out = [line for lines in unseen.values() for line in lines]
    truth = np.array([given[line] for line in held_out])
    known = tuple(found)
    centred = np.array(known) - np.mean(known)
    words_up, words_down = telling_words(model, {_label(k): float(w) for k, w in zip(known, centred, strict=True)})
    result = GradedEvaluation(
        levels=known,
        n_train=tuple(len(found[level]) - len(unseen[_label(level)]) for level in known),
        n_held_out=tuple(len(lines) for lines in unseen.values()),
        model=agreement(truth, expected_levels(model, known, as_lines(held_out)), known),
        word_count=agreement(truth, levels_by_word_count(learned, given, held_out), known),
        words_up=words_up,
        words_down=words_down,
        **counts,
    )
    write_model(model, folder)
    write_text(folder / EVALUATION, result.model_dump_json(indent=1) + "\n")
    return result


def expected_levels(model: Any, levels: Sequence[int], lines: Sequence[bytes]) -> Floats:
    """Sum of k p(k) for n lines, in [lowest, highest] level; NaN for an empty one.

    The probabilities are divided by their sum, because fastText adds 1e-5 to each.
    """
    shares = label_probabilities(model, [_label(level) for level in levels], lines)
    values = shares @ np.asarray(levels, np.float64) / shares.sum(axis=1)
    return np.asarray(np.clip(values, min(levels), max(levels)))


def levels_of(model: Any, where: str) -> tuple[int, ...]:
    """The levels a model knows, ascending. Raises ConfigError for a model that was not trained on levels."""
    matches = [_LEVEL.fullmatch(label) for label in model.labels]
    if len(matches) < 2 or not all(matches):
        raise ConfigError(
            "this fastText model was not trained on levels", expected="labels such as __label__level0",
            found=", ".join(model.labels[:5]), where=where, fix="use the kind fasttext_model and name a label",
        )  # fmt: skip
    return tuple(sorted(int(match[1]) for match in matches if match))


@dataclass(frozen=True)
class FastTextGraded:
    """A model of levels as a rater.

    Args:
        path: the model file; not part of the identity.
        checksum: xxh3 of its bytes; a file that differs is refused.
        name: the score's name.
        levels: the levels it knows, ascending.
        description: the score's sentence for the report.
    """

    path: str
    checksum: str
    name: str
    levels: tuple[int, ...]
    description: str = ""

    @classmethod
    def from_file(cls, path: Path | str, name: str, description: str = "") -> "FastTextGraded":
        """The rater of a model file that `train_graded` wrote.

        Raises InputError for a missing, damaged or unsupervised model, ConfigError for one without levels.
        """
        check_file(Path(path))
        checksum = file_checksum(Path(path))
        return cls(str(path), checksum, name, levels_of(load(str(path), checksum), str(path)), description)

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score from the lowest to the highest level, higher is better."""
        described = self.description or f"expected level of the fastText model {self.name}"
        low, high = float(self.levels[0]), float(self.levels[-1])
        return (Score(self.name, low=low, high=high, better="high", description=described),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The model's bytes."""
        return {"rater": "fasttext_graded", "version": 1, "name": self.name, "model": self.checksum}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents with their expected level; null for a null or blank text.

        Raises ArtifactError when the model file is not the one the rater was made from.
        """
        model = load(self.path, self.checksum)
        values = expected_levels(model, self.levels, lines_of(batch.column("text"), "words"))
        return pa.record_batch([pa.array(values.astype(np.float32), mask=np.isnan(values))], names=[self.name])


class FastTextGradedSettings(RaterSettings):
    """A fastText model of levels trained here, from examples of each level."""

    kind: Literal["fasttext_graded"] = "fasttext_graded"
    levels: dict[int, Examples] = Field(min_length=2, description="examples of each level, such as 0 to 5")
    settings: TrainingSettings = TrainingSettings()

    def rater(self, name: str, fitting: Fitting) -> FastTextGraded:
        """Train the model, or take the one that was trained on these examples before."""

        def make(folder: Path) -> dict[str, Any]:
            texts: list[str] = []
            levels: list[int] = []
            for level, examples in sorted(self.levels.items()):
                for batch in fitting.texts(examples, f"levels.{level}"):
                    texts += batch.to_pylist()
                    levels += [level] * len(batch)
            train_graded(texts, levels, self.settings, folder)
            return {"texts": {str(level): levels.count(level) for level in sorted(self.levels)}}

        folder = fitting.keep(self.model_dump(mode="json"), make, examples=tuple(self.levels.values()))
        return FastTextGraded.from_file(folder / MODEL, name)


def _label(level: int) -> str:
    return f"__label__level{level}"


def _whole(level: float) -> int:
    return math.floor(level + 0.5)


def _distinct(texts: Sequence[str], levels: Sequence[int | float]) -> tuple[dict[str, float], dict[str, int]]:
    """The level of each distinct line, and the counts of what was left out."""
    given: dict[str, list[float]] = {}
    counts = {"texts_blank": 0, "texts_repeated": 0, "texts_in_two_levels": 0}
    for i, (text, level) in enumerate(zip(texts, levels, strict=True)):
        if level is None or not math.isfinite(level):
            raise InputError(
                "a level is not a number",
                found=f"{level} for text {i:,}",
                fix="leave unrated texts out before training",
            )
        line = clean(text)
        counts["texts_blank"] += not line
        counts["texts_repeated"] += line in given
        if line:
            given.setdefault(line, []).append(float(level))
    agreed = {line: values for line, values in given.items() if len({_whole(value) for value in values}) == 1}
    counts["texts_in_two_levels"] = len(given) - len(agreed)
    return {line: math.fsum(values) / len(values) for line, values in agreed.items()}, counts


def _by_level(given: dict[str, float], n_contradicting: int) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {level: [] for level in sorted({_whole(value) for value in given.values()})}
    for line, value in given.items():
        found[_whole(value)].append(line)
    note = f", after {n_contradicting:,} were in two levels" if n_contradicting else ""
    if len(found) < 2:
        raise InputError(
            "a model of levels needs texts of two levels or more",
            found=(f"only level {next(iter(found))}" if found else "no text") + note,
            fix="give texts of other levels too, or leave this rater out",
        )
    few = {level: len(lines) for level, lines in found.items() if len(lines) < LEAST_TEXTS}
    if few:
        raise InputError(
            f"there are too few texts of level {', '.join(map(str, few))} to learn from",
            expected=f"at least {LEAST_TEXTS} distinct ones of each level, better some hundreds",
            found=", ".join(f"{n:,} of level {level}" for level, n in few.items()) + note,
            fix="give more texts of it, or count it to a neighbouring level",
        )
    return found


def levels_by_word_count(learned: dict[str, str], given: dict[str, float], lines: Sequence[str]) -> Floats:
    """The mean level of the training texts in the same tenth of word counts, for each line."""
    counts = np.array([line.count(" ") + 1.0 for line in learned])
    levels = np.array([given[line] for line in learned])
    edges = np.unique(np.quantile(counts, TENTHS))
    tenth = np.searchsorted(edges, counts, side="right")
    size = np.bincount(tenth, minlength=len(edges) + 1)
    total = np.bincount(tenth, weights=levels, minlength=len(edges) + 1)
    means = np.where(size > 0, total / np.maximum(size, 1), levels.mean())
    return np.asarray(means[np.searchsorted(edges, [line.count(" ") + 1.0 for line in lines], side="right")])
