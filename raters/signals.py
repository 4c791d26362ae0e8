"""Rate documents by the eleven natural-language signals of Meta-rater: counts, shares and an entropy of words.

They are RedPajama's rule-based signals (arXiv 2504.14194 uses eleven of them among its 25 scores), computed by one
compiled pass over Arrow's UTF-8 buffer and equal, digit for digit, to their definition in plain Python
(`raters.text.reference`) on any Unicode text. Four of them follow the length of a document closely (words,
sentences, entropy, unique words): report the length shift of any selection that uses them. Words, sentences and
terminal marks are those of languages with blanks between words; the rater leaves documents of others unscored.

Run it:  gradatim rate corpus/web --rater signals
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.scores import Score
from raters.base import Fitting, RaterSettings, with_counts
from raters.languages import NO_BLANKS, without_blanks

_share = partial(Score, low=0.0, high=1.0)
_open = partial(Score, low=0.0, high=None)

SIGNALS: tuple[Score, ...] = (
    _open("rps_doc_unigram_entropy", better="middle", description="entropy of the words, in nats; grows with length"),
    _share("rps_doc_frac_no_alph_words", better="middle", description="share of raw tokens without a letter a-z"),
    _share("rps_lines_uppercase_letter_fraction", better="low", description="uppercase share, mean over lines"),
    _open("rps_doc_mean_word_length", better="middle", description="mean characters (NFD) of a word"),
    _open("rps_doc_frac_chars_top_2gram", better="low", description="characters in the most frequent word pair"),
    _open("rps_doc_word_count", better="high", description="number of words"),
    _open("rps_doc_frac_chars_top_3gram", better="low", description="characters in the most frequent word triple"),
    _open("rps_doc_num_sentences", better="high", description="number of sentences"),
    _share("rps_lines_numerical_chars_fraction", better="low", description="numeric share, mean over lines"),
    _share("rps_doc_frac_unique_words", better="middle", description="distinct words over words; falls with length"),
    _share(
        "rps_lines_ending_with_terminal_punctution_mark",
        better="high",
        description="share of lines that end in . ! ? or a closing quote",
    ),
)
"""The columns of `rate`, in order. The top n-gram shares can exceed 1, because repeats may overlap."""

_DIGITS = 8
_ROUNDED = (0, 1, 3, 4, 6, 9)
"""Document values that the definition rounds; counts need no rounding, line means are rounded per line."""


def rate(texts: pa.Array | pa.ChunkedArray) -> pa.RecordBatch:
    """The signals of every text.

    Args:
        texts: n strings; slices, nulls and chunks are fine and do not change a value.

    Returns:
        n rows of float32, one column per entry of SIGNALS. Null where the text is null or the signal is
        undefined: entropy, mean length and unique share without words, the no-letter share without raw tokens,
        line signals without lines.

    Raises:
        SchemaError: `texts` holds no strings, or broken offsets or UTF-8.
    """
    from raters.text.arrow import chunks_of, longest
    from raters.text.compiled import drop_stale_cache
    from raters.text.signal_kernel import signals_of
    from raters.text.unicode_tables import tables

    drop_stale_cache()
    parts = [signals_of(*chunk, longest(chunk), tables()) for chunk in chunks_of(texts)]
    values = np.concatenate([np.empty((0, len(SIGNALS))), *parts])
    for column in _ROUNDED:
        values[:, column] = rounded(values[:, column])
    columns = [pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in values.T]
    return pa.record_batch(columns, names=[score.name for score in SIGNALS])


@dataclass(frozen=True)
class NaturalSignals:
    """The eleven natural-language signals of Meta-rater (arXiv 2504.14194) as a rater."""

    version: int = 2

    @property
    def scores(self) -> tuple[Score, ...]:
        """The eleven definitions of `SIGNALS`."""
        return SIGNALS

    @property
    def needs(self) -> tuple[str, ...]:
        """The text and its language."""
        return ("text", "lang")

    def identity(self) -> dict[str, Any]:
        """The rater's name and the version of its definitions."""
        return {"rater": "natural_signals", "version": self.version}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null where a signal is undefined, as in the function `rate`.

        All are null, and the document is counted, where `lang` names a language without blanks between words. A
        null `lang` names none.
        """
        texts, unparted = batch.column("text"), without_blanks(batch.column("lang"))
        if not unparted.any():
            return rate(texts)
        rated = rate(pc.if_else(pa.array(~unparted), texts, None))
        return with_counts(rated, {NO_BLANKS: int(unparted.sum())})


class SignalsSettings(RaterSettings):
    """The eleven natural-language signals of Meta-rater."""

    kind: Literal["signals"] = "signals"

    def rater(self, name: str, fitting: Fitting) -> NaturalSignals:
        """They need no fitting and no settings; the columns have their published names."""
        return NaturalSignals()


def rounded(values: np.ndarray, digits: int = _DIGITS) -> np.ndarray:
    """Python's `round` on every value, exactly; NaN stays NaN.

    Away from a tie, rint(x * 10**digits) / 10**digits is the double nearest to the rounded decimal, because both
    operands of that division are exact. Values within 0.001 of a tie, or too large for that margin, go to `round`.
    """
    scale = 10.0**digits
    scaled = values * scale
    result = np.rint(scaled) / scale
    near_tie = (np.abs(np.abs(scaled - np.floor(scaled)) - 0.5) < 1e-3) | (np.abs(scaled) > 1e12)
    for i in np.flatnonzero(near_tie):
        result[i] = round(float(values[i]), digits)
    return result
