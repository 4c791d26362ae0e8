"""Rate documents with a fastText classifier: one of our own, or any supervised `.bin` a user brings.

The score is the probability that a text belongs to the positive class, in [0, 1], higher is better. It says how
much a document looks like the positives the model was trained on, no more; probabilities pile up at both ends,
so compare ranks, not differences. `raters.fasttext_training` makes such models.

Run it:  FastTextRater.from_file("model.bin", "prose")
         FastTextRater.from_file("dclm.bin", "dclm", label="__label__cc", complement=True, form="lines")
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.fingerprints import file_checksum
from corpus.scores import Score
from raters.base import Fitting, RaterSettings
from raters.examples import Examples
from raters.fasttext_lines import lines_of
from raters.fasttext_model import POSITIVE, TextForm, check_file, check_label, label_probabilities, load
from raters.fasttext_training import MODEL, TrainingSettings, train


@dataclass(frozen=True)
class FastTextRater:
    """A classifier as a rater.

    Args:
        path: the model file; not part of the identity.
        checksum: xxh3 of its bytes; a file that differs is refused.
        name: the score's name.
        label: the class whose probability is the score.
        complement: score 1 - p(label), for a label that names the bad class.
        form: how texts are prepared; must be what the model was trained on.
        description: the score's sentence for the report.
    """

    path: str
    checksum: str
    name: str
    label: str = POSITIVE
    complement: bool = False
    form: TextForm = "words"
    description: str = ""

    @classmethod
    def from_file(cls, path: Path | str, name: str, **settings: Any) -> "FastTextRater":
        """The rater of a model file, checked now rather than in the middle of a run.

        Raises InputError for a missing, damaged or unsupervised model, ConfigError for a label it does not know.
        """
        check_file(Path(path))
        rater = cls(str(path), file_checksum(Path(path)), name, **settings)
        check_label(load(rater.path, rater.checksum), rater.label, rater.path)
        return rater

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score in [0, 1], higher is better."""
        described = self.description or f"probability of the positive class of the fastText model {self.name}"
        return (Score(self.name, low=0.0, high=1.0, better="high", description=described),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The model's bytes and how it is asked."""
        return {
            "rater": "fasttext", "version": 1, "name": self.name, "model": self.checksum, "label": self.label,
            "complement": self.complement, "form": self.form,
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents: p(label), or 1 - p(label); null for a null or blank text.

        Raises ArtifactError when the model file is not the one the rater was made from.
        """
        model = load(self.path, self.checksum)
        check_label(model, self.label, self.path)
        lines = lines_of(batch.column("text"), self.form)
        values = label_probabilities(model, (self.label,), lines)[:, 0]
        if self.complement:
            values = 1.0 - values
        column = pa.array(values.astype(np.float32), mask=np.isnan(values))
        return pa.record_batch([column], names=[self.name])


class FastTextSettings(RaterSettings):
    """A fastText classifier trained here, from examples of both kinds."""

    kind: Literal["fasttext"] = "fasttext"
    positives: Examples
    negatives: Examples
    settings: TrainingSettings = TrainingSettings()

    def rater(self, name: str, fitting: Fitting) -> FastTextRater:
        """Train the classifier, or take the one that was trained on these examples before."""
        sides = {"positives": self.positives, "negatives": self.negatives}

        def make(folder: Path) -> dict[str, Any]:
            texts = {
                side: [text for batch in fitting.texts(given, side) for text in batch.to_pylist()]
                for side, given in sides.items()
            }
            train(texts["positives"], texts["negatives"], self.settings, folder)
            return {side: len(found) for side, found in texts.items()}

        folder = fitting.keep(self.model_dump(mode="json"), make, examples=tuple(sides.values()))
        return FastTextRater.from_file(folder / MODEL, name)


class FastTextModelSettings(RaterSettings):
    """A fastText classifier that somebody else trained."""

    kind: Literal["fasttext_model"] = "fasttext_model"
    path: Path = Field(description="a supervised model, .bin or .ftz, relative to the recipe")
    label: str = Field(POSITIVE, description="the label whose probability is the score")
    complement: bool = Field(False, description="score 1 - p(label), for a label that names the bad class")
    form: TextForm = Field(
        "words", description="words: lower case, blanks collapsed; lines: as DCLM's models saw texts"
    )

    def rater(self, name: str, fitting: Fitting) -> FastTextRater:
        """Check the file and its label now rather than in the middle of a run."""
        asked = self.model_dump(exclude={"kind", "path"})
        return FastTextRater.from_file(fitting.path(self.path), name, **asked)
