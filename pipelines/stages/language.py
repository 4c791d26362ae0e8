"""Name each document's language with fastText's lid.176 model, and keep the languages that are wanted.

The middle of a document is judged (`raters.language_model`). `lang` is overwritten: a declared language says what
a template was made for. Where the model is less sure than `min_score`, `lang` is null, and the document is dropped
if languages were asked for.
"""

from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from corpus.config import Share
from corpus.fingerprints import file_checksum
from pipelines.stages.base import Reasons, Stage
from raters.language_model import identify, model_file

UNSURE = "language: unsure"


class Language(Stage):
    """Set `lang` to an ISO 639 code of lid.176 (such as en, de, zh), or null where the model is not sure."""

    keep: tuple[str, ...] | None = Field(None, description="languages to keep (default: all, and unsure ones too)")
    min_score: Share = Field(0.5, description="the probability below which a language counts as not known")
    model: Path | None = Field(None, description="another fastText model file (default: the packaged lid.176.ftz)")

    version: ClassVar[int] = 1

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Any batch with `text` and `lang`; reasons `language: <code>` and `language: unsure` when `keep` is set."""
        found = identify(batch.column("text").to_pylist(), model_file(self.model))
        languages = [language if score >= self.min_score else None for language, score in found]
        place = batch.schema.get_field_index("lang")
        named = batch.set_column(place, batch.schema.field(place), pa.array(languages, pa.string()))
        if self.keep is None:
            return named, None
        reasons = [None if name in self.keep else f"language: {name}" if name else UNSURE for name in languages]
        return named, pa.array(reasons, pa.string())

    def identity(self) -> dict[str, Any]:
        """The settings with the model's content in place of its path."""
        checksum = file_checksum(model_file(self.model))
        return {"stage": "Language", "version": self.version, **self.model_dump(exclude={"model"}), "model": checksum}
