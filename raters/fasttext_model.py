"""fastText as this project uses it: reading models safely, preparing texts, asking for one label's probability.

fastText splits texts itself and gives three strings a meaning: a newline and `</s>` end a text, and a word that
begins with `__label__` is a label. Web pages can hold all three, so texts are prepared before it sees them.
A truncated model file makes its loader allocate without end; the file's frame is therefore checked first.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from corpus.config import nearest
from corpus.errors import ArtifactError, ConfigError, EnvironmentProblem, InputError
from corpus.fingerprints import file_checksum

TextForm = Literal["words", "lines"]
"""`words`: lower case, one blank between words (ours). `lines`: only line ends become blanks (DCLM's models)."""

POSITIVE = "__label__positive"
NEGATIVE = "__label__negative"
BATCH_TEXTS = 2_000
_MAGIC = 793712314
_HEAD_BYTES = 2 * 4 + 12 * 4 + 8 + 3 * 4
_SUPERVISED = 3


def prepare(text: str, form: TextForm = "words") -> str:
    """One line that fastText reads as words only; empty for a blank text.

    `words` also takes the meaning from `</s>` and `__label__`, which would cut a text short or, in training, add
    a class. `lines` leaves them, as the models trained elsewhere saw them, except that `</s>` cannot cut.
    """
    if form == "lines":
        line = " ".join(text.strip().splitlines())
    else:
        line = " ".join(text.lower().split())
        if "__label__" in line:
            line = line.replace("__label__", "label ")
    return line.replace("</s>", "s") if "</s>" in line else line


def import_fasttext() -> Any:
    """The fasttext module. Raises EnvironmentProblem where it is not installed."""
    try:
        import fasttext
    except ImportError:
        raise EnvironmentProblem(
            "fastText is not installed", expected="the package fasttext-modern", fix="pip install 'gradatim[web]'"
        ) from None
    return fasttext


def check_file(path: Path) -> None:
    """Raise InputError unless this is a whole, supervised fastText model (`.bin`, or `.ftz` with a dense output)."""
    if not path.is_file():
        raise InputError("there is no fastText model here", where=str(path), fix="check the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or struct.unpack_from("<i", head)[0] != _MAGIC:
            raise InputError("this file is not a fastText model", expected="a .bin or .ftz file", where=str(path))
        fields = _read_head(head)
        if fields["model"] != _SUPERVISED:
            raise InputError(
                "this fastText model holds word vectors, not a classifier",
                expected="a model of `fasttext supervised`", where=str(path),
            )  # fmt: skip
        rows, columns = fields["labels"], fields["dim"]
        start = size - 4 * rows * columns - 16
        if start >= _HEAD_BYTES:
            file.seek(start)
            if struct.unpack("<2q", file.read(16)) == (rows, columns):
                return
    raise InputError(
        "this fastText model is cut short or damaged",
        expected=f"a dense output matrix of {rows:,} labels x {columns:,} at its end",
        found=f"a file of {size:,} bytes that ends otherwise",
        where=str(path), fix="fetch or train the model again",
    )  # fmt: skip


def _read_head(head: bytes) -> dict[str, int]:
    # 2 ints of frame; dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate;
    # a double; then the dictionary's size, words and labels.
    settings = struct.unpack_from("<12i", head, 8)
    _, _, labels = struct.unpack_from("<3i", head, 64)
    return {"dim": settings[0], "model": settings[7], "labels": labels}


@lru_cache(maxsize=4)
def load(path: str, checksum: str) -> Any:
    """The model at `path`, loaded once a process; never read when its bytes are not those of `checksum`.

    Raises ArtifactError for a file that is missing or changed since, InputError for one that is no model.
    """
    file = Path(path)
    found = file_checksum(file) if file.is_file() else ""
    if found != checksum:
        raise ArtifactError(
            "a fastText model was changed or removed after it was chosen",
            expected=f"xxh3 {checksum}", found=f"xxh3 {found}" if found else "no such file", where=path,
            fix="train it again, or take the rater from the file that is there now",
        )  # fmt: skip
    check_file(file)
    return import_fasttext().load_model(path)


def check_label(model: Any, label: str, where: str) -> None:
    """Raise ConfigError unless the model knows the label."""
    if label not in model.labels:
        raise ConfigError(f"the model has no label {label!r}{nearest(label, model.labels)}", where=where)


def probabilities(model: Any, label: str, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """p(label) of n prepared texts, in [0, 1]; NaN for an empty one. See `label_probabilities`."""
    return label_probabilities(model, (label,), as_lines(texts))[:, 0]


def as_lines(texts: Sequence[str]) -> list[bytes]:
    """Prepared texts as the lines that fastText reads: UTF-8 with a newline; empty for an empty text."""
    return [text.encode() + b"\n" if text else b"" for text in texts]


def label_probabilities(model: Any, labels: Sequence[str], lines: Sequence[bytes]) -> npt.NDArray[np.float64]:
    """p of each of K labels for n lines with their newline: shape (n, K), each in [0, 1]; NaN for an empty line.

    All labels are asked for, because 1 - p of the others would lose the small probabilities; fastText adds
    1e-5 to each of them, so what it gives can reach 1.00001 and is cut at 1. A model that keeps its labels in a
    tree (hierarchical softmax) does not name those below 1e-5: they are 0.
    """
    values = np.full((len(lines), len(labels)), np.nan)
    filled = [i for i, line in enumerate(lines) if line]
    for start in range(0, len(filled), BATCH_TEXTS):
        rows = filled[start : start + BATCH_TEXTS]
        found, probs = model.f.multilinePredict([lines[i] for i in rows], -1, 0.0, "strict")
        for row, names, ps in zip(rows, found, probs, strict=True):
            values[row] = 0.0 if names else np.nan
            for column, label in enumerate(labels):
                if label in names:
                    values[row, column] = ps[names.index(label)]
    return np.asarray(np.minimum(values, 1.0))
