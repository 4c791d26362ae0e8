"""How much a style's outputs resemble each other, beside real text of the same length.

A generator can keep every fact and still teach a template: the warning case is one small model that began 115 of 1,000
outputs alike, where the untidier text of another (3 of 1,000) trained better (FinePhrase, arXiv 2604.13977). So every
measure is taken twice, on a sample of outputs and on the sources they were made from, and the alarms compare the two.

Distinct n-grams and compression fall with length, so both sides are cut to the same number of words, and each source to
the length of its output. Openings are counted in words, not in the generator's tokens.

How it is used:  diversity(outputs, sources)   then   drift(slices)
"""

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import xxhash

from rephrase.chunking import sentences
from rephrase.fidelity import FUNCTION_WORDS, words

Level = Literal["fine", "note", "stop", "few"]
Similarity = Callable[[Sequence[tuple[str, str]]], Sequence[float]]

SAMPLE = 1_000  # outputs of one style and model
FEW = 34  # the least outputs of which a single one is below the 3 % mark
OPENING_WORDS = 5
CLOSING_WORDS = 8
SHARE_NOTE, SHARE_STOP = 0.03, 0.10
ENTROPY_FALL, DISTINCT_FALL, COMPRESSION_FALL = 0.8, 0.8, 0.85
SIMILARITY_RISE = 0.1
DUPLICATE_SHARE = 0.02
DUPLICATE_JACCARD = 0.8
PAIRS = 1_000
SLICES = 5  # a strict trend over five slices comes by chance once in 120
MOST_WORDS = 200_000
_HASHES, _SHINGLE = 128, 5
_PRIME = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of outputs beside the same of real text.

    Args:
        name: what is measured.
        value, real: of the outputs and of their sources; null where there was nothing to measure.
        level: `stop` and `note` are alarms; `few`: too few outputs to say.
        alarm: the rule, in words.
        example: the text that a share counts, empty for other measures.
    """

    name: str
    value: float | None
    real: float | None
    level: Level
    alarm: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class Diversity:
    """What was measured on `n` outputs; distinct n-grams and compression on `n_words` words of either side."""

    n: int
    n_words: int
    measures: tuple[Measure, ...]

    @property
    def level(self) -> Level:
        """The worst alarm; `few` where the sample is too small for any."""
        return worst([measure.level for measure in self.measures])


@dataclass(frozen=True, slots=True)
class Drift:
    """Opening share and distinct bigrams over the slices of a run, in its order; the level of their trend."""

    opening_shares: tuple[float, ...]
    distinct_2: tuple[float, ...]
    level: Level


def worst(levels: Sequence[Level]) -> Level:
    """The gravest of several levels: stop, note, fine; `few` where all are, or where there is none."""
    return next((level for level in ("stop", "note", "fine") if level in levels), "few")


def diversity(outputs: Sequence[str], sources: Sequence[str], similarity: Similarity | None = None) -> Diversity:
    """Measure a sample of outputs and the sources they were made from, one source an output.

    Args:
        outputs, sources: shape (n,), in an order that says nothing (a keyed draw).
        similarity: cosines of embeddings for pairs of texts; without it, cosines of counts of content words.

    Measures and alarms are this project's, after the metrics of FinePhrase and Cosmopedia. An alarm compares with the
    sources, except for shares of equal openings and closings and of near-duplicates, which have fixed limits.
    """
    assert len(outputs) == len(sources)
    split = [words(text) for text in outputs]
    real = [words(text) for text in sources]
    # A source is mostly longer than its output; its first words stand for real text of that length.
    cut = [theirs[: len(mine)] for mine, theirs in zip(split, real, strict=True)]
    n_words = min(sum(map(len, split)), sum(map(len, cut)), MOST_WORDS)
    few = len(outputs) < FEW
    found = [
        _share("share of the commonest opening", split, real, _opening, SHARE_STOP, few),
        _fall("entropy of openings (bits)", *(_entropy(map(_opening, side)) for side in (split, real)), few=few),
        _fall("entropy of sentence skeletons (bits)", *(_skeletons(side) for side in (outputs, sources)), few=few),
        _share("share of the commonest closing", split, real, _closing, None, few),
        *(
            _fall(
                f"distinct {n}-grams", *(distinct(side, n, n_words) for side in (split, cut)), few=few, by=DISTINCT_FALL
            )
            for n in (1, 2, 3, 4)
        ),
        _compression(split, cut, n_words, few),
        _self_similarity(outputs, sources, similarity, few),
        _near_duplicates(split, real, few),
    ]
    return Diversity(len(outputs), n_words, tuple(found))


def drift(slices: Sequence[Sequence[str]]) -> Drift:
    """Opening share and distinct bigrams of outputs in the order of a run, cut into slices.

    An alarm is a strict trend to the bad side over all slices, of at least SLICES slices with FEW outputs each.
    """
    split = [[words(text) for text in each] for each in slices]
    n_words = min((sum(map(len, each)) for each in split), default=0)
    openings = tuple(_commonest(map(_opening, each))[1] for each in split)
    bigrams = tuple(distinct(each, 2, min(n_words, MOST_WORDS)) or 0.0 for each in split)
    rising = all(a < b for a, b in pairwise(openings))
    falling = all(a > b for a, b in pairwise(bigrams))
    if len(split) < SLICES or min(map(len, split)) < FEW:
        return Drift(openings, bigrams, "few")
    return Drift(openings, bigrams, "note" if rising or falling else "fine")


def distinct(texts: Sequence[Sequence[str]], n: int, n_words: int) -> float | None:
    """Distinct n-grams over n-grams in the first `n_words` words of texts, in (0, 1]; null where there is none.

    n-grams do not reach over the border of two texts.
    """
    found: set[tuple[str, ...]] = set()
    total = 0
    for text in _first(texts, n_words):
        found.update(zip(*(text[i:] for i in range(n)), strict=False))
        total += max(0, len(text) - n + 1)
    return len(found) / total if total else None


def skeleton(text: str) -> str:
    """The first sentence with what makes it particular taken out: numbers are 0, runs of names are X."""
    first = text[: next(iter(sentences(text)), 0)].strip()
    plain = _NUMBERS.sub("0", first)
    return " ".join(_NAMES.sub(lambda match: f"{match[1]}X", plain).split()).lower()


def near_duplicates(texts: Sequence[Sequence[str]]) -> float:
    """Share of texts that have a near-duplicate among the others: a MinHash estimate of Jaccard of 0.8 or more.

    Over shingles of five words, with 128 hashes. Texts without a word have none.
    """
    known = [sketch for text in texts if (sketch := _sketch(text)) is not None]
    if not known:
        return 0.0
    sketches = np.stack(known)
    alike = [int(((sketches == row).mean(axis=1) >= DUPLICATE_JACCARD).sum()) > 1 for row in sketches]
    return sum(alike) / len(texts)


def word_cosine(first: str, second: str) -> float:
    """Cosine of the counts of two texts' content words, in [0, 1]; 0 where one has none."""
    a, b = (Counter(word for word in words(text) if word not in FUNCTION_WORDS) for text in (first, second))
    length = float(np.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values())))
    return sum(n * b[word] for word, n in a.items()) / length if length else 0.0


