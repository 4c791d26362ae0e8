"""Rate documents by the rarity of their words: the mean surprisal -ln p(word), in nats, under counted frequencies.

High is rare: technical and literary vocabulary, but also misspellings, code and other languages, so combine it with
a score of language or quality. The frequencies are counted once, in the documents that are rated or in examples,
and kept as a table (`raters.vocabulary`) whose checksum is part of every score's identity. Null for a document
without words, and for a language without blanks between words.

Run it:  gradatim rate corpus/web --rater 'rarity={kind: rarity}'
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.fingerprints import file_checksum
from corpus.scores import Score
from raters.base import Fitting, RaterSettings, with_counts
from raters.examples import Examples
from raters.languages import NO_BLANKS, without_blanks
from raters.text.arrow import chunks_of, longest
from raters.vocabulary import WordCounts, load

TABLE = "words.tsv"


@dataclass(frozen=True)
class Rarity:
    """Mean surprisal of a document's words.

    Args:
        path: the table of word counts; not part of the identity.
        checksum: xxh3 of its bytes; a file that differs is refused.
        name: the score's name.
    """

    path: str
    checksum: str
    name: str

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score in nats a word, at least 0."""
        described = "mean surprisal of the words, in nats; high is rare"
        return (Score(self.name, low=0.0, high=None, better="middle", description=described),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text and its language."""
        return ("text", "lang")

    def identity(self) -> dict[str, Any]:
        """The name, the table's bytes, and the version of smoothing and words."""
        return {"rater": "rarity", "version": 1, "name": self.name, "table": self.checksum}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null without words, and counted where the language has no blanks between words.

        Raises ArtifactError when the table is not the one the rater was made with.
        """
        values, unparted = rarity(batch.column("text"), self.path, self.checksum), without_blanks(batch.column("lang"))
        column = pa.array(values.astype(np.float32), mask=np.isnan(values) | unparted)
        rated = pa.record_batch([column], names=[self.name])
        return with_counts(rated, {NO_BLANKS: int(unparted.sum())}) if unparted.any() else rated


def rarity(texts: pa.Array | pa.ChunkedArray, path: str, checksum: str) -> np.ndarray:
    """-(1/n) sum of ln p(word) of n texts, under the table at `path`: float64, shape (n,), NaN without words.

    Raises ArtifactError as `raters.vocabulary.load` does, SchemaError for broken arrays.
    """
    from raters.text.compiled import drop_stale_cache
    from raters.text.unicode_tables import tables
    from raters.text.vocabulary_kernel import rarity_of

    drop_stale_cache()
    words = load(path, checksum)
    parts = [rarity_of(*chunk, longest(chunk), tables(), words) for chunk in chunks_of(texts)]
    return np.concatenate([np.empty(0), *parts])


class RaritySettings(RaterSettings):
    """How rare a document's words are, by frequencies counted in the rated documents or in examples."""

    kind: Literal["rarity"] = "rarity"
    examples: Examples | None = Field(None, description="texts to count words in (default: the documents themselves)")
    vocabulary_words: int = Field(200_000, ge=1, description="words of the table; all others count as never seen")

    def rater(self, name: str, fitting: Fitting) -> Rarity:
        """Count the words, or take the table that was counted before. Raises ConfigError when there are none."""

        def make(folder: Path) -> dict[str, Any]:
            counts = WordCounts(self.vocabulary_words)
            for texts in fitting.texts(self.examples, "examples"):
                counts.add(texts)
            return {**counts.save(folder / TABLE)}

        config = {"version": 1, **self.model_dump(mode="json")}
        path = fitting.keep(config, make, examples=(self.examples,)) / TABLE
        return Rarity(str(path), file_checksum(path), name)
