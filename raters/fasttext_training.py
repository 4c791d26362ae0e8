"""Train a fastText quality classifier from positive and negative texts, and measure it on texts it has not seen.

The same texts and settings give the same bytes, whatever the order they come in: lines are sorted by a keyed
hash of their text, one thread trains, and the memory it starts from is zeroed. The last point is not a nicety:
with one thread fastText fills only the first tenth of its matrix with random numbers and leaves the rest as the
allocator hands it over, so that a second training in one process differs, or ends in "Encountered NaN".
A fifth of each class, picked by hash, is held out; `evaluation.json` describes exactly the model beside it.

Run it:  train(positives, negatives, TrainingSettings(), Path("raters/prose"))
"""

import ctypes
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash
from pydantic import Field

from corpus.config import Config, Share
from corpus.errors import ConfigError, InputError
from corpus.keyed_random import keyed_hashes
from corpus.shards import atomic_path, write_text
from raters.fasttext_evaluation import Evaluation, evaluate
from raters.fasttext_model import NEGATIVE, POSITIVE, import_fasttext, prepare

MODEL = "model.bin"
EVALUATION = "evaluation.json"
LEAST_TEXTS = 20
_M_PERTURB = -6  # glibc, malloc.h: new memory is filled with the complement of the given byte


class TrainingSettings(Config):
    """How a classifier is trained."""

    dim: int = Field(64, ge=1, le=1000, description="size of a word's vector")
    ngrams: int = Field(2, ge=1, le=5, description="longest word n-gram used as a feature")
    epochs: int = Field(25, ge=1, description="passes over the training texts; 3 to 5 do above 100,000 of them")
    lr: float = Field(0.5, gt=0, le=5, description="learning rate at the start; it falls to 0 linearly")
    bucket: int = Field(200_000, ge=1, description="hash slots for n-grams; the file takes 4 x dim bytes for each")
    min_count: int = Field(1, ge=1, description="words seen less often are left out")
    held_out: Share = Field(0.2, gt=0, lt=0.9, description="share of each class kept for the evaluation")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the start values, the line order and the split")


def train(positives: Iterable[str], negatives: Iterable[str], settings: TrainingSettings, folder: Path) -> Evaluation:
    """Train on two sets of texts; writes model.bin and evaluation.json to the folder and returns the evaluation.

    Texts are compared after normalisation: repeated ones count once, blank ones are left out, and those in both
    classes are left out of both; the evaluation has the counts. All distinct texts are held in memory.

    Raises:
        InputError: a class has fewer than 20 distinct texts.
        ConfigError: training diverged under these settings.
    """
    texts, counts = _distinct(positives, negatives)
    learned, unseen = split(texts, settings)
    model = fit(learned, settings)
    result = evaluate(model, unseen[POSITIVE], unseen[NEGATIVE], n_train=len(learned), counts=counts)
    write_model(model, folder)
    write_text(folder / EVALUATION, result.model_dump_json(indent=1) + "\n")
    return result


def clean(text: str) -> str:
    """The line a text is trained as: prepared, and valid UTF-8; empty for a blank text."""
    return prepare(text).encode("utf-8", "replace").decode("utf-8")


def split(
    texts: Mapping[str, Sequence[str]], settings: TrainingSettings
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Split distinct lines of each label by their hash: line -> label to train on, label -> held-out lines.

    At least one line of every label is held out.
    """
    learned: dict[str, str] = {}
    unseen: dict[str, list[str]] = {}
    for label, distinct in texts.items():
        n_held = max(1, round(settings.held_out * len(distinct)))
        ranked = _by_hash(settings.seed + 1, distinct)
        unseen[label] = ranked[:n_held]
        learned |= dict.fromkeys(ranked[n_held:], label)
    return learned, unseen


def write_model(model: Any, folder: Path) -> None:
    """Write model.bin, whole or not at all."""
    with atomic_path(folder / MODEL) as path:
        model.save_model(str(path))


def _distinct(positives: Iterable[str], negatives: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, int]]:
    counts = {"blank": 0, "repeated": 0}
    sets: dict[str, set[str]] = {}
    for label, texts in ((POSITIVE, positives), (NEGATIVE, negatives)):
        lines: set[str] = set()
        for text in texts:
            line = clean(text)
            counts["blank"] += not line
            counts["repeated"] += line in lines
            if line:
                lines.add(line)
        sets[label] = lines
    both = sets[POSITIVE] & sets[NEGATIVE]
    counts["in_both_classes"] = len(both)
    kept = {label: list(lines - both) for label, lines in sets.items()}
    for label, left in kept.items():
        if len(left) < LEAST_TEXTS:
            name = label.removeprefix("__label__")
            raise InputError(
                f"there are too few {name} texts to train a classifier",
                expected=f"at least {LEAST_TEXTS} distinct ones, better some thousands",
                found=f"{len(left):,}" + (f", after {len(both):,} were in both classes" if both else ""),
                fix=f"give more {name} documents, or leave this rater out",
            )
    return kept, counts


def _by_hash(seed: int, lines: Iterable[str]) -> list[str]:
    """Lines in an order that depends on the seed and their content alone."""
    lines = list(lines)
    hashes = keyed_hashes(seed, (xxhash.xxh3_128_hexdigest(line.encode()) for line in lines))
    return [line for _, line in sorted(zip(hashes.tolist(), lines, strict=True))]


def fit(learned: Mapping[str, str], settings: TrainingSettings) -> Any:
    """A fastText classifier of lines (line -> label), the same for the same lines in any order.

    Raises ConfigError when training diverges under these settings.
    """
    fasttext = import_fasttext()
    with tempfile.TemporaryDirectory(prefix="gradatim-") as scratch:
        path = Path(scratch) / "train.txt"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{learned[line]} {line}\n" for line in _by_hash(settings.seed, learned))
        try:
            with zeroed_memory():
                return fasttext.train_supervised(
                    input=str(path), dim=settings.dim, wordNgrams=settings.ngrams, epoch=settings.epochs,
                    lr=settings.lr, bucket=settings.bucket, minCount=settings.min_count, seed=settings.seed,
                    loss="softmax", thread=1, verbose=0,
                )  # fmt: skip
        except RuntimeError as error:
            raise ConfigError(
                "training the classifier diverged", found=f"{str(error).rstrip('.')} at lr {settings.lr:g}",
                fix=f"set lr to {settings.lr / 2:g} or lower, or give more texts",
            ) from error  # fmt: skip


@contextmanager
def zeroed_memory() -> Iterator[None]:
    """Have malloc hand out zeroed memory for a while, where the C library can (glibc: any usual Linux)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_PERTURB, 0xFF)
    try:
        yield
    finally:
        mallopt(_M_PERTURB, 0)
