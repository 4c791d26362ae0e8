"""Rate documents by further measures of their text: redundancy, lexical diversity, reading ease, repetition.

They are keys for orders by difficulty: of 15 metrics, compression, diversity and reading ease were among the best
(arXiv 2506.11300). One compiled pass over Arrow's UTF-8 buffer, equal to the plain Python of
`raters.text.measures_reference`, where each is defined; the compression ratio is zlib's own.

Measures of words are null for languages without blanks between words, and reading ease for all but English, by the
document's `lang`; a document that names no language is measured as one with blanks that is not English.

Run it:  gradatim rate corpus/web --rater measures
"""

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.errors import EnvironmentProblem
from corpus.scores import Score
from raters.base import Fitting, RaterSettings, with_counts
from raters.languages import NO_BLANKS, english, without_blanks

_open = partial(Score, low=0.0, high=None)
_share = partial(Score, low=0.0, high=1.0)

MEASURES: tuple[Score, ...] = (
    _open("compression_ratio", better="middle", description="bytes after zlib over bytes before; low repeats itself"),
    _open("mtld", better="middle", description="words until the type-token ratio falls below .72, on average"),
    Score(
        "flesch_reading_ease", low=-100.0, high=None, better="middle",
        description="ease of reading English, at most 121.22 (easy); -100 where no sentence seems to end",
    ),
    _open("rps_doc_frac_chars_top_4gram", better="low", description="characters in the most frequent 4 words"),
    _share("dup_line_frac", better="low", description="share of lines equal to an earlier line"),
    _share("dup_line_char_frac", better="low", description="share of characters in lines equal to an earlier line"),
)  # fmt: skip
"""The columns of `measure`, in order. The top 4-gram share can exceed 1, because repeats may overlap."""

_COMPRESSION, _MTLD, _EASE, _TOP_4 = range(4)
_OF_WORDS = (_MTLD, _EASE, _TOP_4)


def measure(texts: pa.Array | pa.ChunkedArray) -> pa.RecordBatch:
    """The measures of every text, whatever its language.

    Args:
        texts: n strings; slices, nulls and chunks are fine and do not change a value.

    Returns:
        n rows of float32, one column per entry of MEASURES. Null where the text is null or the measure is undefined:
        the compression of an empty text, lines of a blank one, diversity and 4-grams without words, reading ease
        without a word that has a letter a to z. Short texts score high on compression (zlib's header) and are
        unreliable on diversity: below about 100 words it is mostly the length.

    Raises:
        SchemaError: `texts` holds no strings, or broken offsets or UTF-8.
    """
    return _columns(_values(texts)[:, : len(MEASURES)])


def _values(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """float64, shape (n, len(MEASURES) + 1): the measures, then 1.0 where no word occurs twice; NaN for null."""
    from raters.text.arrow import chunks_of, longest
    from raters.text.compiled import drop_stale_cache
    from raters.text.measures_kernel import measures_of
    from raters.text.unicode_tables import tables

    drop_stale_cache()
    parts = [
        np.column_stack([_compression_ratios(*chunk), measures_of(*chunk, longest(chunk), tables())])
        for chunk in chunks_of(texts)
    ]
    return np.concatenate([np.empty((0, len(MEASURES) + 1)), *parts])


def _compression_ratios(data: np.ndarray, starts: np.ndarray, present: np.ndarray) -> np.ndarray:
    from raters.text.measures_reference import LEVEL, WINDOW_BYTES

    ratios = np.full(present.size, np.nan)
    buffer = data.data
    for row in np.flatnonzero(present & (np.diff(starts) > 0)):
        text = buffer[starts[row] : starts[row + 1]]
        last = max(len(text) - WINDOW_BYTES, 0)
        windows = [text[start : start + WINDOW_BYTES] for start in (*range(0, last, WINDOW_BYTES), last)]
        ratios[row] = sum(len(zlib.compress(window, LEVEL)) for window in windows) / sum(map(len, windows))
    return ratios


def _columns(values: np.ndarray) -> pa.RecordBatch:
    columns = [pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in values.T]
    return pa.record_batch(columns, names=[score.name for score in MEASURES])


@dataclass(frozen=True)
class TextMeasures:
    """The further measures as a rater.

    Args:
        lang: the language of documents that name none; None: unknown.
        zlib_version: the zlib whose sizes these are; another one is refused, because its sizes may differ.
    """

    lang: str | None = None
    zlib_version: str = zlib.ZLIB_RUNTIME_VERSION

    @property
    def scores(self) -> tuple[Score, ...]:
        """The definitions of `MEASURES`."""
        return MEASURES

    @property
    def needs(self) -> tuple[str, ...]:
        """The text and its language."""
        return ("text", "lang")

    def identity(self) -> dict[str, Any]:
        """The version of the definitions, the zlib that compresses, and the language that is assumed."""
        return {"rater": "text_measures", "version": 1, "zlib": self.zlib_version, "lang": self.lang}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null as in `measure`, and by language as the module says.

        Counts the rows whose words cannot be told apart, those that are not English, and those whose MTLD is only
        the number of their words because no word occurs twice. Raises EnvironmentProblem for another zlib.
        """
        if self.zlib_version != zlib.ZLIB_RUNTIME_VERSION:
            raise EnvironmentProblem(
                "this process compresses with another zlib than the rater was made with",
                expected=self.zlib_version,
                found=zlib.ZLIB_RUNTIME_VERSION,
                fix="run all workers with the same Python installation",
            )
        langs = batch.column("lang")
        if self.lang is not None:
            langs = pc.fill_null(langs, self.lang)
        values, unparted, foreign = _values(batch.column("text")), without_blanks(langs), ~english(langs)
        for column in _OF_WORDS:
            values[unparted, column] = np.nan
        values[foreign, _EASE] = np.nan
        unrepeated = (values[:, -1] == 1.0) & ~unparted
        counts = {NO_BLANKS: unparted, "not English": foreign, "no word occurs twice": unrepeated}
        found = {what: int(rows.sum()) for what, rows in counts.items() if rows.any()}
        return with_counts(_columns(values[:, : len(MEASURES)]), found)


class TextMeasuresSettings(RaterSettings):
    """Compression, lexical diversity, reading ease, repeated 4-grams and lines."""

    kind: Literal["measures"] = "measures"
    lang: str | None = Field(None, description="the language of documents that name none, such as en")

    def rater(self, name: str, fitting: Fitting) -> TextMeasures:
        """They need no fitting; the columns have fixed names."""
        return TextMeasures(self.lang)