_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")
_NAMES = re.compile(r"(?<=[^\W_])([,;]?[ \t]+)[A-Z][\w'\u2019-]*(?:[ \t]+[A-Z][\w'\u2019-]*)*")


def _opening(text: Sequence[str]) -> str:
    return " ".join(text[:OPENING_WORDS])


def _closing(text: Sequence[str]) -> str:
    return " ".join(text[-CLOSING_WORDS:])


def _first(texts: Sequence[Sequence[str]], n_words: int) -> list[Sequence[str]]:
    """The texts up to a number of words in all; the last one is cut."""
    taken: list[Sequence[str]] = []
    for text in texts:
        if n_words <= 0:
            break
        taken.append(text[:n_words])
        n_words -= len(taken[-1])
    return taken


def _commonest(values: Iterable[str]) -> tuple[str, float]:
    counts = Counter(values)
    if not counts:
        return "", 0.0
    value, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return value, most / counts.total()


def _entropy(values: Iterable[str]) -> float | None:
    counts = np.array(list(Counter(values).values()), dtype=np.float64)
    if not len(counts):
        return None
    shares = counts / counts.sum()
    return abs(float(-(shares * np.log2(shares)).sum()))


def _share(
    name: str,
    split: Sequence[Sequence[str]],
    real: Sequence[Sequence[str]],
    part: Callable[[Sequence[str]], str],
    stop: float | None,
    few: bool,
) -> Measure:
    """A measure of how many texts share one part; above 3 % a note, above `stop` a stop."""
    (example, share), (_, theirs) = _commonest(map(part, split)), _commonest(map(part, real))
    level: Level = "fine" if share <= SHARE_NOTE else "stop" if stop is not None and share > stop else "note"
    alarm = "above 3 %" + (", stop above 10 %" if stop is not None else "")
    return Measure(name, share if split else None, theirs if real else None, "few" if few else level, alarm, example)


