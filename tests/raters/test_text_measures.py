"""The further measures: golden values, equality with the plain-Python definition on any text, languages, refusals."""

import json
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus.errors import EnvironmentProblem, SchemaError
from corpus.fingerprints import fingerprint
from raters.base import checked_rate, counts_of
from raters.languages import english, without_blanks
from raters.signals import SIGNALS, NaturalSignals
from raters.signals import rate as rate_signals
from raters.text import measures_kernel, measures_reference
from raters.text.measures_reference import (
    WINDOW_BYTES,
    compression_ratio,
    duplicate_lines,
    flesch,
    measures,
    mtld,
    sentences,
    syllables,
)
from raters.text_measures import MEASURES, TextMeasures, measure

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
COMPRESSION, MTLD, EASE, TOP_4, DUP_LINES, DUP_LINE_CHARS = range(len(MEASURES))
# Whatever a rule of sentences, lines, words or syllables hangs on.
DELICATE = "aeiouylrwcghsxztdnq .!?\"'”’)]»\n\n\r\t\x85\u2028\u3000ΣéİK№3_\u0301\u0316中\U0001f600"
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
delicate = st.text(st.sampled_from(DELICATE), max_size=60)
repetitive = st.lists(st.sampled_from(["the", "cat", "sat.", "table", "\n", "\n\n", "The cat sat."]), max_size=60).map(
    " ".join
)
spelled = st.text(st.sampled_from("aeiouybcdghlnqrstwxz"), min_size=1, max_size=9)


def expected(texts: list[str | None]) -> pa.RecordBatch:
    rows = [(None,) * len(MEASURES) if text is None else measures(text) for text in texts]
    return pa.record_batch(
        [pa.array([row[i] for row in rows], pa.float32()) for i in range(len(MEASURES))],
        names=[score.name for score in MEASURES],
    )


def value(text: str, column: int) -> float | None:
    return measure(pa.array([text])).column(column)[0].as_py()


@pytest.mark.parametrize(
    ("letters", "words"), [("abababab", 4.0), ("abcabdabe", 9.0), ("aaaaaaaa", 2.0), ("abcd", 4.0), ("a", 1.0)]
)
def test_mtld_golden_values(letters: str, words: float) -> None:
    assert mtld(list(letters)) == pytest.approx(words, abs=1e-12)
    assert value(" ".join(letters), MTLD) == words


def test_compression_golden_values() -> None:
    assert compression_ratio("a" * 1000) == 17 / 1000
    assert compression_ratio("the cat sat on the mat. " * 50) == 40 / 1200
    assert value("a" * 1000, COMPRESSION) == np.float32(0.017)
    assert value("the cat sat on the mat. " * 50, COMPRESSION) == np.float32(40 / 1200)


def test_compression_windows_are_full_and_reach_both_ends() -> None:
    noise = np.random.default_rng(0).bytes(3 * WINDOW_BYTES).hex()
    text = noise[: WINDOW_BYTES + 1000]
    first, last = text[:WINDOW_BYTES], text[-WINDOW_BYTES:]
    sizes = [len(zlib.compress(window.encode(), 6)) for window in (first, last)]
    assert compression_ratio(text) == sum(sizes) / (2 * WINDOW_BYTES)
    assert value(text, COMPRESSION) == np.float32(sum(sizes) / (2 * WINDOW_BYTES))
    # A long text of one kind has the ratio of its first window, whatever its length.
    assert value(noise, COMPRESSION) == pytest.approx(value(first, COMPRESSION), rel=0.01)


