"""The signals behind the Gopher, C4 and FineWeb filters, once per document; the rules on them are data.

Definitions follow datatrove 0.10.1 (huggingface/datatrove, Apache-2.0), class defaults, English. All rules read one
compiled pass that makes words once, where the filters tokenise again in each. Words come from a compiled form of
spaCy's English rules that differs on emoticons built from several tokens; `benchmarks/filters.py` measures how
often a decision differs. Thresholds stand in pipelines/rules/*.yaml.

Run it:  gradatim run recipe.yaml    with the stage {filter: gopher}, {filter: c4} or {filter: fineweb}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.errors import ConfigError
from corpus.scores import Score

COUNTS = frozenset(
    {
        "n_chars",
        "gopher_n_words",
        "gopher_stop_words",
        "c4_lorem_ipsum_lines",
        "c4_curly_bracket_lines",
        "c4_n_sentences",
        "fineweb_n_lines",
    }
)
"""The int32 columns of `signals`; all others are float32 shares, ratios and means."""


@dataclass(frozen=True)
class Rule:
    """One filter rule: a document fails if its signal lies outside [min, max]; the ends are allowed values.

    Args:
        reason: what is recorded for a dropped document.
        signal: a column of `signals`.
        min, max: bounds; None where there is none. At least one is set.
        source: where the rule comes from.
    """

    reason: str
    signal: str
    min: float | None = None
    max: float | None = None
    source: str = ""


def signals(texts: pa.Array | pa.ChunkedArray) -> pa.RecordBatch:
    """The filter signals of every text.

    Args:
        texts: n strings; slices, nulls and chunks are fine and do not change a value.

    Returns:
        n rows: the columns of COUNTS as int32, the others as float32. Null where the text is null or the value is
        undefined (no words, no lines); a null never fails a rule. Columns:
        n_chars: characters. gopher_n_words: words that are not all symbols; _mean_word_length: of these;
        _hash_ratio, _ellipsis_ratio: "#" and ellipses over words; _bullet_line_frac, _ellipsis_line_frac: lines
        that start so or end so; _alpha_word_frac: words with a letter; _stop_words: how many of eight occur.
        gopher_dup_*_frac, _top_*, _dup_*gram_char_frac: repetition, shares of pieces or of characters.
        c4_*: on the lines that C4 would keep. fineweb_n_lines: lines that are not blank; _line_punct_frac: that end
        in a mark; _short_line_frac: of at most 30 characters; _char_dup_frac: characters in repeated lines;
        _newline_word_ratio: newlines over words.

    Raises:
        SchemaError: `texts` holds no strings, or broken offsets or UTF-8.
    """
    from raters.text.arrow import chunks_of, longest
    from raters.text.compiled import drop_stale_cache
    from raters.text.english_tables import english
    from raters.text.filter_kernel import COLUMNS, filter_signals_of

    drop_stale_cache()
    parts = [filter_signals_of(*chunk, longest(chunk), english()) for chunk in chunks_of(texts)]
    values = np.concatenate([np.empty((0, len(COLUMNS))), *parts])
    columns = []
    for name, column in zip(COLUMNS, values.T, strict=True):
        missing = np.isnan(column)
        kind = np.int32 if name in COUNTS else np.float32
        columns.append(pa.array(np.where(missing, 0, column).astype(kind), mask=missing))
    return pa.record_batch(columns, names=list(COLUMNS))


def first_failure(batch: pa.RecordBatch, rules: Sequence[Rule]) -> pa.StringArray:
    """The reason of the first rule that each row fails, in the order of `rules`; null for a row that passes them all.

    Bounds are compared in the column's own type, so a share of exactly 1/10 does not exceed 0.1.

    Raises:
        ConfigError: a rule names a signal the batch does not have.
    """
    reasons = np.full(batch.num_rows, None, dtype=object)
    kept = np.ones(batch.num_rows, np.bool_)
    for rule in rules:
        if rule.signal not in batch.schema.names:
            raise ConfigError(
                f"the filter rule {rule.reason!r} reads an unknown signal {rule.signal!r}",
                expected="one of " + ", ".join(batch.schema.names),
                fix="correct `signal` in the rule file",
            )
        column = batch.column(rule.signal)
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        fails = np.zeros(batch.num_rows, np.bool_)
        if rule.min is not None:
            fails |= values < _as(rule.min, values.dtype)
        if rule.max is not None:
            fails |= values > _as(rule.max, values.dtype)
        fails &= np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
        reasons[fails & kept] = rule.reason
        kept &= ~fails
    return pa.array(reasons, pa.string())


def _as(bound: float, kind: np.dtype) -> np.floating:
    """A bound for float32 values is rounded to float32; one for counts stays a double, which holds int32 exactly."""
    return np.float32(bound) if kind == np.float32 else np.float64(bound)


@dataclass(frozen=True)
class FilterSignals:
    """The columns behind the Gopher, C4 and FineWeb rule sets as a rater; whether they are good is the rules' say."""

    version: int = 1

    @property
    def scores(self) -> tuple[Score, ...]:
        """One open-ended column a signal."""
        from raters.text.filter_kernel import COLUMNS

        return tuple(Score(name, None, None, "middle", "a filter signal") for name in COLUMNS)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The rater's name and the version of its definitions."""
        return {"rater": "filter_signals", "version": self.version}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Measure n documents. Counts become float32, exact up to 2^24: more than any document a reader lets in."""
        measured = signals(batch.column("text"))
        columns = [column.cast(pa.float32()) for column in measured.columns]
        return pa.record_batch(columns, names=measured.schema.names)