def _fall(name: str, value: float | None, real: float | None, *, few: bool, by: float = ENTROPY_FALL) -> Measure:
    """A measure of variety, which must not fall too far below that of real text."""
    unknown = few or value is None or real is None
    level: Level = "few" if unknown else "note" if (value or 0.0) < by * (real or 0.0) else "fine"
    return Measure(name, value, real, level, f"below {by:g} of real text")


def _skeletons(texts: Sequence[str]) -> float | None:
    return _entropy(map(skeleton, texts))


def _compression(split: Sequence[Sequence[str]], cut: Sequence[Sequence[str]], n_words: int, few: bool) -> Measure:
    """gzip bytes over raw bytes of both sides, each cut to the same number of bytes."""
    raw = ["\n".join(" ".join(text) for text in _first(side, n_words)).encode() for side in (split, cut)]
    n_bytes = min(map(len, raw))
    value, real = (len(gzip.compress(side[:n_bytes], mtime=0)) / n_bytes if n_bytes else None for side in raw)
    return _fall("compressed size (gzip)", value, real, few=few, by=COMPRESSION_FALL)


def _self_similarity(
    outputs: Sequence[str], sources: Sequence[str], similarity: Similarity | None, few: bool
) -> Measure:
    """Mean cosine over pairs of outputs, and over the same pairs of sources: (i, i + s) for s = 1, 2, ..."""
    n = len(outputs)
    pairs = [(i, (i + step) % n) for step in range(1, n // 2 + 1) for i in range(n if 2 * step != n else step)][:PAIRS]
    name = "self-similarity (word counts)" if similarity is None else "self-similarity (embeddings)"
    if not pairs:
        return Measure(name, None, None, "few", "above real text + 0.1")
    cosines = similarity or (lambda texts: [word_cosine(*pair) for pair in texts])
    value, real = (
        float(np.mean(cosines([(side[i], side[j]) for i, j in pairs]))) for side in (list(outputs), list(sources))
    )
    level: Level = "few" if few else "note" if value > real + SIMILARITY_RISE else "fine"
    return Measure(name, value, real, level, "above real text + 0.1")


def _near_duplicates(split: Sequence[Sequence[str]], real: Sequence[Sequence[str]], few: bool) -> Measure:
    value, theirs = near_duplicates(split), near_duplicates(real)
    too_few = few or len(split) * DUPLICATE_SHARE < 1
    level: Level = "few" if too_few else "note" if value > DUPLICATE_SHARE else "fine"
    return Measure("near-duplicates", value if split else None, theirs if real else None, level, "above 2 %")


def _sketch(text: Sequence[str]) -> npt.NDArray[np.uint64] | None:
    """MinHash of a text's shingles, shape (128,): the smallest of each of 128 keyed hashes; null without a word."""
    if not text:
        return None
    width = min(_SHINGLE, len(text))
    shingles = {" ".join(text[i : i + width]) for i in range(len(text) - width + 1)}
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(s) % _PRIME for s in sorted(shingles)), dtype=np.uint64)
    factors, shifts = _KEYS
    return np.asarray(((hashes[:, None] * factors + shifts) % _PRIME).min(axis=0), dtype=np.uint64)


def _keys() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    drawn = np.random.default_rng(0).integers(1, _PRIME, size=(2, _HASHES), dtype=np.uint64)
    return drawn[0], drawn[1]


_KEYS = _keys()
