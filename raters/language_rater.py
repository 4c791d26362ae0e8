"""Rate documents by the probability that they are in given languages, one column a language.

The stage that reads documents already names their language in `lang`; a probability beside it says how sure that
is, and can be weighed, banded or cut like any other score. Text in two languages, lists of names and code lie low.

Run it:  gradatim rate corpus/web --rater 'language={kind: language, languages: [en, de]}'
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
from raters.fasttext_model import as_lines, check_label, label_probabilities, load
from raters.language_model import LABEL, middle, model_file


@dataclass(frozen=True)
class LanguageRater:
    """The probabilities of some languages.

    Args:
        path: the model file; not part of the identity.
        checksum: xxh3 of its bytes; a file that differs is refused.
        name: what the columns' names begin with.
        languages: codes the model knows.
    """

    path: str
    checksum: str
    name: str
    languages: tuple[str, ...]

    @classmethod
    def from_file(cls, path: Path | str, name: str, languages: tuple[str, ...]) -> "LanguageRater":
        """The rater of a model file, checked now.

        Raises InputError for a missing, damaged or unsupervised model, ConfigError for a language it does not know.
        """
        checksum = file_checksum(Path(path)) if Path(path).is_file() else ""
        model = load(str(path), checksum)
        for language in languages:
            check_label(model, LABEL + language, str(path))
        return cls(str(path), checksum, name, languages)

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score in [0, 1] a language, `<name>_<code>`."""
        return tuple(
            Score(f"{self.name}_{code}", 0.0, 1.0, "high", f"probability that the text is in {code}")
            for code in self.languages
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The model's bytes and the columns asked for."""
        return {
            "rater": "language", "version": 1, "name": self.name, "model": self.checksum,
            "languages": self.languages,
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents by their middle 2,000 characters; null for a null or blank text.

        Raises ArtifactError when the model file is not the one the rater was made from.
        """
        model = load(self.path, self.checksum)
        lines = as_lines([middle(text or "") for text in batch.column("text").to_pylist()])
        values = label_probabilities(model, [LABEL + code for code in self.languages], lines).T
        columns = [pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in values]
        return pa.record_batch(columns, names=[score.name for score in self.scores])


class LanguageSettings(RaterSettings):
    """How sure a language model is of each of some languages."""

    kind: Literal["language"] = "language"
    languages: tuple[str, ...] = Field(min_length=1, description="codes such as en, de, zh; a column for each")
    model: Path | None = Field(None, description="another fastText model file (default: the packaged lid.176.ftz)")

    def rater(self, name: str, fitting: Fitting) -> LanguageRater:
        """Find the model and check the languages now. Raises EnvironmentProblem without a model."""
        path = model_file(fitting.path(self.model) if self.model else None)
        return LanguageRater.from_file(path, name, tuple(dict.fromkeys(self.languages)))
