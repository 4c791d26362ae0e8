"""How often words occur in a collection of texts: counted in bounded memory, kept as a readable file.

Words are those of the signals (`raters.text.reference.normalised_words`). The file has a line a word, most frequent
first and equal counts in the order of code points: the word, a tab, its count. The same texts in the same batches
give the same bytes.

A word of count c has the probability (c + 1) / (N + V + 1), where N is the sum of the V counts in the table; all
other words share one place of count 0. The probabilities of the table and of that place sum to 1.

Run it:  counts = WordCounts(200_000);  counts.add(texts);  counts.save(path)
"""

import math
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import file_checksum

if TYPE_CHECKING:
    from raters.text.vocabulary_kernel import WordTable

_BATCH_BYTES = 1 << 20
_LEAST_HELD = 1_000_000


class WordCounts:
    """Counts words of any number of texts, and keeps the most frequent ones.

    Args:
        n_words: the size of the table in the end.
        held: distinct words held at most between two texts; by default four times as many, and a million at least.
            Above it the rarer half is forgotten, so a word that comes again later is counted too low, by no more
            than the count it was forgotten with. A collection with fewer distinct words is counted exactly.
    """

    def __init__(self, n_words: int, held: int | None = None) -> None:
        self.n_words = n_words
        self.held = max(4 * n_words, _LEAST_HELD) if held is None else max(held, 2 * n_words)
        self.total = 0
        self.counts: dict[str, int] = {}

    def add(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Count the words of n strings; nulls count nothing. Raises SchemaError for broken arrays."""
        from raters.text.arrow import chunks_of, longest
        from raters.text.compiled import drop_stale_cache
        from raters.text.unicode_tables import tables
        from raters.text.vocabulary_kernel import count_words

        drop_stale_cache()
        for chunk in chunks_of(texts):
            for begin, end in _bounded(chunk.starts):
                rows = chunk._replace(starts=chunk.starts[begin : end + 1], present=chunk.present[begin:end])
                self._merge(*count_words(*rows, longest(rows), tables()))

    def save(self, path: Path) -> dict[str, int]:
        """Write the table; returns how many words were counted and how many of them the table covers.

        Raises ConfigError when the texts hold no words.
        """
        if not self.counts:
            raise ConfigError("the texts that word frequencies are counted in hold no words")
        kept = self._most_frequent(self.n_words)
        path.write_text("".join(f"{word}\t{count}\n" for word, count in kept), encoding="utf-8", newline="\n")
        covered = sum(count for _, count in kept)
        return {"words": self.total, "distinct words kept": len(kept), "words in the table": covered}

    def _merge(self, points: np.ndarray, ends: np.ndarray, counts: np.ndarray) -> None:
        text, cuts = points.tobytes().decode("utf-32-le"), ends.tolist()
        for start, end, count in zip(cuts, cuts[1:], counts.tolist(), strict=False):
            word = text[start:end]
            self.counts[word] = self.counts.get(word, 0) + count
            self.total += count
        if len(self.counts) > self.held:
            self.counts = dict(self._most_frequent(self.held // 2))

    def _most_frequent(self, n: int) -> list[tuple[str, int]]:
        return list(islice(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])), n))


def _bounded(starts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of rows of at most _BATCH_BYTES, or of one row that is longer."""
    ranges, begin, n = [], 0, starts.size - 1
    while begin < n:
        end = int(np.searchsorted(starts, starts[begin] + _BATCH_BYTES, side="right")) - 1
        end = min(max(end, begin + 1), n)
        ranges.append((begin, end))
        begin = end
    return ranges


@lru_cache(maxsize=4)
def load(path: str, checksum: str) -> "WordTable":
    """The table of a saved file, ready for lookups; kept in memory for the process.

    Raises ArtifactError when the file is missing or its bytes are not those of the checksum.
    """
    found = file_checksum(Path(path)) if Path(path).is_file() else "no such file"
    if found != checksum:
        raise ArtifactError(
            "the word frequencies are not those the rater was made with",
            expected=checksum, found=found, where=path, fix="delete the rater's artifact and run the recipe again",
        )  # fmt: skip
    lines = Path(path).read_bytes().decode("utf-8").split("\n")[:-1]
    pairs = [line.split("\t") for line in lines]
    known, unknown = surprisals([int(count) for _, count in pairs])
    return word_table([word for word, _ in pairs], known, unknown)


def surprisals(counts: list[int]) -> tuple[list[float], float]:
    """-ln p in nats of each word of a table with these counts, and of a word outside it, with add-one smoothing."""
    total = sum(counts) + len(counts) + 1
    return [-math.log((count + 1) / total) for count in counts], -math.log(1 / total)


def word_table(words: list[str], known: list[float], unknown: float) -> "WordTable":
    """The lookup table of distinct normalised words with their surprisals, and of the surprisal of all others."""
    from raters.text.compiled import drop_stale_cache
    from raters.text.vocabulary_kernel import WordTable, slots_of

    drop_stale_cache()
    points = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
    ends = np.cumsum([0, *map(len, words)], dtype=np.int64)
    return WordTable(points, ends, slots_of(points, ends), np.array(known, np.float64), unknown)