def test_reading_ease_golden_value_and_bounds() -> None:
    assert flesch(100, 5, 130) == pytest.approx(76.555, abs=1e-12)
    assert measures_kernel.flesch(100, 5, 130) == flesch(100, 5, 130)
    assert flesch(500, 1, 900) == -100.0
    assert value("Go.", EASE) == np.float32(121.22)
    assert value("the cat " * 200, EASE) == -100.0


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("The cat sat. The cat ran!", 2),
        ("It weighs 3.14 kg, see www.example.org.", 1),
        ('"Is it?" he said. (Yes.) Well …', 4),
        ("A heading\n\nIts paragraph\nin two lines", 2),
        ("... !? 12. 34.", 0),
        ("Wait...what?!", 1),
        ("No end", 1),
        ("one\r\n\r\ntwo", 2),
    ],
)
def test_sentences(text: str, n: int) -> None:
    assert sentences(text) == n


@pytest.mark.parametrize(
    ("words", "n"),
    [
        ("the be cat strength makes walked whale belle", 1),
        ("table tables handled boxes wanted being nation", 2),
        ("media period usual beautiful completed", 3),
        ("january", 4),
        ("individual", 5),
    ],
)
def test_syllables(words: str, n: int) -> None:
    assert [syllables(word) for word in words.split()] == [n] * len(words.split())


@given(spelled)
@settings(max_examples=300)
def test_compiled_syllables_equal_the_rules(word: str) -> None:
    assert value(word, EASE) == np.float32(flesch(1, 1, syllables(word)))


def test_duplicate_lines_by_hand() -> None:
    text = "\n menu\nhome\nmenu\n\nhome\nhome\n"
    assert duplicate_lines(text) == (3 / 5, 12 / 25)
    assert value(text, DUP_LINES) == np.float32(3 / 5)
    assert value(text, DUP_LINE_CHARS) == np.float32(12 / 25)


def test_top_4gram_by_hand() -> None:
    assert value("a b c d x a b c d", TOP_4) == np.float32(8 / 9)
    assert value("a b c d e f g h i", TOP_4) == 0.0


def test_a_text_of_nothing_is_null() -> None:
    rated = measure(pa.array(["", None, " \n ", "... !!"], pa.string()))
    assert [column.is_valid().to_pylist() for column in rated.columns] == [
        [False, False, True, True],  # blanks have bytes to compress
        [False, False, False, False],
        [False, False, False, False],
        [False, False, False, False],
        [False, False, False, True],  # marks are a line
        [False, False, False, True],
    ]
    assert measure(pa.array([], pa.string())).num_rows == 0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), anything, delicate, repetitive), max_size=8))
@example(["a.\n\nb", 'a."\u2028b', "a.)'x. y", "\n\n\n", "x\n\nx\n\n\nx", "ΑΣ ΑΣ"])
def test_compiled_equals_definition(texts: list[str | None]) -> None:
    assert measure(pa.array(texts, pa.string())).equals(expected(texts))


@given(st.lists(st.one_of(st.none(), delicate), min_size=1, max_size=8), st.data())
@settings(max_examples=50, deadline=None)
def test_slices_chunks_and_wide_offsets_change_nothing(texts: list[str | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    array = pa.array(texts, pa.string())
    whole = measure(array)
    assert measure(array.slice(cut)).equals(whole.slice(cut))
    assert measure(pa.chunked_array([array.slice(0, cut), array.slice(cut)])).equals(whole)
    assert measure(array.cast(pa.large_string())).equals(whole)


def test_real_pages() -> None:
    if not DEMO.exists():
        pytest.skip(f"the demo pages are not at {DEMO}")
    texts = [json.loads(line)["text"] for line in DEMO.open(encoding="utf-8")]
    rated = measure(pa.array(texts))
    assert rated.equals(expected(texts))
    for column, score in zip(rated.columns, MEASURES, strict=True):
        values = column.drop_null().to_numpy()
        assert values.min() >= score.low
        assert values.max() <= (score.high or np.inf)


@pytest.mark.parametrize(
    "text",
    ["." * 30_000, "a" + "\u0301\u0316" * 3_000, "a " * 20_000, "\n" * 20_000, "x" * 50_000, "é\n" * 9_000],
    ids=["dots", "marks", "one word", "newlines", "no blank", "one line"],
)
def test_extreme_documents(text: str) -> None:
    assert measure(pa.array([text])).equals(expected([text]))


def test_whatever_becomes_a_letter_a_to_z_is_a_letter() -> None:
    """So a text with a word for the reading ease has a sentence, and its formula no division by zero."""
    for point in range(sys.maxunicode + 1):
        folded = unicodedata.normalize("NFD", chr(point).lower())
        assert chr(point).isalpha() or not any("a" <= c <= "z" for c in folded)


def test_broken_arrays_are_refused() -> None:
    with pytest.raises(SchemaError, match="string"):
        measure(pa.array([1, 2]))


LANGS = ["en", "zh-Hant", None, "de", "JA", "zho_Hans", "en-GB"]
BATCH = pa.record_batch(
    {
        "id": [str(i) for i in range(len(LANGS))],
        "text": ["The cat saw the cat and the dog saw it."] * len(LANGS),
        "lang": pa.array(LANGS, pa.string()),
    }
)


def test_languages_are_read_by_their_first_part() -> None:
    langs = BATCH.column("lang")
    assert without_blanks(langs).tolist() == [False, True, False, False, True, True, False]
    assert english(langs).tolist() == [True, False, False, False, False, False, True]
    assert without_blanks(langs.dictionary_encode()).tolist() == without_blanks(langs).tolist()
    assert english(pa.nulls(2)).tolist() == without_blanks(pa.nulls(2)).tolist() == [False, False]


def test_measures_of_words_are_null_without_blanks_and_reading_ease_outside_english() -> None:
    rated = checked_rate(TextMeasures(), BATCH)
    parted = [True, False, True, True, False, False, True]
    assert rated.column(MTLD).is_valid().to_pylist() == parted
    assert rated.column(TOP_4).is_valid().to_pylist() == parted
    assert rated.column(EASE).is_valid().to_pylist() == [lang in ("en", "en-GB") for lang in LANGS]
    for column in (COMPRESSION, DUP_LINES, DUP_LINE_CHARS):
        assert rated.column(column).null_count == 0
    assert counts_of(rated) == {"no blanks between words": 3, "not English": 5}


def test_a_language_can_be_assumed_where_none_is_named() -> None:
    rated = checked_rate(TextMeasures(lang="en"), BATCH)
    assert rated.column(EASE).is_valid().to_pylist() == [lang in ("en", "en-GB", None) for lang in LANGS]
    assert TextMeasures("en").identity() != TextMeasures().identity()


def test_texts_without_repetition_are_counted() -> None:
    batch = pa.record_batch({"id": ["a", "b"], "text": ["all words differ", "all words, all"], "lang": ["en", "en"]})
    assert counts_of(checked_rate(TextMeasures(), batch)) == {"no word occurs twice": 1}


def test_another_zlib_is_another_identity_and_is_refused() -> None:
    other = TextMeasures(zlib_version="0.9")
    assert fingerprint(other.identity()) != fingerprint(TextMeasures().identity())
    with pytest.raises(EnvironmentProblem, match="another zlib"):
        other.rate(BATCH)


def test_natural_signals_are_null_without_blanks() -> None:
    rated = checked_rate(NaturalSignals(), BATCH)
    whole = rate_signals(BATCH.column("text"))
    parted = np.flatnonzero(~without_blanks(BATCH.column("lang")))
    for i in range(len(SIGNALS)):
        assert rated.column(i).null_count == 3
        assert rated.column(i).take(parted).equals(whole.column(i).take(parted))
    assert counts_of(rated) == {"no blanks between words": 3}
    assert counts_of(checked_rate(NaturalSignals(), BATCH.slice(2, 2))) == {}


def test_the_window_of_the_definition_is_the_one_that_is_used() -> None:
    assert (measures_reference.WINDOW_BYTES, measures_reference.LEVEL) == (4096, 6)
